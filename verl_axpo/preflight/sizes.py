"""The numbers of a training stage: composed config + Stage -> rows, steps, tokens per step, the memory's Setting."""

from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.preflight.files import count_rows, listed
from verl_axpo.preflight.memory import Setting
from verl_axpo.preflight.rules import gpus_of
from verl_axpo.preflight.stages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a training stage amounts to; `counted` says that `rows` was read from the file, not expected."""

    rows: int
    counted: bool
    steps: int
    tokens_per_step: int
    rollouts_per_step: int = 0
    continuations_per_step: int = 0
    window: int = 0  # of the rollout engine, tokens


def sizes_of(config: DictConfig, stage: Stage) -> Sizes:
    """Rows, steps, and the most tokens one step can have."""
    found = count_rows(listed(config.data.train_files))
    rows, counted = (found, True) if found else (stage.rows, False)
    steps = config.trainer.total_training_steps or rows // config.data.train_batch_size * config.trainer.total_epochs
    if stage.kind == "sft":
        tokens = config.data.train_batch_size * config.data.max_length
        return Sizes(rows=rows, counted=counted, steps=int(steps), tokens_per_step=tokens)
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    extra = continuations(config)
    row = config.data.max_prompt_length + config.data.max_response_length
    return Sizes(
        rows=rows,
        counted=counted,
        steps=int(steps),
        tokens_per_step=(rollouts + extra) * row,
        rollouts_per_step=rollouts,
        continuations_per_step=extra,
        window=config.actor_rollout_ref.rollout.max_model_len or row,
    )


def continuations(config: DictConfig) -> int:
    """The most extra continuations of a step, floor(r B N / K) K; 0 with any other estimator."""
    if config.algorithm.adv_estimator != "axpo":
        return 0
    try:
        axpo = AxpoConfig.from_mapping(OmegaConf.select(config, "algorithm.axpo") or {})
    except ValueError:  # told by validate_config
        return 0
    prefixes = max_prefixes(config.data.train_batch_size, config.actor_rollout_ref.rollout.n, axpo)
    return prefixes * axpo.num_continuations


def rl_setting(config: DictConfig, stage: Stage) -> Setting:
    """What the memory of an RL stage depends on."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    row = config.data.max_prompt_length + config.data.max_response_length
    tokens = actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else actor.ppo_micro_batch_size_per_gpu * row
    engine = actor.fsdp_config
    return Setting(
        gpus=gpus_of(config),
        tokens=tokens,
        image_tokens=image_tokens(stage, tokens, row),
        nodes=int(config.trainer.nnodes),
        questions=config.data.train_batch_size,
        rows=config.data.train_batch_size * rollout.n + continuations(config),
        row_image_tokens=min(row, stage.row_images * stage.image_tokens),
        question_image_tokens=min(config.data.max_prompt_length, stage.image_tokens),
        offload_policy=engine.offload_policy,
        param_offload=engine.param_offload,
        optimizer_offload=engine.optimizer_offload,
        fused_kernels=config.actor_rollout_ref.model.use_fused_kernels,
        checkpointing=config.actor_rollout_ref.model.enable_gradient_checkpointing,
        tensor_parallel=rollout.tensor_model_parallel_size,
        utilization=rollout.gpu_memory_utilization,
    )


def sft_setting(config: DictConfig, stage: Stage, gpus: int) -> Setting:
    """What the memory of a supervised stage on `gpus` processes depends on."""
    data, engine = config.data, config.engine
    tokens = data.max_token_len_per_gpu if data.use_dynamic_bsz else data.micro_batch_size_per_gpu * data.max_length
    return Setting(
        gpus=gpus,
        tokens=tokens,
        image_tokens=image_tokens(stage, tokens, data.max_length),
        offload_policy=engine.offload_policy,
        param_offload=engine.param_offload,
        optimizer_offload=engine.optimizer_offload,
        fused_kernels=config.model.use_fused_kernels,
        checkpointing=config.model.enable_gradient_checkpointing,
    )


def image_tokens(stage: Stage, tokens: int, row: int) -> int:
    """The most image tokens in a micro-batch of `tokens` made of rows of at most `row` tokens."""
    return min(tokens, max(1, tokens // row) * stage.images * stage.image_tokens)


def processes_of(stage: Stage) -> int:
    """GPUs of a supervised stage: what torchrun starts on this node; 1 without torchrun."""
    for word in stage.argv:
        key, _, value = word.partition("=")
        if key in ("--nproc-per-node", "--nproc_per_node"):
            return int(value)
    return 1
