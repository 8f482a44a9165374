# shellcheck shell=bash
# What the recipes share: sizes, settings, services; parts/steps.sh has the stages, parts/stages.sh runs them.
# Sourced by recipes/run_qwen3vl*.sh, make_data.sh and evaluate.sh.
#
# A recipe lists its stages in a function and calls `run_recipe` with its name. The function runs twice: first every
# `stage` only writes its command line to a plan, which `python -m verl_axpo.preflight` checks (with DRY_RUN=1 that is
# all, without a GPU); then each stage runs, unless its mark says that it has.
#
# Variables of all recipes, beside those of the script's own block:
#   DRY_RUN=1          compose and check everything, print the plan, start nothing
#   MODEL=tiny         the whole recipe with the tiny model, on a machine without an accelerator
#   RAY_ADDRESS=...    RL on an existing Ray cluster instead of this node alone; NODES says how many of its nodes
#   SETUP=0            use the Python environment that is active instead of .venv of this checkout
#   PREFLIGHT=0        start without the checks
#   PORT=8000          of the server that a stage starts for its model

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DRY_RUN=${DRY_RUN:-0}
# shellcheck source=recipes/setup_env.sh
if [ "${SETUP:-1}" = 1 ]; then source recipes/setup_env.sh; fi

# shellcheck source=recipes/parts/stages.sh
source recipes/parts/stages.sh

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
SEED=${SEED:-0} # of RL: the order of its questions; SFT has no seed, and sampling has algorithm.axpo.seed
NODES=${NODES:-1}
GPU_GIB=${GPU_GIB:-79} # what an 80 GB A100 or H100 has

# The search tool: the variable with its key. SEARCH_KEY= leaves the tool out, of data, training and evaluation.
if [ "$MODEL" = tiny ]; then SEARCH_KEY=; else SEARCH_KEY=${SEARCH_KEY-TAVILY_API_KEY}; fi
# Paid searches, a credit each, that one stage may make on each machine; past them every new search fails and the stage
# stops, to go on with a larger number. The plan shows what it expects. A config of yours (TOOLS) has `max_paid_calls`.
export SEARCH_CALLS=${SEARCH_CALLS:-50000}
# Estimated: of a hundred attempts those at a question that needs a search, each with one. Data: FVQA's 3,312 such of
# about 88,000 problems; RL: as many of 37,591; evaluation: 171 of MMSearch and 305 of HR-MMSearch, of about 4,600.
PROBLEMS=88000 EVAL_QUESTIONS=4600
DATA_SEARCHES=4 RL_SEARCHES=9 EVAL_SEARCHES=11

# Tokens that a trajectory may have more in SFT than on the teacher's server, which counted them: one row above
# SFT_LENGTH stops SFT for good. verl rounds the sides of a question's image before the processor does: up to 13 for a
# small image (measured over 19,280 sizes; docs/design/agent_runner.md, point 4), here four such. Then newlines that the
# server's chat template trims from earlier turns, and the one it writes behind the last.
SFT_SPARE=64

SFT_FILE=${SFT_FILE:-$DATA/sft/train.parquet}
RL_FILE=${RL_FILE:-$DATA/rl_$MODEL/train.parquet} VAL_FILE=${VAL_FILE:-$DATA/rl_$MODEL/val.parquet}

if [ "$MODEL" = tiny ]; then
  BASE_MODEL=${BASE_MODEL:-$DATA/world/model}
  SFT_ROWS=2048 RL_ROWS=512 GPU_GIB=0 IMAGES=8 IMAGE_TOKENS=16 ROW_IMAGES=2
  TOOLS=${TOOLS:-$DATA/world/tools.yaml} AGENT_TOOLS=$TOOLS
  TOOL_NAMES=(--tool image_zoom_in) TOOL_RESPONSE_CHARS=256
  PROMPT_LENGTH=192 RESPONSE_LENGTH=128 SFT_LENGTH=512
  BATCH=${BATCH:-16} MINI_BATCH=${MINI_BATCH:-16} LR=${LR:-2e-4}
  STEPS=${STEPS:-2} SAVE_EVERY=${SAVE_EVERY:-1} TEST_EVERY=${TEST_EVERY:-2}
  SFT_BATCH=${SFT_BATCH:-16} SFT_LR=${SFT_LR:-2e-3} SFT_STEPS=${SFT_STEPS:-150}
  HUB=(python -m verl_axpo.data.mirror "$DATA/hub" --) # where the recipes' datasets come from
  SFT_SET=(--val 16) RL_SET=(--hard -1 --val 16)
  # The policy as it is: a million parameters do not survive the paper's presence penalty.
  SAMPLING=(--temperature 1.0 --top-p 1.0 --top-k 0 --presence-penalty 0)
  EVALUATION=(--tools "$AGENT_TOOLS" --paper --limit 6 --response-tokens "$RESPONSE_LENGTH" "${SAMPLING[@]}")
else
  # The paper's, section 4, less what `data sft` and `data filter` hold out; 37,591 = 15,591 + 22,000.
  SFT_ROWS=$((64274 - 128)) RL_ROWS=$((37591 - 256))
  # For the memory estimate: a question's image and the crops and plots of three turns, each of about 2,000,000 pixels,
  # where Mini-o3 and PyVision-RL cap theirs, in tokens of 32 x 32 pixels.
  IMAGES=4 IMAGE_TOKENS=1953
  # Expected of a row, for the host's memory: the question's, and a tool's in every other row. In the paper 27 % of
  # rollouts use a tool at the first step and 28 points more at the last; not each returns an image, nor one so large.
  ROW_IMAGES=${ROW_IMAGES:-1.5}
  SHIPPED=$([ -n "$SEARCH_KEY" ] && echo paper || echo no_search)
  # What the system prompt and the schemas of SFT and RL rows name: the tools of that config, or of yours (OFFERED).
  OFFERED=${OFFERED:-python image_zoom_in$([ "${TOOLS:-$SHIPPED}" = no_search ] || echo ' tavily-search')}
  TOOL_NAMES=()
  for name in $OFFERED; do TOOL_NAMES+=(--tool "$name"); done
  # One config, by name and by path; OmegaConf expands the latter: a file of the installed package.
  AGENT_TOOLS=${TOOLS:-$SHIPPED}
  case $AGENT_TOOLS in */* | *.yaml) TOOLS=$AGENT_TOOLS ;; *) TOOLS="\${verl_axpo:tools/config/$AGENT_TOOLS.yaml}" ;; esac
  TOOL_RESPONSE_CHARS=8192 # verl's 256 would cut every search result; a choice
  # Silent in the paper. 8,192 of prompt hold three such images (5,859) beside system turn and schemas (some 600) and
  # leave 1,700 tokens to the question; four (7,812) do not fit. verl leaves out what is longer.
  # ProRL caps responses at 8k for most of its training (arXiv 2505.24864, 3.3); should `response_length/clip_ratio`
  # stay above 0.1, its last run's 16,384.
  PROMPT_LENGTH=${PROMPT_LENGTH:-8192} RESPONSE_LENGTH=${RESPONSE_LENGTH:-8192}
  SFT_LENGTH=${SFT_LENGTH:-$((PROMPT_LENGTH + RESPONSE_LENGTH))} # what is longer could not be sampled in RL either
  # ProRL 3.2: batch 256, mini-batch 64, AdamW at a constant 2e-6. Its dynamic sampling is left out: it drops the
  # all-wrong groups that AXPO restores. Its resets of reference policy and optimizer in mid-run are left out
  # as well: one pass is short, and the paper has one reference, the SFT model. Steps: one pass, a choice.
  BATCH=${BATCH:-256} MINI_BATCH=${MINI_BATCH:-64} LR=${LR:-2e-6}
  STEPS=${STEPS:-null} SAVE_EVERY=${SAVE_EVERY:-10} TEST_EVERY=${TEST_EVERY:-20}
  # SFT, silent in the paper. 1e-5 with cosine and a tenth of warm-up: Mini-o3 (sft_configs/qwen2.5-vl.yaml). 96 rows,
  # betas, decay: verl's examples/sft/vlm/run_qwen3_vl_2b_fsdp.sh. One epoch: PyVision-RL's SFT checkpoint.
  SFT_BATCH=${SFT_BATCH:-96} SFT_LR=${SFT_LR:-1e-5} SFT_STEPS=${SFT_STEPS:-null}
  HUB=() SFT_SET=() RL_SET=() # the hub of Hugging Face, or the one that HF_ENDPOINT names
  SAMPLING=() # silent in the paper for the attempts: the evaluation's, which are our defaults
  EVALUATION=(--tools "$AGENT_TOOLS" --paper)
fi

SOURCES=(virl39k fvqa pyvision mmfinereason) INGEST=()

# ------------------------------ services ------------------------------
export PORT=${PORT:-8000}
SERVED=http://127.0.0.1:$PORT/v1 # by recipes/serve.sh
# The paper's teacher, by hub id; served here on all GPUs unless TEACHER_URL names a server that has it already.
if [ "$MODEL" = tiny ]; then TEACHER=$DATA/teacher/checkpoint; else TEACHER=${TEACHER:-Qwen/Qwen3-VL-32B-Thinking}; fi
TEACHER_URL=${TEACHER_URL:-}
if [ "$MODEL" = tiny ]; then TEACHER_TP=1; else TEACHER_TP=${TEACHER_TP:-2}; fi # 66 GB of weights on two GPUs
JUDGE_URL=${JUDGE_URL:-} JUDGE_MODEL=${JUDGE_MODEL:-} # OpenAI-compatible, for answers that no rule decides
if [ -n "$JUDGE_MODEL" ] && [ -z "$JUDGE_URL" ]; then
  fail "got JUDGE_MODEL=$JUDGE_MODEL without JUDGE_URL" \
    "add JUDGE_URL=https://api.openai.com/v1 or that of your server, or leave both out"
elif [ -z "$JUDGE_MODEL" ] && [ -n "$JUDGE_URL" ]; then
  fail "got JUDGE_URL=$JUDGE_URL without JUDGE_MODEL" "add JUDGE_MODEL, its name on that server, or leave both out"
fi
JUDGE_KEY=$([ -z "$JUDGE_MODEL" ] || echo OPENAI_API_KEY)
# Evaluation samples up to 32,768 tokens behind the prompt, of which an image of HR-Bench-8K takes 16,384 (7680 x 4320,
# scaled to Qwen3-VL's limit of 16.7 million pixels, 32 x 32 a token). The model reads 262,144.
SERVE_LENGTH=$([ "$MODEL" = tiny ] && echo 1024 || echo 65536)
export SERVE_ON=$([ "$MODEL" = tiny ] && echo cpu || echo gpu)
MAX_FAILED=${MAX_FAILED:-0.01} # share of rollouts that may end without a result: one that always fails stops no recipe
MAX_UNDECIDED=${MAX_UNDECIDED:-0.1} # share of problems that this may leave undecided: each has eight attempts
REWARD=() JUDGE=()
if [ -n "$JUDGE_MODEL" ]; then
  # -1: not sent; OpenAI's reasoning models take no temperature but their own
  JUDGE_TEMPERATURE=${JUDGE_TEMPERATURE:-0}
  JUDGE=(--judge-model "$JUDGE_MODEL" --judge-url "$JUDGE_URL" --judge-temperature "$JUDGE_TEMPERATURE")
  judge="base_url:'$JUDGE_URL',model:'$JUDGE_MODEL',temperature:${JUDGE_TEMPERATURE/#-*/null}"
  REWARD=(+reward.custom_reward_function.reward_kwargs.judge="{$judge}")
  INGEST+=(--judge-above-words 5) # longer answers than that match in no word for word comparison; a choice
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
    # 2 of the 3 turns carry out a call, python returns up to 4 pictures: 8 are left for the question, as in Math-VR
    +actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt='{image:16,video:0}'
    trainer.n_gpus_per_node="$GPUS"
    trainer.nnodes="$NODES" # with RAY_ADDRESS, which Ray reads by itself, the nodes of that cluster
  )
fi

# shellcheck source=recipes/parts/steps.sh
source recipes/parts/steps.sh
