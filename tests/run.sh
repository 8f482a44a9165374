#!/usr/bin/env bash
# The checks that need no accelerator: lint, format, types, docs, then unit, contract and end-to-end tests.
#   bash tests/run.sh                 all of it, but for what is marked slow
#   bash tests/run.sh quick           without the end-to-end tests
#   bash tests/run.sh tests/unit -k ranking   only these tests, after lint and types
#   bash tests/run.sh tests/e2e/test_switches.py   the ablation switches on the real stack, which "all" leaves out
#   bash tests/run.sh tests/e2e/test_process_faults.py   each kind of process killed in a real training, likewise
#   bash tests/run.sh tests/e2e/test_lora.py   adapters through SFT, merging, AXPO and GRPO, likewise
#   bash tests/run.sh tests/e2e/test_own_tools.py   RL with a tool of one's own and one of an MCP server, likewise
#   bash tests/run.sh tests/e2e/test_call_syntax.py   SFT and AXPO with Qwen3.5's call syntax, likewise
#   bash tests/run.sh tests/e2e/test_architectures.py   SFT and AXPO of other architectures than Qwen3-VL's, likewise
#   bash tests/run.sh tests/e2e -m slow            all that "all" leaves out; -k "two or colocate" for some of it
# The tests of the view drive Chromium, and are skipped where there is none (apt install chromium).
# Ends in pytest's own summary line; the exit status is that of the first check that failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null # some CI systems close it, and what asks a question must fail, not wait

export STACK=${STACK:-cpu} # on machines with a GPU too: what is tested here needs none
source recipes/setup_env.sh

step() { # step NAME COMMAND...
  local name=$1 started=$SECONDS
  shift
  echo "== $name"
  "$@" || { echo "== $name failed after $((SECONDS - started)) s" >&2; exit 1; }
}

step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "mypy --strict" mypy --strict verl_axpo examples/tiny_world
step docs env NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
if [ $# -gt 0 ] && [ "$1" != quick ]; then
  step pytest python -m pytest "$@"
else
  # Two processes: these tests wait as much as they compute. Contract tests import vLLM, which sets logging up anew.
  step unit python -m pytest -n 2 --dist loadfile tests/unit
  step contract python -m pytest -n 2 --dist loadfile tests/contract
  if [ "${1:-}" = quick ]; then exit; fi
  # Two files at a time where memory allows (a training takes up to 9 GB): most of their time is start-up
  at_once=$(awk '/MemTotal/ { print ($2 > 20e6) ? 2 : 1 }' /proc/meminfo)
  step "e2e and gpu" python -m pytest -n "$at_once" --dist loadfile --no-loadscope-reorder -m "not slow" tests/e2e tests/gpu
fi
