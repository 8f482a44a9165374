# shellcheck shell=bash
# The stages that recipes are made of: data, SFT, RL, rollouts of a served model. Sourced by recipes/common.sh, which
# has all settings.

# ------------------------------ training ------------------------------
folder() { # folder MODEL: the folder that must be there, nothing for a hub id
  if [ -d "$1" ] || [ "${1#/}" != "$1" ]; then echo "$1"; fi
}

searches() { # searches PERCENT [ATTEMPTS]: what the plan holds SEARCH_CALLS against; it counts a training's by itself
  if [ "$AGENT_TOOLS" = paper ]; then echo "search_percent=$1 search_calls=$SEARCH_CALLS search_attempts=${2:-0}"; fi
}

logger() { # wandb where there is a key for it, always the console and a file
  if [ -n "${WANDB_API_KEY:-}" ]; then echo '[console,file,wandb]'; else echo '[console,file]'; fi
}

sft_stage() { # sft_stage [override...]: base model + trajectories -> $SFT_MODEL
  VERL_FILE_LOGGER_PATH=$OUT/sft/metrics_$(date +%s).jsonl \
    stage name=sft kind=sft total="$SFT_STEPS" makes="$OUT/sft" elsewhere="$SFT_FILE_FROM" after="$SFT_FILE" base="$BASE_SHAPE" \
    rows="$SFT_ROWS" images="$IMAGES" image_tokens="$IMAGE_TOKENS" gpu_gib="$GPU_GIB" -- \
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
    trainer.default_local_dir="$OUT/sft/steps" \
    trainer.project_name=verl_axpo \
    trainer.experiment_name="sft_$MODEL" \
    trainer.logger="$(logger)" \
    checkpoint.save_contents='[model,optimizer,extra,hf_model]' \
    "${SFT_MACHINE[@]}" "$@"
  stage name=sft_checkpoint after="$OUT/sft/steps" makes="$OUT/sft/checkpoint" -- \
    bash recipes/export.sh "$OUT/sft/steps" huggingface "$OUT/sft/checkpoint"
}

rl_stage() { # rl_stage ARM [override...]: SFT model + RL set -> $OUT/ARM
  local arm=$1 run=$OUT/$1 budget metrics cluster=() search
  shift
  read -ra search <<<"$(searches "$RL_SEARCHES")"
  metrics=$run/metrics_$(date +%s).jsonl # one per start: verl's file logger begins anew
  # Both are read in Ray's actors, which on a cluster that runs already do not have our environment.
  if [ -n "${RAY_ADDRESS:-}" ]; then
    cluster=(
      +ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH="$metrics"
      +ray_kwargs.ray_init.runtime_env.env_vars.SEARCH_RUN="$OUT/marks/$arm"
      +ray_kwargs.ray_init.runtime_env.env_vars.SEARCH_CALLS="'$SEARCH_CALLS'" # Ray takes words only
    )
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
    elsewhere="$RL_FILE_FROM" elsewhere="$VAL_FILE_FROM" after="$RL_FILE" after="$VAL_FILE" base="$BASE_SHAPE" \
    rows="$RL_ROWS" images="$IMAGES" image_tokens="$IMAGE_TOKENS" row_images="$ROW_IMAGES" "${search[@]}" \
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
  stage name="${arm}_checkpoint" after="$run/checkpoints" makes="$run/checkpoint" -- \
    bash recipes/export.sh "$run/checkpoints" actor/huggingface "$run/checkpoint"
  stage name="${arm}_report" after="$run/checkpoints" makes="$run/report.md" -- \
    bash recipes/finish.sh "$run" "$arm" "$SEED"
}

# ------------------------------ data and evaluation ------------------------------
gib() { # gib SIZE: roughly what a stage writes at full size; the tiny one writes next to nothing
  if [ "$MODEL" = tiny ]; then echo 0; else echo "$1"; fi
}

serving() { # serving MODEL TP: SERVING, the words in front of a command that needs a server of that model
  SERVING=(
    env GPUS="$GPUS" TP="$2" LENGTH="$SERVE_LENGTH" LOG="$OUT/logs/server.log" bash recipes/serve.sh "$1" --
  )
}

rollouts_stage() { # rollouts_stage NAME MODEL URL TP [FOLDER]: 4 attempts at a problem -> $DATA/rollouts/NAME.jsonl
  local name=$1 model=$2 url=$3 SERVING=() search
  local base=${5:+$BASE_SHAPE} # of a checkpoint that is not there yet; the teacher goes by its own name
  if [ -z "$url" ]; then serving "$model" "$4"; fi
  read -ra search <<<"$(searches "$DATA_SEARCHES" $((4 * PROBLEMS)))"
  stage name="attempts_$name" needs="$DATA/dedup" needs="${5:-}" weights="${5:-}" elsewhere="$DATA" \
    elsewhere="$SFT_MODEL_FROM" base="$base" makes="$DATA/runs/$name" disk_gib="$(gib 100)" gpu_gib="$GPU_GIB" \
    "${search[@]}" env="$SEARCH_KEY" env="$JUDGE_KEY" server="$url" server="$JUDGE_URL" -- \
    "${SERVING[@]}" verl-axpo eval run --registry verl_axpo.data.questions --source problems="$DATA" \
    --benchmark problems --model "$model" --base-url "${url:-$SERVED}" --rollouts 4 --tools "$AGENT_TOOLS" \
    --max-turns 3 --response-tokens "$RESPONSE_LENGTH" --tool-response-chars "$TOOL_RESPONSE_CHARS" "${SAMPLING[@]}" \
    --max-failed "$MAX_FAILED" "${JUDGE[@]}" --out "$DATA/runs/$name"
  stage name="collect_$name" needs="$DATA/runs/$name" elsewhere="$DATA" makes="$DATA/rollouts/$name.jsonl" -- \
    verl-axpo data collect "$DATA/runs/$name" --work "$DATA" --model "$name" --out "$DATA/rollouts/$name.jsonl"
}

sft_data_stages() { # sources -> problems -> teacher's attempts -> $SFT_FILE
  local source ingested=()
  if [ "$MODEL" = tiny ]; then
    stage name=world makes="$DATA/world" -- \
      python -m verl_axpo.data.tiny --out "$DATA/world" --families perception --train 1 # the hub has the questions
    stage name=hub makes="$DATA/hub" -- \
      python -m verl_axpo.data.tiny.hub --out "$DATA/hub" --families perception --rows 512
    stage name=teacher needs="$DATA/world" makes="$DATA/teacher" -- \
      env -u STEPS -u LR -u BATCH DATA="$DATA/world" OUT="$DATA/teacher" FAST=1 bash recipes/tiny_sft.sh
  fi
  for source in "${SOURCES[@]}"; do
    stage name="fetch_$source" after="$DATA/hub" makes="$DATA/raw/$source" disk_gib="$(gib 30)" -- \
      "${HUB[@]}" verl-axpo data fetch "$source" --work "$DATA"
  done
  stage name=benchmarks after="$DATA/hub" makes="$DATA/benchmarks.jsonl" disk_gib="$(gib 20)" -- \
    "${HUB[@]}" verl-axpo data benchmarks --work "$DATA"
  for source in "${SOURCES[@]}"; do
    ingested+=(after="$DATA/problems/$source")
    stage name="ingest_$source" after="$DATA/raw/$source" makes="$DATA/problems/$source" \
      makes="$DATA/images" disk_gib="$(gib 30)" -- \
      verl-axpo data ingest "$source" --work "$DATA" "${INGEST[@]}"
  done
  stage name=dedup needs="$DATA/problems/${SOURCES[0]}" "${ingested[@]}" after="$DATA/benchmarks.jsonl" \
    makes="$DATA/dedup" -- \
    verl-axpo data dedup --work "$DATA"
  rollouts_stage teacher "$TEACHER" "$TEACHER_URL" "$TEACHER_TP"
  stage name=sft_set needs="$DATA/rollouts/teacher.jsonl" after="$DATA/dedup" makes="$DATA/sft" -- \
    verl-axpo data sft --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" --teacher teacher \
    "${TOOL_NAMES[@]}" --tool-share 0.25 --max-tokens $((SFT_LENGTH - SFT_SPARE)) "${SFT_SET[@]}"
}

rl_data_stages() { # the teacher's and the SFT model's successes -> $RL_FILE, $VAL_FILE
  local attempts=$DATA/marks/attempts_sft_$MODEL
  if [ -e "$attempts" ] && ! grep -qF -- "--model $(printf '%q' "$SFT_MODEL") " "$attempts"; then
    fail "got the SFT model $SFT_MODEL, but the RL set in $DATA/rl_$MODEL is that of another one (see $attempts)" \
      "SFT_MODEL=that one, for another seed or an ablation; or a DATA of its own for a new SFT model"
  fi
  rollouts_stage "sft_$MODEL" "$SFT_MODEL" "" 1 "$SFT_MODEL"
  # Sources, problems and the SFT set are the same for all sizes; the RL set is the SFT model's own.
  stage name="rl_set_$MODEL" needs="$DATA/rollouts/sft_$MODEL.jsonl" needs="$DATA/rollouts/teacher.jsonl" \
    after="$DATA/dedup" after="$DATA/sft/selected.jsonl" elsewhere="$DATA" makes="$DATA/rl_$MODEL" -- \
    verl-axpo data filter --work "$DATA" --rollouts "$DATA/rollouts/teacher.jsonl" \
    --rollouts "$DATA/rollouts/sft_$MODEL.jsonl" --teacher teacher --student "sft_$MODEL" "${TOOL_NAMES[@]}" \
    --undecided drop --max-undecided "$MAX_UNDECIDED" "${RL_SET[@]}" --out "$DATA/rl_$MODEL"
}

evaluation_stages() { # evaluation_stages MODEL NAME [option...]: the nine benchmarks, the paper's way -> $OUT/eval/NAME
  local model=$1 name=$2 SERVING=() search
  shift 2
  serving "$model" "${TP:-1}"
  read -ra search <<<"$(searches "$EVAL_SEARCHES" $((4 * EVAL_QUESTIONS)))"
  stage name="eval_$name" needs="$(folder "$model")" weights="$(folder "$model")" makes="$OUT/eval/$name" \
    base="$([ -z "$(folder "$model")" ] || echo "$BASE_SHAPE")" disk_gib="$(gib 30)" gpu_gib="$GPU_GIB" \
    "${search[@]}" env="$SEARCH_KEY" env="$JUDGE_KEY" server="$JUDGE_URL" -- \
    "${SERVING[@]}" "${HUB[@]}" verl-axpo eval run --model "$model" --base-url "$SERVED" --out "$OUT/eval/$name" \
    --tool-response-chars "$TOOL_RESPONSE_CHARS" --max-failed "$MAX_FAILED" "${EVALUATION[@]}" "${JUDGE[@]}" "$@"
}
