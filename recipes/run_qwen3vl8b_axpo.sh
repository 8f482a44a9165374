#!/usr/bin/env bash
# The paper's run, Qwen3-VL-8B-Thinking: data, SFT, RL set, AXPO, nine benchmarks. Every stage goes on where it stood.
#
#   bash recipes/run_qwen3vl8b_axpo.sh                            everything
#   DRY_RUN=1 bash recipes/run_qwen3vl8b_axpo.sh                  check and print every command, start nothing
#   MODEL=tiny bash recipes/run_qwen3vl8b_axpo.sh                 the same stages in miniature, without an accelerator
#   bash recipes/run_qwen3vl8b_axpo.sh trainer.save_freq=5        any override of verl's main_ppo, for the RL stage
#
# Needs and costs: docs/reproduce.md. Keys and variables: recipes/README.md
set -euo pipefail
export MODEL=${MODEL:-8b}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash recipes/data.sh sft
bash recipes/sft.sh
bash recipes/data.sh rl
bash recipes/rl.sh "$@"
bash recipes/eval.sh
