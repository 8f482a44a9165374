#!/usr/bin/env bash
# RL from the SFT model: $SFT_MODEL + $DATA/rl_$MODEL/ -> $OUT/$ARM/{checkpoint,report.html,trace}
#
#   MODEL=8b bash recipes/rl.sh
#   MODEL=8b ARM=grpo SEED=1 OUT=outputs/other bash recipes/rl.sh
#   MODEL=8b bash recipes/rl.sh algorithm.axpo.num_continuations=8   any override of verl's main_ppo
#   RAY_ADDRESS=auto bash recipes/rl.sh trainer.nnodes=4             on an existing Ray cluster
#   DRY_RUN=1 MODEL=4b bash recipes/rl.sh                            check and print the command, start nothing
#
# Settings and their reasons: verl_axpo/integration/config/{axpo_trainer,qwen3vl_rl,tiny_rl}.yaml. Needs $GPUS GPUs of 80 GB
# and TAVILY_API_KEY (or TOOLS=verl_axpo/tools/config/no_search.yaml). After an interruption, the same command continues.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# ------------------------------ yours to adjust ------------------------------
ARM=${ARM:-axpo}                          # axpo | grpo
SEED=${SEED:-0}                           # the order of the questions; in the tiny world also every sampling request
STEPS=${STEPS:-}                          # RL steps; empty: as the config says, or 2 with MODEL=tiny FAST=1
SFT_MODEL=${SFT_MODEL:-$OUT/sft/checkpoint} # where RL starts, and what its KL is to
RUN=${RUN:-$OUT/$ARM}                     # the run's folder

# ------------------------------ derived ------------------------------
case $ARM in
  axpo) budget=0.25 ;;
  grpo) budget=0 ;; # AXPO is then GRPO, bit for bit (tests/e2e/test_identity.py), and leaves the same metrics and trace
  *) echo "[recipe] ARM=$ARM is unknown; use ARM=axpo or ARM=grpo" >&2 && exit 2 ;;
esac
options=("${reward_judge[@]}")
if [ "$MODEL${FAST:-}" = tiny1 ]; then STEPS=${STEPS:-2} options+=(trainer.save_freq=1); fi
if [ -n "$STEPS" ]; then options+=(trainer.total_training_steps="$STEPS" trainer.total_epochs=1000); fi
if [ "$FAMILY$GPUS" = qwen3vl1 ]; then options+=(+machine=one_gpu); fi
if [ "$MODEL$GPUS" = 2b1 ]; then options+=(actor_rollout_ref.actor.fsdp_config.offload_policy=False); fi # it fits
if [ -n "${RAY_ADDRESS:-}" ]; then # a cluster that runs already does not have our environment
  for name in VERL_FILE_LOGGER_PATH="$RUN/metrics_$(date +%s).jsonl" SEARCH_RUN="$RUN" SEARCH_CALLS="'$SEARCH_CALLS'"; do
    options+=("+ray_kwargs.ray_init.runtime_env.env_vars.$name")
  done
fi
if [ -n "${WANDB_API_KEY:-}" ]; then options+=(trainer.logger='[console,file,wandb]'); fi

# ------------------------------ launch ------------------------------
run "$ARM" python -m verl.trainer.main_ppo --config-name "${FAMILY}_rl" \
  actor_rollout_ref.model.path="$SFT_MODEL" \
  actor_rollout_ref.rollout.multi_turn.tool_config_path="$TOOLS" \
  data.train_files="$DATA/rl_$MODEL/train.parquet" \
  data.val_files="$DATA/rl_$MODEL/val.parquet" \
  data.seed="$SEED" \
  algorithm.axpo.budget="$budget" \
  algorithm.axpo.trace_dir="$RUN/trace" \
  trainer.n_gpus_per_node="$GPUS" \
  trainer.default_local_dir="$RUN/checkpoints" \
  trainer.validation_data_dir="$RUN/heldout" \
  trainer.experiment_name="${ARM}_$MODEL" \
  "${options[@]}" "$@"

if [ "${DRY_RUN:-0}" = 1 ]; then exit; fi
last_model "$RUN/checkpoints" actor/huggingface "$RUN/checkpoint"
verl-axpo report "$RUN" --arm "$ARM" --seed "$SEED"
verl-axpo audit "$RUN"
