#!/usr/bin/env bash
# The nine benchmarks for one model, the paper's way: 4 rollouts a question, temperature 0.7, at most 5 turns.
#
#   MODEL=8b bash recipes/eval.sh                                   $OUT/axpo/checkpoint -> $OUT/eval/axpo/report.html
#   CHECKPOINT=Qwen/Qwen3-VL-8B-Thinking bash recipes/eval.sh       any other model -> $OUT/eval/Qwen3-VL-8B-Thinking/
#   MODEL=8b bash recipes/eval.sh --benchmark vstar                 any option of `verl-axpo eval run`
#   DRY_RUN=1 MODEL=4b bash recipes/eval.sh                         print the command, start nothing
#
# Needs: the model's GPUs, 30 GB of disk, the hub, TAVILY_API_KEY (or TOOLS=verl_axpo/tools/config/no_search.yaml), a judge
# (JUDGE_MODEL, JUDGE_URL). After an interruption, the same command continues; rollouts of other weights are refused: add --out DIR.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# ------------------------------ yours to adjust ------------------------------
ARM=${ARM:-axpo}
CHECKPOINT=${CHECKPOINT:-$OUT/$ARM/checkpoint}

# ------------------------------ derived ------------------------------
name=${CHECKPOINT%/} name=${name%/checkpoint} name=${name##*/} # of the result's folder
options=(--gpus "$GPUS" --max-failed 0.01 --paper) # a question that always fails stops no recipe
hub=()
if [ "$MODEL" = tiny ]; then # the policy as it is: a million parameters do not survive the paper's presence penalty
  options=(--gpus 0 --window 1024 --response-tokens 128 --tool-response-chars 256)
  options+=(--temperature 1.0 --top-p 1.0 --top-k 0 --presence-penalty 0)
  if [ -d "$DATA/hub" ]; then hub=(python -m examples.tiny_world.mirror "$DATA/hub" --) options+=(--limit 6 --paper); fi
fi

# ------------------------------ launch ------------------------------
run "eval_$name" "${hub[@]}" verl-axpo eval run \
  --model "$CHECKPOINT" --serve \
  --tools "$TOOLS" \
  --out "$OUT/eval/$name" \
  "${judge[@]}" "${options[@]}" "$@"
