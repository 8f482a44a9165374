#!/usr/bin/env bash
# The paper's data: four sources -> de-duplicated problems -> the teacher's attempts -> SFT set; with `rl`, once the SFT
# model is there, its attempts -> the RL set of its size.
#
#   bash recipes/make_data.sh                sources, trajectories, outputs/data/sft/
#   MODEL=8b bash recipes/make_data.sh rl    outputs/data/rl_8b/, after run_qwen3vl8b_sft.sh
#   TEACHER_URL=http://host:8000/v1 bash recipes/make_data.sh     with a teacher that is served elsewhere
#
# Needs: 2 GPUs of 80 GB or more for the teacher (GPUS, all of this node are used), 450 GB of disk (estimate), Hugging
# Face, TAVILY_API_KEY of a plan with room for SEARCH_CALLS (SEARCH_KEY= leaves the search tool out). Time on 8 A100
# (estimates, arithmetic in docs/reproduce.md, "What it costs"): 61 hours, `rl` 20. Every stage resumes.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-8b}           # whose RL set
GPUS=${GPUS:-8}              # of this node
TEACHER_URL=${TEACHER_URL:-} # of a server that runs the teacher already; empty: served here, on all GPUs, with
TEACHER_TP=${TEACHER_TP:-2}  # of them for a replica: its weights are 66 GB
SEARCH_CALLS=${SEARCH_CALLS:-50000} # paid searches of each stage at most; the plan shows how many it expects
JUDGE_URL=${JUDGE_URL:-}     # of the judge, OpenAI-compatible, with its
JUDGE_MODEL=${JUDGE_MODEL:-} # name; the key is in OPENAI_API_KEY
DATA=${DATA:-}               # empty: outputs/data

# ------------------------------ launch ------------------------------
WHAT=${1:-sft}
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
case $WHAT in
  sft) run_recipe sft_data_stages ;;
  rl) run_recipe rl_data_stages ;;
  *) fail "got '$WHAT'" "bash recipes/make_data.sh, or bash recipes/make_data.sh rl" ;;
esac
