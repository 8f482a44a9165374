#!/usr/bin/env bash
# AXPO on Qwen3-VL-4B after SFT:
# outputs/data/rl_4b/ + outputs/qwen3vl_4b/sft/checkpoint -> outputs/qwen3vl_4b/axpo/{checkpoint,report.md,trace}
#
#   bash recipes/run_qwen3vl4b_axpo.sh
#   DRY_RUN=1 bash recipes/run_qwen3vl4b_axpo.sh   check everything without a GPU, start nothing
#   bash recipes/run_qwen3vl4b_axpo.sh algorithm.axpo.num_continuations=8   any override of verl's main_ppo
#
# Needs: 1 or 8 GPUs of 80 GB (GPUS=1: the same settings, smaller micro-batches);
# the SFT checkpoint (recipes/run_qwen3vl4b_sft.sh) and the RL set (MODEL=4b bash recipes/make_data.sh rl).
# Disk: 142 GB for two checkpoints, 213 GB once interrupted: the one it goes on from stays beside them.
# Host memory: about 371 GiB (437 with GPUS=1), most of it the images of a step; the plan has the terms.
# Keys: TAVILY_API_KEY of a plan with room for SEARCH_CALLS (SEARCH_KEY= leaves the search tool out, as it then should
# for data and SFT); WANDB_API_KEY logs to wandb; a judge by JUDGE_URL, JUDGE_MODEL and OPENAI_API_KEY.
# Time: docs/reproduce.md, "What it costs" (estimates). Interrupted, the same command goes on from the last checkpoint.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-4b}          # tiny: the same on a machine without an accelerator
GPUS=${GPUS:-8}             # of a node
SEED=${SEED:-0}             # the order of the questions
LR=${LR:-}                  # empty: the default of recipes/common.sh, as on every empty line here
BATCH=${BATCH:-}            # questions of a step
MINI_BATCH=${MINI_BATCH:-}  # questions of an update
STEPS=${STEPS:-}            # RL steps; null: one pass over the RL set
SEARCH_CALLS=${SEARCH_CALLS:-50000} # paid searches at most; the plan shows how many it expects
RL_FILE=${RL_FILE:-}        # parquet in verl's RL schema
SFT_MODEL=${SFT_MODEL:-}    # where RL starts, and what its KL is to
NODES=${NODES:-}            # of the Ray cluster at RAY_ADDRESS; empty: this node alone

# ------------------------------ launch ------------------------------
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
stages() { rl_stage axpo "$@"; }
run_recipe stages "$@"
