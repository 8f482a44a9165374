#!/usr/bin/env bash
# Serve a model while a command runs: vLLM's OpenAI-compatible server on all GPUs, then COMMAND, then stop.
#
#   GPUS=8 TP=2 bash recipes/serve.sh Qwen/Qwen3-VL-32B-Thinking -- COMMAND...
#
# The server is at http://127.0.0.1:8000/v1 (PORT) and knows the model by the name given here. TP: GPUs of one replica,
# further replicas take the rest of GPUS. LENGTH: the model's window in tokens. LOG: of the server. SERVE_ON=cpu: the tiny
# model, without an accelerator. SERVE_ARGS: further options of vLLM's server. Ends with COMMAND's exit status.
set -euo pipefail

model=$1
shift
if [ "$1" = -- ]; then shift; fi
GPUS=${GPUS:-8} TP=${TP:-1} PORT=${PORT:-8000} LENGTH=${LENGTH:-65536} LOG=${LOG:-vllm_server.log}
START_S=${START_S:-1800} # 66 GB of weights from a network disk take a while
# Pictures in the longest prompt of an evaluation: 8 of a question (Math-VR), and 4 from python, the most that a call
# returns, in each of 4 turns (the fifth carries out no call; one call a turn: --parallel-calls).
images=$((8 + 4 * 4))
if [ "$GPUS" -lt "$TP" ]; then
  echo "[serve] a replica of $model takes TP=$TP GPUs, there are GPUS=$GPUS; lower TP (TEACHER_TP), or more GPUS" >&2
  exit 2
fi
read -ra options <<<"${SERVE_ARGS:-}"
if [ "${SERVE_ON:-gpu}" = cpu ]; then # for the last two see verl_axpo/integration/config/tiny_axpo.yaml
  options+=(
    --dtype float32 --enforce-eager --skip-mm-profiling --kv-cache-memory-bytes 1073741824 --max-num-seqs 128
    --max-num-batched-tokens 8192 --no-enable-chunked-prefill --block-size 16
  )
fi

answers() { curl -sf --max-time 5 "http://127.0.0.1:$PORT/health" >/dev/null; }

stop() {
  if kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server"
    wait "$server" 2>/dev/null || true
  fi
}

if answers; then # its model would be taken for ours
  echo "[serve] port $PORT is taken by another server; end it, or set PORT (of a recipe, too)" >&2
  exit 1
fi
mkdir -p "$(dirname "$LOG")"
# The module behind `vllm serve`, which does not start with the CPU build (it asks for a distribution named vllm).
# --generation-config vllm: no sampling setting of the checkpoint's own behind the caller's back
python -m vllm.entrypoints.openai.api_server --model "$model" --port "$PORT" --tensor-parallel-size "$TP" \
  --data-parallel-size $((GPUS / TP)) --max-model-len "$LENGTH" --limit-mm-per-prompt "{\"image\": $images, \"video\": 0}" \
  --enable-prefix-caching --generation-config vllm "${options[@]}" >"$LOG" 2>&1 &
server=$!
trap stop EXIT

SECONDS=0
until answers; do
  if ! kill -0 "$server" 2>/dev/null; then
    echo "[serve] vLLM ended before it answered; the end of $LOG:" >&2
    tail -20 "$LOG" >&2
    exit 1
  fi
  if [ "$SECONDS" -gt "$START_S" ]; then
    echo "[serve] vLLM does not answer after $START_S s; see $LOG" >&2
    exit 1
  fi
  sleep 1
done
"$@"
