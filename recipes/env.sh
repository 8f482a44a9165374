# shellcheck shell=bash
# What data.sh, sft.sh, rl.sh and eval.sh share: the environment, where things are, how a command runs.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=recipes/setup_env.sh
if [ "${SETUP:-1}" = 1 ]; then source recipes/setup_env.sh; fi # SETUP=0: the Python environment that is active

MODEL=${MODEL:-8b}
OUT=$(realpath -m "${OUT:-outputs/qwen3vl_$MODEL}")
case $MODEL in 2b | 4b | 8b) BASE_MODEL=${BASE_MODEL:-Qwen/Qwen3-VL-${MODEL^^}-Thinking} ;; esac
if [ "$MODEL" = tiny ]; then
  FAMILY=tiny BASE_MODEL=${WORLD:=$OUT/data/world}/model GPUS=1
  DATA=$(realpath -m "${DATA:-$OUT/data}")
  TOOLS=${TOOLS:-$WORLD/tools.yaml}
  export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # a waiting thread must not take another process's core
elif [ -n "${BASE_MODEL:-}" ]; then # any family of docs/models.md
  FAMILY=qwen3vl GPUS=${GPUS:-8}
  DATA=$(realpath -m "${DATA:-outputs/data}") # the sizes share it
  TOOLS=${TOOLS:-$PWD/verl_axpo/tools/config/paper.yaml}
else
  echo "[recipe] MODEL=$MODEL is unknown; use MODEL=2b, 4b, 8b or tiny, or name another model in BASE_MODEL" >&2 && exit 2
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} # examples.tiny_world, which is not in the wheel
export HYDRA_FULL_ERROR=1 TOKENIZERS_PARALLELISM=false
export SEARCH_CALLS=${SEARCH_CALLS:-50000} # paid searches (one credit each) allowed per stage and machine

run() { # run NAME COMMAND...: checked first, a training with a bar and its output in $OUT/logs/NAME.log
  local name=$1
  shift
  if [ "${DRY_RUN:-0}" = 1 ]; then # check and print it, start nothing
    verl-axpo check --no-machine --made "$OUT" --made "$DATA" -- "$@"
  else
    SEARCH_RUN=$OUT/$name verl-axpo run --title "$name" --log "$OUT/logs/$name.log" -- "$@"
  fi
}

last_model() { # last_model CHECKPOINTS INSIDE LINK: the Hugging Face model of the last checkpoint, at a fixed place
  local model
  model=$1/global_step_$(cat "$1/latest_checkpointed_iteration.txt")/$2
  # Of an adapter (+adapter=lora) verl saves no model that can be served
  if [ -e "${model%/*}/lora_train_meta.json" ]; then python -m verl_axpo.integration.merge_lora "${model%/*}" >&2; fi
  ln -sfnr "$model" "$3"
}

# A judge for answers that no rule decides, OpenAI-compatible; its key is in OPENAI_API_KEY. The temperature is not sent:
# OpenAI's reasoning models, the paper's gpt-5-mini among them, take none but their own.
judge=() reward_judge=()
if [ -n "${JUDGE_MODEL:-}" ]; then
  JUDGE_URL=${JUDGE_URL:-https://api.openai.com/v1}
  judge=(--judge-model "$JUDGE_MODEL" --judge-url "$JUDGE_URL" --judge-temperature none)
  settings="base_url:'$JUDGE_URL',model:'$JUDGE_MODEL',temperature:null"
  reward_judge=(+reward.custom_reward_function.reward_kwargs.judge="{$settings}")
fi
