#!/usr/bin/env bash
# SFT of Qwen3-VL-4B-Thinking on the teacher's trajectories:
# outputs/data/sft/train.parquet -> outputs/qwen3vl_4b/sft/checkpoint
#
#   bash recipes/run_qwen3vl4b_sft.sh
#   DRY_RUN=1 bash recipes/run_qwen3vl4b_sft.sh   check everything without a GPU, start nothing
#   bash recipes/run_qwen3vl4b_sft.sh optim.lr=2e-5   any override of verl's sft_trainer
#
# Needs: 1 or 8 GPUs of 80 GB (GPUS=1: the same settings, smaller micro-batches);
# the SFT set (bash recipes/make_data.sh).
# Disk: 142 GB for two checkpoints, 213 GB once interrupted: the one it goes on from stays beside them.
# Keys: none (WANDB_API_KEY logs to wandb).
# Time: docs/reproduce.md, "What it costs" (estimates). Interrupted, the same command goes on from the last checkpoint.
# No seed: verl's sft_trainer reads none. It shuffles the rows by a fixed one and draws nothing else; SEED is RL's.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-4b}          # tiny: the same on a machine without an accelerator
GPUS=${GPUS:-8}             # of a node
SFT_LR=${SFT_LR:-}          # empty: the default of recipes/common.sh, as on every empty line here
SFT_BATCH=${SFT_BATCH:-}    # rows of an update
SFT_STEPS=${SFT_STEPS:-}    # updates; null: one pass
SFT_FILE=${SFT_FILE:-}      # parquet with a `messages` column

# ------------------------------ launch ------------------------------
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
stages() { sft_stage "$@"; }
run_recipe stages "$@"
