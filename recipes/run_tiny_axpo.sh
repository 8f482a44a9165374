#!/usr/bin/env bash
# AXPO from nothing to a report, on a machine without an accelerator: environment -> tiny world and model -> SFT -> RL ->
# reports. Real verl, vLLM, FSDP2 and Ray; only the model and its world are tiny.
#
#   bash recipes/run_tiny_axpo.sh                                   one AXPO run
#   FAST=1 bash recipes/run_tiny_axpo.sh                            the same in two RL steps
#   COMPARE=grpo,axpo SEED=1 bash recipes/run_tiny_axpo.sh          both arms from one SFT checkpoint, side by side
#   DRY_RUN=1 bash recipes/run_tiny_axpo.sh                         check and print every command, start nothing
#   bash recipes/run_tiny_axpo.sh algorithm.axpo.num_continuations=8   any override of verl's or AXPO's config
#
# Needs: Linux x86_64, Python 3.10-3.12, 2 cores, 12 GB of memory, 12 GB of disk; for its python tool bubblewrap (or
# PYTHON_SANDBOX=sandlock, less closed; with neither FAMILIES=perception,search). Ctrl-C at any time; the same command
# goes on where it stood, and with a larger STEPS it trains further. A healthy run: see recipes/README.md.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
FAST=${FAST:-0}                 # 1: two RL steps, a short SFT; shows that everything works, not that it learns
SEED=${SEED:-0}                 # of RL: order of questions and every sampling request
COMPARE=${COMPARE:-}            # arms to run side by side, e.g. grpo,axpo; empty: AXPO alone
FAMILIES=${FAMILIES:-perception,reasoning,search} # kinds of question, each with its tool
STEPS=${STEPS:-}                # RL steps; empty: 40, or 2 with FAST
OUT=${OUT:-outputs/tiny_axpo$([ "$FAST" = 1 ] && echo _fast || true)}

# ------------------------------ derived ------------------------------
export MODEL=tiny SEED STACK=${STACK:-cpu} # on machines with a GPU too
if [ "$FAST" = 1 ]; then
  size=(--train 128 --heldout 16 --val 8 --sft 1024) sft_steps=150 steps=${STEPS:-2} options=(trainer.save_freq=1)
else
  size=() sft_steps=1200 steps=${STEPS:-40} options=()
fi
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export OUT WORLD=$OUT/world SETUP=0
if [[ $FAMILIES == *reasoning* && ${DRY_RUN:-0} != 1 ]]; then python -m verl_axpo.tools.sandbox; fi # missing: said now
for arm in ${COMPARE//,/ }; do # before anything is trained
  case $arm in axpo | grpo) ;; *) echo "[recipe] COMPARE=$COMPARE: arms are grpo and axpo" >&2 && exit 2 ;; esac
done
questions=()
for family in ${FAMILIES//,/ }; do questions+=(--benchmark "$family" --source "$family=$WORLD"); done

# ------------------------------ launch ------------------------------
run world python -m examples.tiny_world --out "$WORLD" --families "$FAMILIES" "${size[@]}"
STEPS=$sft_steps bash recipes/sft.sh data.train_files="$WORLD/sft_train.parquet"
runs=()
for arm in $(tr , ' ' <<<"${COMPARE:-axpo}"); do
  runs+=("$OUT${COMPARE:+/${arm}_seed$SEED}")
  export RUN=${runs[-1]} SFT_MODEL=$OUT/sft/checkpoint
  ARM=$arm STEPS=$steps bash recipes/rl.sh \
    data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet" "${options[@]}" "$@"
  # The trained policy on vLLM's server, as any model is evaluated, with the settings of the held-out scores
  OUT=$RUN CHECKPOINT=$RUN/checkpoint bash recipes/eval.sh --out "$RUN/eval/step_$steps" \
    --registry examples.tiny_world.benchmark "${questions[@]}" --rollouts 4 --seed "$SEED" --max-turns 3
done
if [ -n "$COMPARE" ] && [ "${DRY_RUN:-0}" != 1 ]; then
  verl-axpo report "${runs[@]}" --out "$OUT/compare_seed$SEED" --title "Tiny world: ${COMPARE//,/ and }, seed $SEED"
fi
if [ "${DRY_RUN:-0}" = 1 ]; then exit; fi
for run in "${runs[@]}"; do echo "[recipe] every rollout, prefix and continuation in a browser: verl-axpo view $run"; done
