#!/usr/bin/env bash
# What MODEL=tiny has in place of the internet and of a 32B teacher: a world, a hub with its questions, a small SFT model.
#
#   bash examples/tiny_world/sources.sh DATA WORLD      recipes/data.sh calls it; what is there is not made again
set -euo pipefail
data=$1 world=$2

MODEL=tiny OUT=$data DATA=$data WORLD=$world
export MODEL OUT DATA WORLD
source "$(dirname "${BASH_SOURCE[0]}")/../../recipes/env.sh"
run world python -m examples.tiny_world --out "$world" --families perception --train 1 # the hub has the questions
run hub python -m examples.tiny_world.hub --out "$data/hub" --families perception --rows 512
OUT=$data/teacher STEPS=150 bash recipes/sft.sh data.train_files="$world/sft_train.parquet"
