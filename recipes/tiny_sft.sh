#!/usr/bin/env bash
# SFT of the tiny Qwen3-VL on its world's demonstrations, with verl's own sft_trainer on the CPU.
#
#   DATA=outputs/world OUT=outputs/sft bash recipes/tiny_sft.sh [override...]     -> $OUT/checkpoint, a Hugging Face model
#
# DATA is what `python -m verl_axpo.data.tiny --out DATA` made. A healthy run ends with a loss near 0.15 (FAST: near 0.22);
# what is left is the teacher's dice: to call or not, where to aim, what to guess. Interrupted, it goes on from its last save.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ------------------------------ yours to adjust ------------------------------
FAST=${FAST:-0}                            # 1: a minute or two, well-formed trajectories, not yet a reader of glyphs
DATA=${DATA:-outputs/world}
OUT=${OUT:-outputs/sft}
BATCH=${BATCH:-16}                         # rows of an update
STEPS=${STEPS:-$([ "$FAST" = 1 ] && echo 150 || echo 1200)}
LR=${LR:-2e-3}                             # a million parameters take a rate far above a real model's

# ------------------------------ derived ------------------------------
if [ "${SETUP:-1}" = 1 ]; then source recipes/setup_env.sh; fi
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
DATA=$(realpath "$DATA")
# One process: the variables torchrun would set, without its second process.
export RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 LOCAL_WORLD_SIZE=1 MASTER_ADDR=127.0.0.1
MASTER_PORT=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MASTER_PORT TOKENIZERS_PARALLELISM=false HYDRA_FULL_ERROR=1
# A waiting thread sleeps: two that spin take ten times as long when another process wants a core.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

# ------------------------------ arguments ------------------------------
arguments=(
  +platform=cpu_sft
  hydra.run.dir="$OUT/hydra"
  model.path="$DATA/model"
  data.train_files="$DATA/sft_train.parquet"
  data.train_batch_size="$BATCH"
  data.micro_batch_size_per_gpu="$BATCH"
  data.custom_cls.path=pkg://verl_axpo.integration.sft_dataset # tools as JSON text, see there
  data.custom_cls.name=SftDataset
  data.use_dynamic_bsz=false
  data.num_workers=1 # rows cost as much time as the model: on a core of their own
  data.max_length=512
  optim.lr="$LR"
  optim.betas='[0.9,0.95]'
  optim.lr_scheduler_type=cosine
  optim.lr_warmup_steps=20
  optim.min_lr_ratio=0.05
  trainer.total_epochs=1000
  trainer.total_training_steps="$STEPS"
  trainer.save_freq=100
  trainer.max_ckpt_to_keep=1
  trainer.default_local_dir="$OUT/steps"
  trainer.project_name=tiny
  trainer.experiment_name=sft
  checkpoint.save_contents='[model,optimizer,extra,hf_model]'
)

# ------------------------------ launch ------------------------------
python -m verl_axpo.progress --title "SFT ($STEPS steps)" --total "$STEPS" --log "$OUT/sft.log" -- \
  python -m verl.trainer.sft_trainer "${arguments[@]}" "$@"
rm -rf "$OUT/checkpoint"
cp -r "$OUT/steps/global_step_$STEPS/huggingface" "$OUT/checkpoint"
echo "SFT checkpoint: $OUT/checkpoint"
