# shellcheck shell=bash
# A recipe's stages: planned, checked, run once each. Sourced by recipes/common.sh.
#
# As with make, a stage is done while its mark is there and nothing that it was made from (`needs=`, `after=`) is newer.
# So a policy that is trained further is exported, reported and evaluated again, by whichever recipe, and a data stage
# that runs again but changes nothing costs nothing behind it. Nothing that took days is lost: a training whose start or
# data have changed is refused with what to do, and rollouts of other weights step aside, to FOLDER.1. What does go is
# what a training can no longer use: checkpoints of earlier starts, which verl would never delete.

say() { echo "[recipe] $*" >&2; }
fail() { # fail WHAT FIX
  echo "[recipe] $1" >&2
  echo "[recipe] fix: $2" >&2
  exit 2
}

PLANNING=0
PLAN=

written() { # written COMMAND...: as a mark keeps it, without what changes no result: server, addresses, logs
  local word
  if [[ " $* " == *" recipes/serve.sh "* ]]; then
    while [ "$1" != -- ]; do shift; done
    shift
  fi
  while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
      *VERL_FILE_LOGGER_PATH=* | *SEARCH_RUN=* | *SEARCH_CALLS=* | trainer.logger=*) ;;
      --base-url | --judge-url) shift ;;
      *) printf '%q ' "$word" ;;
    esac
  done
}

newer_than() { # newer_than MARK PATH...: the first path that is newer
  local mark=$1 path
  shift
  for path; do
    if [ -n "$path" ] && [ "$path" -nt "$mark" ]; then echo "$path" && return; fi
  done
}

REDONE=() # while planning: what the stages so far will make anew
made_anew() { # made_anew PATH...: whether one of them is, or is in, such a thing
  local path made
  for path; do
    for made in "${REDONE[@]}"; do
      case $path in "$made" | "$made"/*) return 0 ;; esac
    done
  done
  return 1
}

stage() { # stage name=NAME [KEY=VALUE...] -- COMMAND...
  # Keys: those of verl_axpo/preflight/stages.py, and three for this script alone: after=PATH, an input for the mark's age
  # beside `needs=`; weights=FOLDER, the checkpoint whose rollouts `makes=` holds; total=STEPS, for the progress bar where
  # the command's own shows epochs.
  local header=() name=stage kind=command makes='' weights='' total=() inputs=() marks=$OUT/marks mark since newer='' word ran=''
  while [ "$1" != -- ]; do
    case $1 in
      name=*) name=${1#*=} ;;
      kind=*) kind=${1#*=} ;;
      needs=* | after=*) inputs+=("${1#*=}") ;;
      weights=*) weights=${1#*=} ;;
      total=null) ;;
      total=*) total=(--total "${1#*=}") ;;
      makes=*)
        makes=${makes:-${1#*=}}
        case $1 in makes="$DATA"/*) marks=$DATA/marks ;; esac # the sizes share their data
        ;;
    esac
    case $1 in after=* | weights=* | total=*) ;; *) header+=("$1") ;; esac
    shift
  done
  shift
  mark=$marks/$name
  if [ "$kind" = command ]; then
    if [ -e "$mark" ]; then
      ran=1
      newer=$(newer_than "$mark" "${inputs[@]}")
    fi
  elif [ -e "$makes" ]; then # trained, or half: what counts is what it started from
    if [ -e "$mark" ]; then ran=1; fi
    since=$([ -e "$mark.started" ] && echo "$mark.started" || echo "$mark")
    if [ -e "$since" ]; then newer=$(newer_than "$since" "${inputs[@]}"); fi
    if [ -n "$newer" ]; then
      fail "$name: $newer is newer than the training in $makes" \
        "to train anew: mv $makes $makes.old; rm -f $mark $mark.started; to keep that training: touch $since"
    fi
  fi
  if [ "$PLANNING" = 1 ]; then
    if [ -n "$ran" ] && [ -z "$newer" ] && ! made_anew "${inputs[@]}"; then
      header+=(done=1)
    elif [ -n "$makes" ]; then
      REDONE+=("$makes")
    fi
    for word in "${header[@]}" -- "$@"; do printf '%q ' "$word"; done >>"$PLAN"
    echo >>"$PLAN"
    return
  fi
  if [ -n "$ran" ] && [ -z "$newer" ]; then
    if [ "$(cat "$mark")" = "$(written "$@")" ]; then
      say "$name: done"
    else
      say "$name: done, with another command line than today's; remove $mark to run it again"
    fi
    return
  fi
  if [ -n "$newer" ]; then say "$name: again, $newer is newer"; fi
  rm -f "$mark"
  if [ -n "$weights" ]; then python -m verl_axpo.preflight.aside "$makes" "$weights"; fi
  mkdir -p "$marks"
  if [ "$kind" != command ]; then
    if [ -e "$makes" ]; then python -m verl_axpo.preflight.leftovers "$kind" -- "$@"; else : >"$mark.started"; fi
  fi
  # SEARCH_RUN: paid searches are counted for each stage, see verl_axpo/tools/config/paper.yaml
  SEARCH_RUN=$mark python -m verl_axpo.progress --title "$name" --log "$OUT/logs/$name.log" "${total[@]}" -- "$@"
  written "$@" >"$mark" # last, so that a mark means that all of it is there
}

run_recipe() { # run_recipe STAGES [override...]: plan and check, then run
  local stages=$1 options=()
  shift
  PLAN=${PLAN_FILE:-$(mktemp)}
  : >"$PLAN"
  PLANNING=1 REDONE=()
  "$stages" "$@"
  PLANNING=0
  if [ -n "${PLAN_FILE:-}" ]; then return; fi # `verl-axpo doctor --recipe` and the tests read the plan themselves
  if [ "$DRY_RUN" != 1 ]; then options+=(--starting); fi
  if [ "$DRY_RUN" = 1 ] || [ "${PREFLIGHT:-1}" = 1 ]; then
    python -W ignore -m verl_axpo.preflight "${options[@]}" "$PLAN" || { rm -f "$PLAN" && exit 1; }
  fi
  rm -f "$PLAN"
  if [ "$DRY_RUN" = 1 ]; then exit 0; fi
  "$stages" "$@"
}
