# shellcheck shell=bash
# What the recipes share: sizes, settings, stages. Sourced by recipes/run_qwen3vl*.sh, make_data.sh and evaluate.sh.
#
# A recipe lists its stages in a function and calls `run_recipe` with its name. The function runs twice: first every
# `stage` only writes its command line to a plan, which `python -m verl_axpo.preflight` checks (with DRY_RUN=1 that is
# all, on any machine); then each stage runs, unless its mark says that it has.
#
# Variables of all recipes, beside those of the script's own block:
#   DRY_RUN=1          compose and check everything, print the plan, start nothing
#   MODEL=tiny         the whole recipe with the tiny model, on a machine without an accelerator
#   RAY_ADDRESS=...    RL on an existing Ray cluster instead of this node alone; NODES says how many of its nodes
#   SETUP=0            use the Python environment that is active instead of .venv of this checkout
#   PREFLIGHT=0        start without the checks

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DRY_RUN=${DRY_RUN:-0}
# shellcheck source=recipes/setup_env.sh
if [ "${SETUP:-1}" = 1 ]; then source recipes/setup_env.sh; fi

say() { echo "[recipe] $*" >&2; }
fail() { # fail WHAT FIX
  echo "[recipe] $1" >&2
  echo "[recipe] fix: $2" >&2
  exit 2
}

# ------------------------------ stages ------------------------------
PLANNING=0
PLAN=

written() { # written COMMAND...: as a mark keeps it, without what differs from start to start
  local word
  for word; do
    case $word in *VERL_FILE_LOGGER_PATH=*) ;; *) printf '%q ' "$word" ;; esac
  done
}

stage() { # stage name=NAME [KEY=VALUE...] -- COMMAND...: see verl_axpo/preflight/stages.py for the keys
  local header=() name=stage marks=$OUT/marks mark word
  while [ "$1" != -- ]; do
    header+=("$1")
    case $1 in
      name=*) name=${1#*=} ;;
      makes="$DATA"/*) marks=$DATA/marks ;; # the sizes share their data
    esac
    shift
  done
  shift
  mark=$marks/$name
  if [ "$PLANNING" = 1 ]; then
    if [ -e "$mark" ]; then header+=(done=1); fi
    for word in "${header[@]}" -- "$@"; do printf '%q ' "$word"; done >>"$PLAN"
    echo >>"$PLAN"
    return
  fi
  if [ -e "$mark" ]; then
    if [ "$(cat "$mark")" = "$(written "$@")" ]; then
      say "$name: done"
    else
      say "$name: done, with another command line than today's; remove $mark to run it again"
    fi
    return
  fi
  python -m verl_axpo.progress --title "$name" --log "$OUT/logs/$name.log" -- "$@"
  mkdir -p "$marks" && written "$@" >"$mark" # last, so that a mark means that all of it is there
}

run_recipe() { # run_recipe STAGES [override...]: plan and check, then run
  local stages=$1 options=()
  shift
  PLAN=${PLAN_FILE:-$(mktemp)}
  : >"$PLAN"
  PLANNING=1
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

# ------------------------------ sizes ------------------------------
# RL at 80 GB a GPU; `verl_axpo.preflight` shows the memory that each size needs.
MODEL=${MODEL:-8b}
case $MODEL in
  2b | 4b | 8b)
    BASE_MODEL=${BASE_MODEL:-Qwen/Qwen3-VL-${MODEL^^}-Thinking} GPUS=${GPUS:-8}
    BASE_SHAPE=$BASE_MODEL
    ;;
  tiny) GPUS=1 BASE_SHAPE=tiny ;;
  *) fail "MODEL: got '$MODEL'" "MODEL=2b, 4b, 8b or tiny" ;;
esac
OUT=${OUT:-outputs/qwen3vl_$MODEL}
OUT=$(realpath -m "$OUT")
if [ "$MODEL" = tiny ]; then DATA=${DATA:-$OUT/data}; else DATA=$(realpath -m "${DATA:-outputs/data}"); fi
# What another recipe makes: `elsewhere=` lets a plan go on before it is there. Named by the user, it must be.
SFT_MODEL_FROM=$([ -n "${SFT_MODEL:-}" ] || echo "$OUT/sft")
SFT_FILE_FROM=$([ -n "${SFT_FILE:-}" ] || echo "$DATA")
RL_FILE_FROM=$([ -n "${RL_FILE:-}" ] || echo "$DATA")
VAL_FILE_FROM=$([ -n "${VAL_FILE:-}" ] || echo "$DATA")
SFT_MODEL=${SFT_MODEL:-$OUT/sft/checkpoint}
SEED=${SEED:-0}
NODES=${NODES:-1}
GPU_GIB=${GPU_GIB:-79} # what an 80 GB A100 or H100 has

SFT_FILE=${SFT_FILE:-$DATA/sft/train.parquet}
RL_FILE=${RL_FILE:-$DATA/rl_$MODEL/train.parquet} VAL_FILE=${VAL_FILE:-$DATA/rl_$MODEL/val.parquet}

if [ "$MODEL" = tiny ]; then
  BASE_MODEL=${BASE_MODEL:-$DATA/world/model}
  SFT_ROWS=2048 RL_ROWS=512 GPU_GIB=0 IMAGES=8 IMAGE_TOKENS=16
  TOOLS=${TOOLS:-$DATA/world/tools.yaml} AGENT_TOOLS=$TOOLS
  TOOL_NAMES=(--tool image_zoom_in) TOOL_RESPONSE_CHARS=256
  PROMPT_LENGTH=192 RESPONSE_LENGTH=128 SFT_LENGTH=512
  BATCH=${BATCH:-16} MINI_BATCH=${MINI_BATCH:-16} LR=${LR:-2e-4}
  STEPS=${STEPS:-2} SAVE_EVERY=${SAVE_EVERY:-1} TEST_EVERY=${TEST_EVERY:-2}
  SFT_BATCH=${SFT_BATCH:-16} SFT_LR=${SFT_LR:-2e-3} SFT_STEPS=${SFT_STEPS:-150}
  SOURCES=(tiny) INGEST=(--root "$DATA/world") DEDUP=(--without-benchmarks)
  SFT_SET=(--val 16) RL_SET=(--hard 0 --val 16)
  # The policy as it is: a million parameters do not survive the paper's presence penalty.
  SAMPLING=(--temperature 1.0 --top-p 1.0 --top-k 0 --presence-penalty 0)
  EVALUATION=(
    --registry verl_axpo.data.tiny.benchmark --benchmark perception --source perception="$DATA/world"
    --response-tokens "$RESPONSE_LENGTH" --tools "$AGENT_TOOLS" "${SAMPLING[@]}"
  )
else
  SFT_ROWS=64274 RL_ROWS=37591 # the paper's, section 4; 37,591 = 15,591 + 22,000
  # For the memory estimate: a question's image and the crops and plots of three turns, each of about 2,000,000 pixels,
  # where Mini-o3 and PyVision-RL cap theirs, in tokens of 32 x 32 pixels.
  IMAGES=4 IMAGE_TOKENS=1953
  # shellcheck disable=SC2016 # OmegaConf expands it: a file of the installed package
  AGENT_TOOLS=${TOOLS:-paper} TOOLS=${TOOLS:-'${verl_axpo:tools/config/paper.yaml}'} # one config, by name and by path
  TOOL_NAMES=(--tool python --tool image_zoom_in --tool tavily-search)
  TOOL_RESPONSE_CHARS=8192 # verl's 256 would cut every search result; a choice
  # Silent in the paper. 8,192 of prompt hold four such images and the tools' schemas; verl leaves out what is longer.
  # ProRL caps responses at 8k for most of its training (arXiv 2505.24864, 3.3); should `response_length/clip_ratio`
  # stay above 0.1, its last run's 16,384.
  PROMPT_LENGTH=${PROMPT_LENGTH:-8192} RESPONSE_LENGTH=${RESPONSE_LENGTH:-8192}
  SFT_LENGTH=${SFT_LENGTH:-$((PROMPT_LENGTH + RESPONSE_LENGTH))} # what is longer could not be sampled in RL either
  # ProRL 3.2: batch 256, mini-batch 64, AdamW at a constant 2e-6. Its dynamic sampling is left out: it drops the
  # all-wrong groups that AXPO restores. Steps: one pass over the RL set, a choice.
  BATCH=${BATCH:-256} MINI_BATCH=${MINI_BATCH:-64} LR=${LR:-2e-6}
  STEPS=${STEPS:-null} SAVE_EVERY=${SAVE_EVERY:-10} TEST_EVERY=${TEST_EVERY:-20}
  # SFT, silent in the paper. 1e-5 with cosine and a tenth of warm-up: Mini-o3 (sft_configs/qwen2.5-vl.yaml). 96 rows,
  # betas, decay: verl's examples/sft/vlm/run_qwen3_vl_2b_fsdp.sh. One epoch: PyVision-RL's SFT checkpoint.
  SFT_BATCH=${SFT_BATCH:-96} SFT_LR=${SFT_LR:-1e-5} SFT_STEPS=${SFT_STEPS:-null}
  SOURCES=(virl39k fvqa pyvision mmfinereason) INGEST=() DEDUP=() SFT_SET=() RL_SET=()
  SAMPLING=() # silent in the paper for the attempts: the evaluation's, which are our defaults
  EVALUATION=(--tools "$AGENT_TOOLS" --paper)
fi

# ------------------------------ services ------------------------------
SERVED=http://127.0.0.1:8000/v1 # by recipes/serve.sh
# The paper's teacher, by hub id; served here on all GPUs unless TEACHER_URL names a server that has it already.
if [ "$MODEL" = tiny ]; then TEACHER=$DATA/teacher/checkpoint; else TEACHER=${TEACHER:-Qwen/Qwen3-VL-32B-Thinking}; fi
TEACHER_URL=${TEACHER_URL:-}
TEACHER_TP=$([ "$MODEL" = tiny ] && echo 1 || echo 2) # 66 GB of weights on two GPUs
JUDGE_URL=${JUDGE_URL:-} JUDGE_MODEL=${JUDGE_MODEL:-} # OpenAI-compatible, for answers that no rule decides
JUDGE_KEY=$([ -z "$JUDGE_MODEL" ] || echo OPENAI_API_KEY)
if [ "$MODEL" = tiny ]; then SEARCH_KEY=; else SEARCH_KEY=${SEARCH_KEY-TAVILY_API_KEY}; fi # a variable's name
SERVE_LENGTH=$([ "$MODEL" = tiny ] && echo 512 || echo 40960) # evaluation samples up to 32,768 tokens
export SERVE_ON=$([ "$MODEL" = tiny ] && echo cpu || echo gpu)
REWARD=() JUDGE=()
if [ -n "$JUDGE_MODEL" ]; then
  REWARD=(+reward.custom_reward_function.reward_kwargs.judge="{base_url:'$JUDGE_URL',model:'$JUDGE_MODEL'}")
  JUDGE=(--judge-model "$JUDGE_MODEL" --judge-url "$JUDGE_URL")
fi

# ------------------------------ accelerator ------------------------------
export HYDRA_FULL_ERROR=1 TOKENIZERS_PARALLELISM=false
if [ "$MODEL" = tiny ]; then
  export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # a waiting thread must not take another process's core
  SFT_MACHINE=(
    +platform=cpu_sft data.use_dynamic_bsz=false data.micro_batch_size_per_gpu="$SFT_BATCH" data.num_workers=1
  )
  RL_MACHINE=(
    +platform=cpu
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=32
    actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=32
    actor_rollout_ref.rollout.max_model_len=512
    actor_rollout_ref.rollout.max_num_batched_tokens=8192
    actor_rollout_ref.rollout.max_num_seqs=128
    # for both see verl_axpo/integration/config/tiny_axpo.yaml
    actor_rollout_ref.rollout.enable_chunked_prefill=false
    +actor_rollout_ref.rollout.engine_kwargs.vllm.block_size=16
  )
else
  ROW=$((PROMPT_LENGTH + RESPONSE_LENGTH)) # tokens
  if [ "$GPUS" = 1 ]; then
    # One GPU holds everything: weights and moments leave it while vLLM runs. 4B's do not fit beside the activations
    # and stay in host memory (FSDP2's offload policy); Adam then runs on the CPU.
    TOKENS=${TOKENS:-$ROW} OFFLOAD=${OFFLOAD:-True} HOST=$([ "$MODEL" = 2b ] && echo False || echo True)
  else
    TOKENS=${TOKENS:-$((2 * ROW))} OFFLOAD=${OFFLOAD:-False} HOST=False
  fi
  SFT_MACHINE=(
    engine.strategy=fsdp2
    engine.offload_policy="$HOST"
    model.use_remove_padding=True # packs rows; needs flash-attn
    +model.override_config.attn_implementation=flash_attention_2
    data.use_dynamic_bsz=True
    data.max_token_len_per_gpu="$ROW"
  )
  RL_MACHINE=(
    # verl's examples/grpo_trainer/run_qwen3_vl_8b_fsdp.sh, but for lengths, tensor_model_parallel_size (all three sizes
    # fit on one GPU, and eight replicas keep more rollouts going) and gpu_memory_utilization (0.6 there)
    actor_rollout_ref.model.use_remove_padding=True
    actor_rollout_ref.model.use_fused_kernels=True
    actor_rollout_ref.model.enable_gradient_checkpointing=True
    +actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2
    actor_rollout_ref.actor.strategy=fsdp2
    actor_rollout_ref.actor.fsdp_config.offload_policy="$HOST"
    actor_rollout_ref.actor.fsdp_config.param_offload="$OFFLOAD"
    actor_rollout_ref.actor.fsdp_config.optimizer_offload="$OFFLOAD"
    actor_rollout_ref.ref.fsdp_config.param_offload=True
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$TOKENS" # log-probs of policy and reference follow it
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.tensor_model_parallel_size=1
    actor_rollout_ref.rollout.gpu_memory_utilization="${VLLM_SHARE:-0.7}"
    actor_rollout_ref.rollout.free_cache_engine=True # sleep mode: weights and cache leave the GPU during the update
    actor_rollout_ref.rollout.enable_prefix_caching=True # a resample finds its source's prompt, images and prefix
    actor_rollout_ref.rollout.enable_chunked_prefill=True
    actor_rollout_ref.rollout.max_num_batched_tokens=16384
    actor_rollout_ref.rollout.max_model_len="$ROW"
    +actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt='{image:16,video:0}'
    trainer.n_gpus_per_node="$GPUS"
    trainer.nnodes="$NODES" # with RAY_ADDRESS, which Ray reads by itself, the nodes of that cluster
  )
fi

# ------------------------------ training ------------------------------
folder() { # folder MODEL: the folder that must be there, nothing for a hub id
  if [ -d "$1" ] || [ "${1#/}" != "$1" ]; then echo "$1"; fi
}

logger() { # wandb where there is a key for it, always the console and a file
  if [ -n "${WANDB_API_KEY:-}" ]; then echo '[console,file,wandb]'; else echo '[console,file]'; fi
}

sft_stage() { # sft_stage [override...]: base model + trajectories -> $SFT_MODEL
  VERL_FILE_LOGGER_PATH=$OUT/sft/metrics_$(date +%s).jsonl \
    stage name=sft kind=sft makes="$OUT/sft" elsewhere="$SFT_FILE_FROM" base="$BASE_SHAPE" rows="$SFT_ROWS" \
    images="$IMAGES" image_tokens="$IMAGE_TOKENS" gpu_gib="$GPU_GIB" -- \
    torchrun --standalone --nnodes=1 --nproc-per-node="$GPUS" -m verl.trainer.sft_trainer \
    hydra.run.dir="$OUT/sft/hydra" \
    model.path="$BASE_MODEL" \
    data.train_files="$SFT_FILE" \
    data.train_batch_size="$SFT_BATCH" \
    data.max_length="$SFT_LENGTH" \
    data.truncation=error \
    data.custom_cls.path=pkg://verl_axpo.integration.sft_dataset \
    data.custom_cls.name=SftDataset \
    optim.lr="$SFT_LR" \
    optim.lr_scheduler_type=cosine \
    optim.lr_warmup_steps_ratio=0.1 \
    optim.min_lr_ratio=0.1 \
    optim.betas='[0.9,0.95]' \
    optim.weight_decay=0.1 \
    trainer.total_epochs="$([ "$SFT_STEPS" = null ] && echo 1 || echo 1000)" \
    trainer.total_training_steps="$SFT_STEPS" \
    trainer.n_gpus_per_node="$GPUS" \
    trainer.save_freq=100 \
    trainer.max_ckpt_to_keep=2 \
    trainer.seed="$((SEED + 1))" \
    trainer.default_local_dir="$OUT/sft/steps" \
    trainer.project_name=verl_axpo \
    trainer.experiment_name="sft_$MODEL" \
    trainer.logger="$(logger)" \
    checkpoint.save_contents='[model,optimizer,extra,hf_model]' \
    "${SFT_MACHINE[@]}" "$@"
  stage name=sft_checkpoint makes="$OUT/sft/checkpoint" -- \
    bash recipes/export.sh "$OUT/sft/steps" huggingface "$OUT/sft/checkpoint"
}

rl_stage() { # rl_stage ARM [override...]: SFT model + RL set -> $OUT/ARM
  local arm=$1 run=$OUT/$1 budget metrics cluster=()
  shift
  metrics=$run/metrics_$(date +%s).jsonl # one per start: verl's file logger begins anew
  # It lives in a Ray actor, which on a cluster that runs already does not have our environment.
  if [ -n "${RAY_ADDRESS:-}" ]; then
    cluster=(+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH="$metrics")
  fi
  # With a budget of zero AXPO is GRPO, bit for bit (tests/e2e/test_identity.py), and leaves the same metrics and trace.
  case $arm in
    axpo) budget=0.25 ;;
    grpo) budget=0 ;;
    *) fail "rl_stage: got '$arm'" "axpo or grpo" ;;
  esac
  # The paper's N, K, r, clip, KL and turns are verl_axpo/integration/config/axpo_trainer.yaml.
  VERL_FILE_LOGGER_PATH=$metrics \
    stage name="$arm" kind=rl needs="$(folder "$SFT_MODEL")" makes="$run" elsewhere="$SFT_MODEL_FROM" \
    elsewhere="$RL_FILE_FROM" elsewhere="$VAL_FILE_FROM" base="$BASE_SHAPE" rows="$RL_ROWS" images="$IMAGES" \
    image_tokens="$IMAGE_TOKENS" \
    gpu_gib="$GPU_GIB" env="$SEARCH_KEY" env="$JUDGE_KEY" server="$JUDGE_URL" -- \
    python -m verl.trainer.main_ppo --config-name axpo_trainer \
    hydra.run.dir="$run/hydra" \
    "${RL_MACHINE[@]}" \
    data.train_files="$RL_FILE" \
    data.val_files="$VAL_FILE" \
    data.seed="$SEED" \
    data.shuffle=True \
    data.train_batch_size="$BATCH" \
    data.max_prompt_length="$PROMPT_LENGTH" \
    data.max_response_length="$RESPONSE_LENGTH" \
    data.filter_overlong_prompts=True \
    data.truncation=error \
    actor_rollout_ref.model.path="$SFT_MODEL" \
    actor_rollout_ref.actor.ppo_mini_batch_size="$MINI_BATCH" \
    actor_rollout_ref.actor.optim.lr="$LR" \
    actor_rollout_ref.actor.checkpoint.save_contents='[model,optimizer,extra,hf_model]' \
    actor_rollout_ref.rollout.multi_turn.tool_config_path="$TOOLS" \
    actor_rollout_ref.rollout.multi_turn.max_tool_response_length="$TOOL_RESPONSE_CHARS" \
    reward.custom_reward_function.path=pkg://verl_axpo.rewards.outcome \
    reward.custom_reward_function.name=compute_score \
    "${REWARD[@]}" \
    algorithm.axpo.budget="$budget" \
    algorithm.axpo.trace_dir="$run/trace" \
    "${cluster[@]}" \
    trainer.total_epochs="$([ "$STEPS" = null ] && echo 1 || echo 1000)" \
    trainer.total_training_steps="$STEPS" \
    trainer.val_before_train=True \
    trainer.test_freq="$TEST_EVERY" \
    trainer.save_freq="$SAVE_EVERY" \
    trainer.max_actor_ckpt_to_keep=2 \
    trainer.default_local_dir="$run/checkpoints" \
    trainer.validation_data_dir="$run/heldout" \
    trainer.project_name=verl_axpo \
    trainer.experiment_name="${arm}_$MODEL" \
    trainer.logger="$(logger)" "$@"
  stage name="${arm}_checkpoint" makes="$run/checkpoint" -- \
    bash recipes/export.sh "$run/checkpoints" actor/huggingface "$run/checkpoint"
  stage name="${arm}_report" makes="$run/report.md" -- bash recipes/finish.sh "$run" "$arm" "$SEED"
}

# ------------------------------ data and evaluation ------------------------------
gib() { # gib SIZE: roughly what a stage writes at full size; the tiny one writes next to nothing
  if [ "$MODEL" = tiny ]; then echo 0; else echo "$1"; fi
}

serving() { # serving MODEL TP: the words in front of a command that needs a server of that model
  echo "env GPUS=$GPUS TP=$2 LENGTH=$SERVE_LENGTH LOG=$OUT/logs/server.log bash recipes/serve.sh $1 --"
}

rollouts_stage() { # rollouts_stage NAME MODEL URL TP [NEEDS]: 4 attempts at every problem -> $DATA/rollouts/NAME.jsonl
  local name=$1 model=$2 url=$3 served=()
  if [ -z "$url" ]; then read -ra served <<<"$(serving "$model" "$4")"; fi
  stage name="attempts_$name" needs="$DATA/dedup" needs="${5:-}" elsewhere="$DATA" elsewhere="$SFT_MODEL_FROM" \
    makes="$DATA/runs/$name" disk_gib="$(gib 100)" env="$SEARCH_KEY" env="$JUDGE_KEY" server="$url" \
    server="$JUDGE_URL" -- \
    "${served[@]}" verl-axpo eval run --registry verl_axpo.data.questions --source problems="$DATA" \
    --benchmark problems --model "$model" --base-url "${url:-$SERVED}" --rollouts 4 --tools "$AGENT_TOOLS" \
    --max-turns 3 --response-tokens "$RESPONSE_LENGTH" --tool-response-chars "$TOOL_RESPONSE_CHARS" "${SAMPLING[@]}" \
    "${JUDGE[@]}" --out "$DATA/runs/$name"
  stage name="collect_$name" needs="$DATA/runs/$name" elsewhere="$DATA" makes="$DATA/rollouts/$name.jsonl" -- \
    verl-axpo data collect "$DATA/runs/$name" --work "$DATA" --model "$name" --out "$DATA/rollouts/$name.jsonl"
}

sft_data_stages() { # sources -> problems -> teacher's attempts -> $SFT_FILE
  local source
  if [ "$MODEL" = tiny ]; then
    stage name=world makes="$DATA/world" -- \
      python -m verl_axpo.data.tiny --out "$DATA/world" --families perception --train "$RL_ROWS"
    stage name=teacher needs="$DATA/world" makes="$DATA/teacher" -- \
      env DATA="$DATA/world" OUT="$DATA/teacher" FAST=1 bash recipes/tiny_sft.sh
  else
    for source in "${SOURCES[@]}"; do
      stage name="fetch_$source" makes="$DATA/raw/$source" disk_gib="$(gib 30)" -- \
        verl-axpo data fetch "$source" --work "$DATA"
    done
    stage name=benchmarks makes="$DATA/benchmarks.jsonl" disk_gib="$(gib 20)" -- \
      verl-axpo data benchmarks --work "$DATA"
  fi
  for source in "${SOURCES[@]}"; do
    stage name="ingest_$source" makes="$DATA/problems/$source" makes="$DATA/images" disk_gib="$(gib 30)" -- \
      verl-axpo data ingest "$source" --work "$DATA" "${INGEST[@]}"
  done
  stage name=dedup needs="$DATA/problems/${SOURCES[0]}" makes="$DATA/dedup" -- \
    verl-axpo data dedup --work "$DATA" "${DEDUP[@]}"
  rollouts_stage teacher "$TEACHER" "$TEACHER_URL" "$TEACHER_TP"
  stage name=sft_set needs="$DATA/rollouts/teacher.jsonl" makes="$DATA/sft" -- \
    verl-axpo data sft --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" --teacher teacher \
    "${TOOL_NAMES[@]}" --tool-share 0.25 "${SFT_SET[@]}"
}

rl_data_stages() { # the teacher's and the SFT model's successes -> $RL_FILE, $VAL_FILE
  rollouts_stage "sft_$MODEL" "$SFT_MODEL" "" 1 "$SFT_MODEL"
  stage name="rl_set_$MODEL" needs="$DATA/rollouts/sft_$MODEL.jsonl" needs="$DATA/rollouts/teacher.jsonl" \
    elsewhere="$DATA" makes="$DATA/rl" -- \
    verl-axpo data filter --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" \
    --rollouts "$DATA/rollouts/sft_$MODEL.jsonl" --teacher teacher --student "sft_$MODEL" "${TOOL_NAMES[@]}" \
    "${RL_SET[@]}"
  # Sources, problems and the SFT set are the same for all sizes; the RL set is the SFT model's own.
  stage name="rl_copy_$MODEL" needs="$DATA/rl" makes="$DATA/rl_$MODEL" -- cp -rT "$DATA/rl" "$DATA/rl_$MODEL"
}

evaluation_stages() { # evaluation_stages MODEL NAME [option...]: the nine benchmarks, the paper's way -> $OUT/eval/NAME
  local model=$1 name=$2 served
  shift 2
  read -ra served <<<"$(serving "$model" "${TP:-1}")"
  stage name="eval_$name" needs="$(folder "$model")" makes="$OUT/eval/$name" disk_gib="$(gib 30)" \
    env="$SEARCH_KEY" env="$JUDGE_KEY" server="$JUDGE_URL" -- \
    "${served[@]}" verl-axpo eval run --model "$model" --base-url "$SERVED" --out "$OUT/eval/$name" \
    --tool-response-chars "$TOOL_RESPONSE_CHARS" "${EVALUATION[@]}" "${JUDGE[@]}" "$@"
}
