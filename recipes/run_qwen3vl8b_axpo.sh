#!/usr/bin/env bash
# The paper's run, whole: data -> SFT -> RL set -> AXPO -> nine benchmarks, Qwen3-VL-8B-Thinking.
#
#   bash recipes/run_qwen3vl8b_axpo.sh                            everything; stages that are done are skipped
#   DRY_RUN=1 bash recipes/run_qwen3vl8b_axpo.sh                  check everything without a GPU, start nothing
#   MODEL=tiny bash recipes/run_qwen3vl8b_axpo.sh                 the same stages in miniature, without a GPU
#   bash recipes/run_qwen3vl8b_axpo.sh trainer.save_freq=5        any override of verl's main_ppo, for the AXPO stage
#   RAY_ADDRESS=auto NODES=4 bash recipes/run_qwen3vl8b_axpo.sh   the AXPO stage on an existing Ray cluster
#
# Needs: 8 GPUs of 80 GB; for the other sizes MODEL=2b or MODEL=4b. Disk: about 1.1 TB (checkpoints 561 GB, data and the
# teacher's trajectories 450 GB, models 84 GB), 1.4 TB once both trainings were interrupted (a third checkpoint each).
# Host memory: about 387 GiB, most of it the images of a step. All of them estimates. Network: Hugging Face, the search.
# Keys: TAVILY_API_KEY of a plan with room for SEARCH_CALLS (SEARCH_KEY= leaves the search tool out, everywhere);
# JUDGE_URL, JUDGE_MODEL and OPENAI_API_KEY for what no rule decides.
# Time: days, most of them in the teacher's trajectories and in AXPO; docs/reproduce.md has the estimates.
# Ctrl-C at any time: the same command goes on where it stood, inside a stage as well. Each stage writes its mark last
# (outputs/qwen3vl_8b/marks/); removing a mark runs the stage again, and what is made from its result.
set -euo pipefail

# ------------------------------ yours to adjust ------------------------------
MODEL=${MODEL:-8b}           # 2b | 4b | 8b | tiny
GPUS=${GPUS:-8}              # of this node
SEED=${SEED:-0}              # of RL: the order of its questions
TEACHER_URL=${TEACHER_URL:-} # of a server that runs the teacher already; empty: served here, on all GPUs, with
TEACHER_TP=${TEACHER_TP:-2}  # of them for a replica: its weights are 66 GB
SEARCH_CALLS=${SEARCH_CALLS:-50000} # paid searches of each stage at most; the plan shows how many it expects
JUDGE_URL=${JUDGE_URL:-}     # of the judge, OpenAI-compatible, with its
JUDGE_MODEL=${JUDGE_MODEL:-} # name; the key is in OPENAI_API_KEY
SFT_MODEL=${SFT_MODEL:-}     # of an earlier run, for another seed or an ablation; empty: made here
OUT=${OUT:-}                 # empty: outputs/qwen3vl_8b
DATA=${DATA:-}               # empty: outputs/data, shared by the three sizes

# ------------------------------ launch ------------------------------
# shellcheck source=recipes/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
stages() {
  sft_data_stages
  # shellcheck disable=SC2119 # the overrides are AXPO's; for SFT's run run_qwen3vl8b_sft.sh first, this then skips it
  if [ -n "$SFT_MODEL_FROM" ]; then sft_stage; fi # not where SFT_MODEL names one that is there
  rl_data_stages
  rl_stage axpo "$@"
  evaluation_stages "$OUT/axpo/checkpoint" axpo
}
run_recipe stages "$@"
