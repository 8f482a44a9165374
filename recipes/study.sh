#!/usr/bin/env bash
# The paper's comparison in the frozen tiny world: arms x seeds from one SFT model, one row each in docs/study/runs.jsonl.
#
#   bash recipes/study.sh                                 whatever is missing, the five-seed arms first
#   bash recipes/study.sh 0,1 grpo,axpo                   only these seeds, only these arms
#   OUT=outputs/study bash recipes/study.sh               where the trainings go
#   bash recipes/study.sh 0 axpo docs/study/misread_0.5/runs.jsonl   other rows, of a world of your own in $OUT/world
#   DRY_RUN=1 bash recipes/study.sh                       check and print every command, start nothing
#
# All start from sft.safetensors next to the rows, or without it from an SFT that is made first. An arm whose row is there is
# not run again. Killed at any time, the same command goes on; the run that was killed starts anew. The first arm of a seed,
# grpo, also validates before training: that is the row "sft". A run whose audit finds a difference stops the study.
# `verl-axpo study report` makes the page and its plots of the rows alone.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
five_seeds=(grpo axpo grpo_n10 grpo_2x)
three_seeds=(entropy scratch no_tool random no_prefix_credit merged tool_bonus tool_penalty cispo)
seeds=0,1,2,3,4
rows=docs/study/runs.jsonl # the page is made of these

# ------------------------------ derived ------------------------------
export MODEL=tiny STACK=${STACK:-cpu} OUT=${OUT:-outputs/study}
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export OUT WORLD=$OUT/world SETUP=0
mkdir -p "$OUT"
if [ "${1:-}" != --locked ]; then # one study per folder; -o: Ray's processes must not keep the lock
  exec flock -n -o -E 3 "$OUT/study.lock" bash recipes/study.sh --locked "$@"
fi
seeds=${2:-$seeds} arms=${3:-} # no arms named: all, the second list for three seeds
rows=${4:-$rows}

settings_of() { # settings_of ARM: what it changes in the recipe's AXPO
  local reward=reward.custom_reward_function.reward_kwargs
  case $1 in
    axpo) ;;
    grpo) echo algorithm.axpo.budget=0 ;;
    grpo_n10) echo algorithm.axpo.budget=0 actor_rollout_ref.rollout.n=10 ;; # +25 %, as many samples as AXPO's budget allows
    grpo_2x) echo algorithm.axpo.budget=0 actor_rollout_ref.rollout.n=16 ;;
    entropy) echo algorithm.axpo.uncertainty=entropy ;;
    scratch) echo algorithm.axpo.prefix=scratch ;;
    no_tool) echo algorithm.axpo.target=no_tool algorithm.axpo.prefix=scratch algorithm.axpo.uncertainty=random ;;
    random) echo algorithm.axpo.uncertainty=random ;;
    no_prefix_credit) echo algorithm.axpo.prefix_credit=false ;;
    merged) echo algorithm.axpo.advantage_group=merged ;;
    # The paper names no amount. With the threshold, "correct" in the metrics is still the answer alone
    tool_bonus) echo algorithm.axpo.budget=0 "+$reward.tool_bonus=0.1" algorithm.axpo.correct_threshold=0.5 ;;
    tool_penalty) echo algorithm.axpo.budget=0 "+$reward.tool_penalty=0.1" algorithm.axpo.correct_threshold=0.5 ;;
    cispo) echo algorithm.axpo.budget=0 actor_rollout_ref.actor.policy_loss.loss_mode=cispo ;;
    *) echo "[study] no arm $1; arms are ${five_seeds[*]} ${three_seeds[*]}" >&2 && return 2 ;;
  esac
}

train() { # train ARM SEED: unless its row is there
  local arm=$1 seed=$2 before=false there=1 settings row
  row=(--seed "$seed" --sft "$SFT_MODEL" --rows "$rows")
  if [ "${DRY_RUN:-0}" != 1 ]; then verl-axpo study has "$arm" "${row[@]}" && there=0 || there=$?; fi
  case $there in 0) return ;; 1) ;; *) exit "$there" ;; esac # 2: the rows cannot be read, or are of another model
  settings=$(settings_of "$arm")
  if [ "$arm" = grpo ]; then before=true; fi
  export RUN=$OUT/runs/${arm}_seed$seed
  if [ "${DRY_RUN:-0}" != 1 ]; then rm -rf "$RUN"; fi # of a start that was killed
  # shellcheck disable=SC2086 # one word per setting
  SEED=$seed ARM=axpo STEPS= FAST= bash recipes/rl.sh data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet" \
    trainer.save_freq=1000000 trainer.val_before_train=$before $settings
  if [ "${DRY_RUN:-0}" = 1 ]; then return; fi
  verl-axpo study add "$RUN" --arm "$arm" "${row[@]}"
}

# ------------------------------ launch ------------------------------
for arm in ${arms//,/ }; do settings_of "$arm" >/dev/null; done # before anything is trained
if [ -e "$(dirname "$rows")/sft.safetensors" ]; then # SFT on another processor may end in another model
  bash examples/tiny_world/start.sh "$(dirname "$rows")/sft.safetensors"
elif [ ! -e "$OUT/calibration.md" ]; then bash examples/tiny_world/calibrate.sh; fi
export SFT_MODEL=$OUT/sft/checkpoint # not before calibrate.sh, which would leave SFT out
for seed in ${seeds//,/ }; do
  for arm in $(tr , ' ' <<<"${arms:-${five_seeds[*]}}"); do train "$arm" "$seed"; done
done
if [ -z "$arms" ]; then
  for seed in $(tr , '\n' <<<"$seeds" | head -n 3); do
    for arm in "${three_seeds[@]}"; do train "$arm" "$seed"; done
  done
fi
if [ "${DRY_RUN:-0}" = 1 ] || [ -n "${4:-}" ]; then exit; fi
verl-axpo study report --rows "$rows" --out "$(dirname "$rows")"
