#!/usr/bin/env bash
# The last Hugging Face model that verl saved, at a fixed place: the newest STEPS/global_step_N/INSIDE -> TARGET.
#
#   bash recipes/export.sh outputs/qwen3vl_8b/sft/steps huggingface outputs/qwen3vl_8b/sft/checkpoint
#
# Hard links where the disk allows them: no second copy of 35 GB (8B in float32), and verl may delete its own.
set -euo pipefail

steps=$1 inside=$2 target=$3
last=$(find "$steps" -maxdepth 1 -name 'global_step_*' | sort -V | tail -1)
if [ ! -e "$last/$inside/config.json" ]; then
  echo "[export] no Hugging Face model in $steps/global_step_*/$inside" >&2
  echo "[export] fix: keep hf_model in the run's checkpoint save_contents, and let it reach its first save" >&2
  exit 1
fi
rm -rf "$target" "$target.part"
mkdir -p "$(dirname "$target")"
cp -rl "$last/$inside" "$target.part" 2>/dev/null || { rm -rf "$target.part" && cp -r "$last/$inside" "$target.part"; }
mv "$target.part" "$target" # whole or not there
echo "[export] $last/$inside -> $target"
