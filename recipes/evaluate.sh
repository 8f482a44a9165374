#!/usr/bin/env bash
# The nine benchmarks for one model, with the paper's protocol: 4 rollouts a question, temperature 0.7, at most 5 turns.
#
#   bash recipes/evaluate.sh outputs/qwen3vl_8b/axpo/checkpoint axpo   -> outputs/qwen3vl_8b/eval/axpo/report.md
#   bash recipes/evaluate.sh Qwen/Qwen3-VL-8B-Thinking base            the table's first row
#   bash recipes/evaluate.sh CHECKPOINT NAME --benchmark vstar         any option of `verl-axpo eval run`
#
# Needs: the model's GPUs, 30 GB of disk, Hugging Face, TAVILY_API_KEY (SEARCH_KEY= leaves the search tool out), a judge.
# Time on 8 A100 (estimate, arithmetic in docs/reproduce.md, "What it costs"): 1.5 hours for 8B. Resumes; rollouts of
# other weights under the same NAME step aside, to outputs/.../eval/NAME.1.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-8b}              # whose folder the result goes to
GPUS=${GPUS:-8}                 # of this node
SEARCH_CALLS=${SEARCH_CALLS:-50000} # paid searches at most; the plan shows how many it expects
TP=${TP:-1}                     # GPUs of one replica; 2 for Qwen3-VL-32B-Thinking
JUDGE_URL=${JUDGE_URL:-}        # of the judge, OpenAI-compatible, with its
JUDGE_MODEL=${JUDGE_MODEL:-}    # name; the key is in OPENAI_API_KEY

# ------------------------------ launch ------------------------------
CHECKPOINT=${1:-} NAME=${2:-}
if [ -d "$CHECKPOINT" ]; then CHECKPOINT=$(realpath "$CHECKPOINT"); fi
shift $(($# < 2 ? $# : 2))
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ -z "$NAME" ]; then fail "got no checkpoint and name" "bash recipes/evaluate.sh CHECKPOINT NAME"; fi
stages() { evaluation_stages "$CHECKPOINT" "$NAME" "$@"; }
run_recipe stages "$@"
