#!/usr/bin/env bash
# The paper's run, Qwen3-VL-2B-Thinking. Stages, options and needs are those of run_qwen3vl8b_axpo.sh.
set -euo pipefail
export MODEL=${MODEL:-2b}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_qwen3vl8b_axpo.sh" "$@"
