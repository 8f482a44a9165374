#!/usr/bin/env bash
# The paper's data: four sources -> problems -> the teacher's attempts -> SFT set; then the SFT model's -> RL set.
#
#   MODEL=8b bash recipes/data.sh sft      sources, benchmarks to keep out, the teacher's attempts, $DATA/sft/
#   MODEL=8b bash recipes/data.sh rl       after recipes/sft.sh: its attempts, $DATA/rl_8b/
#   TEACHER_URL=http://host:8000/v1 bash recipes/data.sh sft      with a teacher that is served elsewhere
#   DRY_RUN=1 bash recipes/data.sh sft     check and print the commands, start nothing
#
# Needs: GPUs for the teacher (2 of 80 GB a replica), 450 GB of disk (an estimate), the hub, TAVILY_API_KEY. Every command
# goes on where it stood, and one that is done takes seconds. Time: docs/reproduce.md, "What it costs".
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# ------------------------------ yours to adjust ------------------------------
TEACHER_URL=${TEACHER_URL:-} # of a server that runs Qwen3-VL-32B-Thinking already; empty: served here, on all GPUs
sources=(virl39k fvqa pyvision mmfinereason)

# ------------------------------ derived ------------------------------
teacher=(--model Qwen/Qwen3-VL-32B-Thinking --tp 2) hub=() rl_set=() sft_set=()
# 64 tokens are left for what SFT counts more than the server did (docs/design/agent_runner.md, point 4)
attempts=(--max-turns 3 --response-tokens 8192 --gpus "$GPUS" --max-failed 0.01) sft_set=(--max-tokens $((16384 - 64)))
if [ "$MODEL" = tiny ]; then
  bash examples/tiny_world/sources.sh "$DATA" "$WORLD"
  teacher=(--model "$DATA/teacher/sft/checkpoint") rl_set=(--hard -1 --val 16)
  hub=(python -m examples.tiny_world.mirror "$DATA/hub" --) sft_set=(--max-tokens $((512 - 64)) --val 16)
  attempts=(--max-turns 3 --response-tokens 128 --gpus 0 --window 1024 --tool-response-chars 256 --max-failed 0.01)
  attempts+=(--temperature 1.0 --top-p 1.0 --top-k 0 --presence-penalty 0)
fi
ingest=()
if [ -n "${JUDGE_MODEL:-}" ]; then ingest=(--judge-above-words 5); fi # such answers match in no comparison word for word
if [ -n "$TEACHER_URL" ]; then teacher+=(--base-url "$TEACHER_URL"); else teacher+=(--serve); fi

try() { # try NAME OPTION...: four attempts of a model at every problem -> $DATA/rollouts/NAME.jsonl
  run "attempts_$1" verl-axpo eval run --registry verl_axpo.data.questions --source problems="$DATA" \
    --benchmark problems --tools "$TOOLS" --out "$DATA/runs/$1" "${attempts[@]}" "${judge[@]}" "${@:2}"
  run "collect_$1" verl-axpo data collect "$DATA/runs/$1" --work "$DATA" --model "$1" --out "$DATA/rollouts/$1.jsonl"
}

# ------------------------------ launch ------------------------------
case ${1:-} in
  sft)
    for source in "${sources[@]}"; do run "fetch_$source" "${hub[@]}" verl-axpo data fetch "$source" --work "$DATA"; done
    run benchmarks "${hub[@]}" verl-axpo data benchmarks --work "$DATA"
    for source in "${sources[@]}"; do run "ingest_$source" verl-axpo data ingest "$source" --work "$DATA" "${ingest[@]}"; done
    run dedup verl-axpo data dedup --work "$DATA"
    try teacher "${teacher[@]}"
    run sft_set verl-axpo data sft --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" --teacher teacher \
      --tools "$TOOLS" --tool-share 0.25 "${sft_set[@]}"
    ;;
  rl)
    try "sft_$MODEL" --model "${SFT_MODEL:-$OUT/sft/checkpoint}" --serve
    run rl_set verl-axpo data filter --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" \
      --rollouts "$DATA/rollouts/sft_$MODEL.jsonl" --teacher teacher --student "sft_$MODEL" --tools "$TOOLS" \
      --undecided drop --max-undecided 0.1 "${rl_set[@]}" --out "$DATA/rl_$MODEL"
    ;;
  *) echo "[recipe] bash recipes/data.sh sft, or bash recipes/data.sh rl" >&2 && exit 2 ;;
esac
