#!/usr/bin/env bash
# Where RL in the tiny world starts: world -> SFT -> 8 rollouts of the SFT model per held-out question -> figures, bands.
#
#   bash examples/tiny_world/calibrate.sh                     -> outputs/calibration/calibration.{md,json}
#   STEPS=900 OUT=outputs/other bash examples/tiny_world/calibrate.sh
#
# A world that is in $OUT/world already is used as it is. No RL runs here (docs/study/calibration.md). Needs what
# run_tiny_axpo.sh needs. After an interruption, the same command continues.
set -euo pipefail
export MODEL=tiny STACK=${STACK:-cpu} OUT=${OUT:-outputs/calibration}
source "$(dirname "${BASH_SOURCE[0]}")/../../recipes/env.sh"
export OUT WORLD=$OUT/world SETUP=0

questions=()
for family in perception reasoning search; do questions+=(--benchmark "$family" --source "$family=$WORLD"); done

if [ ! -e "$WORLD/stage.json" ]; then run world python -m examples.tiny_world --out "$WORLD"; fi # yours stays
STEPS=${STEPS:-1200} bash recipes/sft.sh data.train_files="$WORLD/sft_train.parquet" "$@"
CHECKPOINT=$OUT/sft/checkpoint bash recipes/eval.sh --out "$OUT/rollouts" \
  --registry examples.tiny_world.benchmark "${questions[@]}" --rollouts 8 --seed 0 --max-turns 3
run calibration python -m examples.tiny_world.calibration "$OUT"
