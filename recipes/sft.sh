#!/usr/bin/env bash
# SFT on the teacher's trajectories: $DATA/sft/train.parquet -> $OUT/sft/checkpoint, a Hugging Face model.
#
#   MODEL=8b bash recipes/sft.sh
#   MODEL=8b bash recipes/sft.sh data.train_files=mine.parquet optim.lr=2e-5      any override of verl's sft_trainer
#   DRY_RUN=1 MODEL=4b bash recipes/sft.sh                                        check and print the command, start nothing
#
# Settings and their reasons: verl_axpo/integration/config/{qwen3vl,tiny}_sft.yaml. Needs $GPUS GPUS of 80 GB.
# After an interruption, the same command continues from the last checkpoint. verl's sft_trainer has no seed; SEED is RL's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# ------------------------------ yours to adjust ------------------------------
STEPS=${STEPS:-} # updates; empty: as the config says, or 150 with MODEL=tiny FAST=1

# ------------------------------ derived ------------------------------
options=()
if [ "$MODEL${FAST:-}" = tiny1 ]; then STEPS=${STEPS:-150}; fi
if [ -n "$STEPS" ]; then options+=(trainer.total_training_steps="$STEPS" trainer.total_epochs=1000); fi
if [ "$FAMILY$GPUS" = qwen3vl1 ] && [ "$MODEL" != 2b ] && [[ "$*" != *+adapter=* ]]; then
  options+=(engine.offload_policy=True) # all weights, with their gradients and moments, are too large for one
fi
if [ -n "${WANDB_API_KEY:-}" ]; then options+=(trainer.logger='[console,file,wandb]'); fi

if [ -n "${SFT_MODEL:-}" ]; then echo "[recipe] SFT_MODEL=$SFT_MODEL is used as it is" >&2 && exit; fi

# ------------------------------ launch ------------------------------
run sft torchrun --standalone --nnodes=1 --nproc-per-node="$GPUS" -m verl.trainer.sft_trainer \
  --config-name "${FAMILY}_sft" \
  model.path="$BASE_MODEL" \
  data.train_files="$DATA/sft/train.parquet" \
  trainer.n_gpus_per_node="$GPUS" \
  trainer.default_local_dir="$OUT/sft/steps" \
  trainer.experiment_name="sft_$MODEL" \
  "${options[@]}" "$@"

if [ "${DRY_RUN:-0}" != 1 ]; then last_model "$OUT/sft/steps" huggingface "$OUT/sft/checkpoint"; fi
