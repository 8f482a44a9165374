#!/usr/bin/env bash
# Where the study's trainings start: the world, and its model with the weights of an earlier SFT -> $OUT/sft/checkpoint
#
#   OUT=outputs/study bash examples/tiny_world/start.sh docs/study/sft.safetensors
#
# What is there already stays. Needs what run_tiny_axpo.sh needs, but trains nothing.
set -euo pipefail
export MODEL=tiny STACK=${STACK:-cpu} OUT=${OUT:-outputs/study}
source "$(dirname "${BASH_SOURCE[0]}")/../../recipes/env.sh"
export OUT WORLD=$OUT/world SETUP=0

if [ ! -e "$WORLD/stage.json" ]; then run world python -m examples.tiny_world --out "$WORLD"; fi
if [ "${DRY_RUN:-0}" = 1 ] || [ -e "$OUT/sft/checkpoint" ]; then exit; fi
rm -rf "$OUT/sft/unfinished" && mkdir -p "$OUT/sft" && cp -r "$WORLD/model" "$OUT/sft/unfinished"
cp "$1" "$OUT/sft/unfinished/model.safetensors"
mv "$OUT/sft/unfinished" "$OUT/sft/checkpoint"
