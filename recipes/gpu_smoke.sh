#!/usr/bin/env bash
# Does everything work on this GPU? 2B, a handful of questions, one AXPO step, its trace audited (estimated: 20 minutes on 80 GB).
#
#   bash recipes/gpu_smoke.sh                  -> outputs/gpu_smoke/smoke.md, one file to paste into an issue
#   MODEL=tiny bash recipes/gpu_smoke.sh       the same without an accelerator
#   DRY_RUN=1 bash recipes/gpu_smoke.sh        check and print the commands, start nothing
#
# Needs: one GPU of 80 GB and Qwen/Qwen3-VL-2B-Thinking from the hub. The questions are the tiny world's, no key is needed.
set -euo pipefail
export MODEL=${MODEL:-2b} GPUS=1 OUT=${OUT:-outputs/gpu_smoke}
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export OUT SETUP=0 WORLD=$OUT/world TOOLS=$OUT/world/tools.yaml RUN=$OUT/axpo

lengths=() model=Qwen/Qwen3-VL-2B-Thinking
if [ "$MODEL" = tiny ]; then
  model=$WORLD/model
else
  lengths=(data.max_prompt_length=2048 data.max_response_length=4096 actor_rollout_ref.rollout.max_model_len=6144)
fi

run world python -m examples.tiny_world --out "$WORLD" --families perception,reasoning --train 16 --heldout 4 --val 4 --sft 16
status=0
SFT_MODEL=$model STEPS=1 bash recipes/rl.sh data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet" \
  data.train_batch_size=16 actor_rollout_ref.actor.ppo_mini_batch_size=16 actor_rollout_ref.rollout.n=4 \
  algorithm.axpo.correct_threshold=2 trainer.test_freq=1 trainer.save_freq=1 "${lengths[@]}" "$@" || status=$?
if [ "${DRY_RUN:-0}" = 1 ]; then exit "$status"; fi
{
  echo "# GPU smoke test: exit status $status"
  printf '\n```\n' && git rev-parse HEAD && nvidia-smi 2>/dev/null || echo "no GPU"
  verl-axpo doctor || true
  verl-axpo audit "$RUN" || true
  tail -n 1 "$RUN"/metrics_*.jsonl | tr , '\n' | grep -v '"val-' || true # a metric a line; verl's of validation are hundreds
  grep -v "'val-" "$OUT/logs/axpo.log" | tail -n 40 || true
  printf '```\n'
} >"$OUT/smoke.md" 2>&1
echo "[recipe] the report: $OUT/smoke.md"
exit "$status"
