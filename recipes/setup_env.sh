#!/usr/bin/env bash
# The environment of this checkout: .venv with the pinned packages of requirements/, and verl-axpo itself in it.
#
#   bash recipes/setup_env.sh            make or update .venv; takes seconds when nothing has changed
#   source recipes/setup_env.sh          the same, and use it in this shell (run_tiny_axpo.sh and tests/run.sh do this)
#   STACK=gpu bash recipes/setup_env.sh  cpu | gpu; without it: gpu where nvidia-smi sees a GPU, else cpu
#   PYTHON=/opt/py/bin/python bash recipes/setup_env.sh   which Python 3.10-3.12 to build on
#
# Changes .venv in this checkout and the package cache of uv in your home folder; nothing else. (Runs, later, leave
# session logs in /tmp/ray, Ray's token in ~/.ray, and what vLLM and Hugging Face cache in ~/.cache.)

axpo_say() { echo "[setup] $*" >&2; }
axpo_fail() { # axpo_fail WHAT FIX
  echo "[setup] failed: $1" >&2
  echo "[setup] fix:    $2" >&2
  return 1
}

axpo_stack() { # cpu or gpu
  if [ -n "${STACK:-}" ]; then
    case $STACK in cpu | gpu) echo "$STACK" ;; *) axpo_fail "STACK=$STACK" "use STACK=cpu or STACK=gpu" ;; esac
  elif command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo gpu
  else
    echo cpu
  fi
}

axpo_python() { # axpo_python STACK: path of a Python 3.10-3.12; the prebuilt FlashAttention is for 3.12
  local candidate path order="python3.11 python3.12 python3.10 python3 python"
  if [ "$1" = gpu ]; then order="python3.12 $order"; fi
  for candidate in ${PYTHON:-$order}; do
    path=$("$candidate" -c 'import sys; assert (3, 10) <= sys.version_info[:2] <= (3, 12); print(sys.executable)' \
      2>/dev/null) && echo "$path" && return
  done
  axpo_fail "no Python 3.10, 3.11 or 3.12 (looked for ${PYTHON:-python3.11, python3.12, python3.10, python3, python})" \
    "apt install python3.11 python3.11-venv, or: uv python install 3.11 && PYTHON=\$(uv python find 3.11) bash recipes/setup_env.sh"
}

axpo_check_machine() { # axpo_check_machine STACK PYTHON
  local free_gb memory_gb shm_mb
  [ "$(uname -sm)" = "Linux x86_64" ] ||
    axpo_fail "this is $(uname -sm)" "use Linux on x86_64: vLLM's wheels exist for nothing else here" || return
  free_gb=$(($(df -Pk . | awk 'NR==2 {print $4}') / 1048576))
  [ -x .venv/bin/python ] || [ "$free_gb" -ge 12 ] || # 6.4 GB in .venv, as much again in uv's cache on another disk
    axpo_fail "$free_gb GB free in $PWD" "free at least 12 GB, or clone the repository to a larger disk" || return
  memory_gb=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1048576))
  [ "$memory_gb" -ge 11 ] || # a dozen processes of about 1 GB that share their libraries
    axpo_fail "$memory_gb GB of memory" "use a machine with at least 12 GB" || return
  shm_mb=$(df -Pk /dev/shm 2>/dev/null | awk 'NR==2 {kb = $4} END {print int(kb / 1024)}') # 0 where there is none
  [ "$shm_mb" -ge 1024 ] || # Ray's object store and every weight update live there
    axpo_fail "$shm_mb MB free in /dev/shm" "docker run --shm-size=8g, or: mount -o remount,size=8g /dev/shm" || return
  [ "$1" = gpu ] || grep -qw avx2 /proc/cpuinfo ||
    axpo_fail "the processor has no AVX2" "vLLM's CPU build needs it; use another machine" || return
  [ "$1" = gpu ] || "$2" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
    axpo_fail "libnuma.so.1, which vLLM's CPU build loads, is missing" \
      "apt install libnuma1 (Debian, Ubuntu) or dnf install numactl-libs (Fedora, RHEL)" || return
}

axpo_pip() { # axpo_pip UV PACKAGES...
  "$1" pip install --python .venv/bin/python --no-deps "${@:2}" >&2 ||
    axpo_fail "uv could not install ${*:2}" "see the lines above; run again, what was downloaded is kept"
}

axpo_install() { # axpo_install STACK PYTHON
  local uv
  if [ ! -x .venv/bin/python ]; then
    axpo_say "making .venv with $("$2" --version) ($2)"
    "$2" -m venv .venv >&2 || { rm -rf .venv && axpo_fail "$2 cannot make a virtual environment" \
      "apt install python3-venv (Debian, Ubuntu), or set PYTHON to another Python"; } || return
  fi
  if ! uv=$(command -v uv && uv --version >/dev/null 2>&1); then
    .venv/bin/python -m pip install -q uv >&2 || axpo_fail "pip could not install uv" "check the network and pip's settings" || return
    uv=.venv/bin/uv
  fi
  axpo_say "installing requirements/$1.txt (about 6 GB; downloads are kept in $("$uv" cache dir))"
  axpo_pip "$uv" -r "requirements/$1.txt" || return
  # Chat templates for the tests, outside site-packages: verl imports TRL wherever it is installed, and fails (>= 1.15)
  axpo_pip "$uv" --target .venv/templates trl==1.16.0 || return
  # Inspect for the tests of `verl-axpo export`, outside site-packages: it wants older versions of what is pinned
  axpo_pip "$uv" --target .venv/inspect -r requirements/inspect.txt || return
  # "compat": one path in a .pth file. The default's import hook hides hydra_plugins from Hydra's search.
  axpo_pip "$uv" --no-build-isolation -C editable_mode=compat -e .
}

axpo_flash_attn() { # the wheel that verl 0.9.1 itself installs: CPython 3.12, torch 2.11, CUDA 13
  local wheel=https://github.com/mjun0812/flash-attention-prebuild-wheels/releases/download/v0.9.4/flash_attn-2.8.3+cu130torch2.11-cp312-cp312-linux_x86_64.whl
  if .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' &&
    "$(command -v uv || echo .venv/bin/uv)" pip install -q --python .venv/bin/python --no-deps "$wheel" >&2; then
    return
  fi
  axpo_say "FlashAttention is not installed: its prebuilt wheel needs Python 3.12 and the network; recipes/README.md builds it"
}

axpo_setup() {
  local stack python stamp
  stack=$(axpo_stack) || return
  stamp=$(cat "requirements/$stack.txt" requirements/inspect.txt setup.py | sha256sum | cut -c1-16)-$stack
  if [ "$(cat .venv/.axpo-stamp 2>/dev/null)" = "$stamp" ] && [ -x .venv/bin/python ]; then
    axpo_say ".venv is up to date ($stack stack)"
    return
  fi
  if [ -e .venv/.axpo-stamp ] && [[ $(cat .venv/.axpo-stamp) != *-$stack ]]; then
    axpo_say ".venv has the other stack, whose packages share files with this one: it is made again"
    rm -rf .venv
  fi
  python=$(axpo_python "$stack") || return
  axpo_check_machine "$stack" "$python" || return
  SECONDS=0
  axpo_install "$stack" "$python" || return
  .venv/bin/python -W ignore -c 'import torch, transformers, verl_axpo' || return
  echo "$stamp" >.venv/.axpo-stamp
  axpo_say ".venv is ready ($stack stack, $SECONDS s)"
  if [ "$stack" = gpu ]; then axpo_flash_attn; fi
}

AXPO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if (cd "$AXPO_ROOT" && axpo_setup); then
  export VIRTUAL_ENV=$AXPO_ROOT/.venv PATH=$AXPO_ROOT/.venv/bin:$PATH
  export VLLM_NO_USAGE_STATS=1 RAY_USAGE_STATS_ENABLED=0 # both report to their makers otherwise
  unset PYTHONHOME
  unset PYTHONDONTWRITEBYTECODE # set in many images: each of a run's dozen processes would compile torch and verl again
else
  # shellcheck disable=SC2317
  return 1 2>/dev/null || exit 1
fi
