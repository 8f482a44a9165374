#!/usr/bin/env bash
# Behind a finished RL run: its metrics in one file, its held-out scores, the audit of its trace, its report.
#
#   bash recipes/finish.sh RUN ARM SEED
set -euo pipefail

run=$1 arm=$2 seed=$3
steps=$(cat "$run/checkpoints/latest_checkpointed_iteration.txt")
python -m verl_axpo.report.finish "$run" --arm "$arm" --seed "$seed" --steps "$steps"
verl-axpo audit "$run"
verl-axpo report "$run" --title "$arm, $steps steps"
