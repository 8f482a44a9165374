#!/usr/bin/env bash
# Behind a finished RL run: its metrics in one file, its held-out scores, its report, the audit of its trace.
#
#   bash recipes/finish.sh RUN ARM SEED
#
# Ends with the audit's exit status. The report comes first: a run whose trace has a difference is read all the more.
set -euo pipefail

run=$1 arm=$2 seed=$3
steps=$(cat "$run/checkpoints/latest_checkpointed_iteration.txt")
python -m verl_axpo.report.finish "$run" --arm "$arm" --seed "$seed" --steps "$steps"
verl-axpo report "$run" --title "$arm, $steps steps"
verl-axpo audit "$run"
