#!/usr/bin/env bash
# The paper's run, Qwen3-VL-4B-Thinking. Stages, options and needs are those of run_qwen3vl8b_axpo.sh.
set -euo pipefail
export MODEL=${MODEL:-4b}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_qwen3vl8b_axpo.sh" "$@"
