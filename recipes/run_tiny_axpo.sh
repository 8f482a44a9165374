#!/usr/bin/env bash
# AXPO from nothing to a report, on a machine without an accelerator: environment -> tiny world and model -> SFT -> RL ->
# report of the training -> `verl-axpo eval` on the held-out questions, its report. Real verl, vLLM, FSDP2 and Ray; only
# the model and its world are tiny.
#
#   bash recipes/run_tiny_axpo.sh                                   one AXPO run
#   FAST=1 bash recipes/run_tiny_axpo.sh                            the same in two RL steps
#   COMPARE=grpo,axpo SEED=1 bash recipes/run_tiny_axpo.sh          both arms from one SFT checkpoint, side by side
#   DRY_RUN=1 bash recipes/run_tiny_axpo.sh                         compose and check, print the stages, start nothing
#   bash recipes/run_tiny_axpo.sh algorithm.axpo.num_continuations=8   any override of verl's or AXPO's config
#
# Needs: Linux x86_64, Python 3.10-3.12, 2 cores, 12 GB of memory, 12 GB of disk; for its python tool bubblewrap
# (or PYTHON_SANDBOX=sandlock, less closed; with neither FAMILIES=perception,search). Ctrl-C at any time; the same command
# goes on where it stood; with a larger STEPS it trains further. A healthy run: see recipes/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ------------------------------ yours to adjust ------------------------------
FAST=${FAST:-0}                 # 1: two RL steps, a short SFT; shows that everything works, not that it learns
SEED=${SEED:-0}                 # of RL: order of questions and every sampling request
COMPARE=${COMPARE:-}            # arms to run side by side, e.g. grpo,axpo; empty: AXPO alone
FAMILIES=${FAMILIES:-perception,reasoning,search} # kinds of question, each with its tool
STEPS=${STEPS:-$([ "$FAST" = 1 ] && echo 2 || echo 40)}
SFT_STEPS=${SFT_STEPS:-$([ "$FAST" = 1 ] && echo 150 || echo 1200)}
SAVE_EVERY=${SAVE_EVERY:-$([ "$FAST" = 1 ] && echo 1 || echo 10)}   # steps between checkpoints
EVALUATE=${EVALUATE:-1}         # 0: without `verl-axpo eval` at the end
OUT=${OUT:-outputs/tiny_axpo$([ "$FAST" = 1 ] && echo _fast || true)}

# ------------------------------ derived ------------------------------
DRY_RUN=${DRY_RUN:-0}
if [ "${SETUP:-1}" = 1 ]; then source recipes/setup_env.sh; fi
OUT=$(realpath -m "$OUT")
if [ "$DRY_RUN" != 1 ]; then
  if [[ $FAMILIES == *reasoning* ]]; then python -m verl_axpo.tools.sandbox; fi # missing: said now, not after the SFT
  mkdir -p "$OUT"
fi
WORLD=$OUT/world
SFT=$OUT/sft
SFT_MODEL=$SFT/checkpoint
if [ "$FAST" = 1 ]; then WORLD_SIZE="--train 128 --heldout 16 --val 8 --sft 1024"; else WORLD_SIZE="--heldout 128"; fi
export HYDRA_FULL_ERROR=1 TOKENIZERS_PARALLELISM=false

quietly() { # quietly TITLE LOG COMMAND...: output to the log, progress and errors to the screen
  local title=$1 log=$2
  shift 2
  python -m verl_axpo.progress --title "$title" --log "$log" -- "$@"
}

once() { # once MARK SETTINGS COMMAND...: skip what an earlier run finished; one with other settings is not touched
  local mark=$1 settings=$2 kept known
  shift 2
  kept=$(dirname "$mark")/.settings
  mkdir -p "$(dirname "$mark")"
  known=$(cat "$kept" 2>/dev/null || echo "$settings")
  if [ "$known" != "$settings" ]; then
    echo "$(dirname "$mark") was made with '$known', this run has '$settings'" >&2
    echo "fix: set OUT to another folder, or remove that one" >&2
    exit 2
  fi
  echo "$settings" >"$kept"
  if [ ! -e "$mark" ]; then
    "$@"
    touch "$mark"
  fi
}

trained() { # trained RUN: the step of the last checkpoint
  cat "$1/checkpoints/latest_checkpointed_iteration.txt" 2>/dev/null || echo 0
}

train() { # train ARM RUN [override...]
  local arm=$1 run=$2 budget
  shift 2
  # With a budget of zero AXPO is GRPO, bit for bit (tests/e2e/test_identity.py), and leaves the same metrics and trace.
  case $arm in
    axpo) budget=0.25 ;;
    grpo) budget=0 ;;
    *) echo "COMPARE: got '$arm', expected arms out of: grpo, axpo" >&2; return 2 ;;
  esac
  if [ "$(trained "$run")" -gt "$STEPS" ]; then
    echo "$run: got STEPS=$STEPS, but it is trained to step $(trained "$run")" >&2
    echo "fix: that many STEPS or more, or another OUT" >&2
    exit 2
  fi
  mkdir -p "$run"
  rm -f "$run/eval/step_$STEPS/.done" # of an earlier policy
  VERL_FILE_LOGGER_PATH=$run/metrics_$(date +%s).jsonl quietly "RL ($arm, seed $SEED, $STEPS steps)" "$run/rl.log" \
    python -m verl.trainer.main_ppo --config-name tiny_axpo hydra.run.dir="$run/hydra" \
    data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet" data.seed="$SEED" \
    actor_rollout_ref.model.path="$SFT_MODEL" actor_rollout_ref.rollout.multi_turn.tool_config_path="$WORLD/tools.yaml" \
    algorithm.axpo.budget="$budget" algorithm.axpo.seed="$SEED" algorithm.axpo.trace_dir="$run/trace" \
    trainer.total_training_steps="$STEPS" trainer.total_epochs=1000 trainer.val_before_train=true \
    trainer.test_freq="$STEPS" trainer.save_freq="$SAVE_EVERY" trainer.max_actor_ckpt_to_keep=1 \
    trainer.default_local_dir="$run/checkpoints" trainer.validation_data_dir="$run/heldout" \
    actor_rollout_ref.actor.checkpoint.save_contents='[model,optimizer,extra,hf_model]' \
    trainer.logger='[file]' trainer.experiment_name="$arm" "$@"
  python -m verl_axpo.report.finish "$run" --arm "$arm" --seed "$SEED" --steps "$STEPS"
}

evaluate() { # evaluate RUN OUT: the trained policy behind vLLM's server, as any model is evaluated
  local run=$1 out=$2 port questions=() family
  if [ "$(trained "$run")" != "$STEPS" ]; then
    echo "evaluation: got STEPS=$STEPS, but the checkpoint that is left is of step $(trained "$run")" >&2
    echo "fix: that many STEPS, or another OUT" >&2
    exit 2
  fi
  for family in ${FAMILIES//,/ }; do questions+=(--benchmark "$family" --source "$family=$WORLD"); done
  bash recipes/export.sh "$run/checkpoints" actor/huggingface "$run/checkpoint"
  port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  # The settings of the held-out scores above: the policy that was trained, as it is
  quietly "evaluation of step $STEPS" "$run/eval.log" \
    env SERVE_ON=cpu GPUS=1 LENGTH=512 PORT="$port" LOG="$run/server.log" bash recipes/serve.sh "$run/checkpoint" -- \
    verl-axpo eval run --model "$run/checkpoint" --base-url "http://127.0.0.1:$port/v1" --out "$out" \
    --registry verl_axpo.data.tiny.benchmark "${questions[@]}" --tools "$WORLD/tools.yaml" --rollouts 4 --seed "$SEED" \
    --temperature 1.0 --top-p 1.0 --top-k 0 --presence-penalty 0 --max-turns 3 --response-tokens 128 \
    --tool-response-chars 256
  verl-axpo eval report "$out" --title "Tiny world: held-out questions, step $STEPS"
}

plan() { # plan [override...]: the stages, a line each, as verl_axpo/preflight/stages.py reads them
  local arm run
  line() { printf '%q ' "$@" && echo; }
  line name=world makes="$WORLD" -- python -m verl_axpo.data.tiny
  line name=sft needs="$WORLD" makes="$SFT" -- bash recipes/tiny_sft.sh
  for arm in $(tr , ' ' <<<"${COMPARE:-axpo}"); do
    run=$OUT${COMPARE:+/${arm}_seed$SEED}
    line name="rl_$arm" kind=rl makes="$run" base=tiny -- python -m verl.trainer.main_ppo --config-name tiny_axpo \
      data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet" \
      actor_rollout_ref.model.path="$SFT_MODEL" \
      actor_rollout_ref.rollout.multi_turn.tool_config_path="$WORLD/tools.yaml" \
      trainer.total_training_steps="$STEPS" trainer.save_freq="$SAVE_EVERY" "$@"
    if [ "$EVALUATE" = 1 ]; then line name="eval_$arm" needs="$run" -- verl-axpo eval run; fi
  done
}

# ------------------------------ launch ------------------------------
for arm in ${COMPARE//,/ }; do # before anything is trained
  case $arm in axpo | grpo) ;; *) echo "COMPARE: got '$arm', expected arms out of: grpo, axpo" >&2 && exit 2 ;; esac
done
if [ "$DRY_RUN" = 1 ]; then
  python -W ignore -m verl_axpo.preflight <(plan "$@")
  exit
fi
# shellcheck disable=SC2086 # WORLD_SIZE is several words
once "$WORLD/.done" "$FAMILIES $WORLD_SIZE" quietly "tiny world and model" "$OUT/world.log" \
  python -m verl_axpo.data.tiny --out "$WORLD" --families "$FAMILIES" $WORLD_SIZE
once "$SFT/.done" "STEPS=$SFT_STEPS" env STEPS="$SFT_STEPS" DATA="$WORLD" OUT="$SFT" bash recipes/tiny_sft.sh
if [ -z "$COMPARE" ]; then
  once "$OUT/.done_$STEPS" "axpo SEED=$SEED $*" train axpo "$OUT" "$@"
  verl-axpo report "$OUT"
  runs=("$OUT")
else
  runs=()
  for arm in ${COMPARE//,/ }; do
    runs+=("$OUT/${arm}_seed$SEED")
    once "${runs[-1]}/.done_$STEPS" "$arm SEED=$SEED $*" train "$arm" "${runs[-1]}" "$@"
  done
  verl-axpo report "${runs[@]}" --out "$OUT/compare_seed$SEED" --title "Tiny world: ${COMPARE//,/ and }, seed $SEED"
fi
audited=0 # the exit status: a difference is no reason to go without report and evaluation
for run in "${runs[@]}"; do verl-axpo audit "$run" || audited=$?; done
if [ "$EVALUATE" = 1 ]; then
  for run in "${runs[@]}"; do
    once "$run/eval/step_$STEPS/.done" "$FAMILIES SEED=$SEED" evaluate "$run" "$run/eval/step_$STEPS"
  done
fi
exit "$audited"
