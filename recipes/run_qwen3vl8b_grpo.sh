#!/usr/bin/env bash
# GRPO, the baseline: AXPO with a budget of zero, which is GRPO bit for bit, on Qwen3-VL-8B after SFT:
# outputs/data/rl_8b/ + outputs/qwen3vl_8b/sft/checkpoint -> outputs/qwen3vl_8b/grpo/{checkpoint,report.md,trace}
#
#   bash recipes/run_qwen3vl8b_grpo.sh
#   DRY_RUN=1 bash recipes/run_qwen3vl8b_grpo.sh   check everything without a GPU, start nothing
#   bash recipes/run_qwen3vl8b_grpo.sh actor_rollout_ref.rollout.n=16   any override of verl's main_ppo
#
# Needs: 8 GPUs of 80 GB;
# the SFT checkpoint (recipes/run_qwen3vl8b_sft.sh) and the RL set (MODEL=8b bash recipes/make_data.sh rl).
# Disk: 281 GB for two checkpoints, 421 GB once interrupted: the one it goes on from stays beside them.
# Host memory: about 319 GiB, most of it the images of a step; the plan has the terms.
# Keys: TAVILY_API_KEY of a plan with room for SEARCH_CALLS (SEARCH_KEY= leaves the search tool out, as it then should
# for data and SFT); WANDB_API_KEY logs to wandb; a judge by JUDGE_URL, JUDGE_MODEL and OPENAI_API_KEY.
# Time: docs/reproduce.md, "What it costs" (estimates). Interrupted, the same command goes on from the last checkpoint.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-8b}          # tiny: the same on a machine without an accelerator
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
stages() { rl_stage grpo "$@"; }
run_recipe stages "$@"
