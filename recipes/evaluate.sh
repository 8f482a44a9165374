#!/usr/bin/env bash
# The nine benchmarks for one model, with the paper's protocol: 4 rollouts a question, temperature 0.7, at most 5 turns.
#
#   MODEL=8b bash recipes/evaluate.sh outputs/qwen3vl_8b/axpo/checkpoint axpo    -> outputs/qwen3vl_8b/eval/axpo/report.md
#   MODEL=8b bash recipes/evaluate.sh Qwen/Qwen3-VL-8B-Thinking base             the table's first row
#
# Needs: the model's GPUs, 30 GB of disk, Hugging Face, TAVILY_API_KEY (SEARCH_KEY= to do without), JUDGE_URL. Resumes.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-8b}              # whose folder the result goes to
GPUS=${GPUS:-8}                 # one replica each
BENCHMARKS=${BENCHMARKS:-}      # empty: all nine
JUDGE_URL=${JUDGE_URL:-}        # of the judge, OpenAI-compatible

# ------------------------------ launch ------------------------------
CHECKPOINT=${1:-} NAME=${2:-}
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ -z "$NAME" ]; then fail "got '$*'" "bash recipes/evaluate.sh CHECKPOINT NAME"; fi
stages() { evaluation_stages "$CHECKPOINT" "$NAME"; }
run_recipe stages
