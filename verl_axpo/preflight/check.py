"""All checks of a plan that need no hardware: stages -> config, verl's opinion, our rules, files, memory -> Report.

A stage's inputs may be made by a stage before it, or by another recipe while nothing starts yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_axpo.preflight import host, rules
from verl_axpo.preflight.compose import compose
from verl_axpo.preflight.files import check_files, is_coming, listed
from verl_axpo.preflight.memory import (
    NO_HOST,
    Phase,
    Setting,
    checkpoint_gib,
    host_phase,
    kv_tokens,
    rollout_phase,
    update_phase,
)
from verl_axpo.preflight.problems import Finding, fine, problem
from verl_axpo.preflight.search import check_searches
from verl_axpo.preflight.served import check_served
from verl_axpo.preflight.shapes import ModelShape, shape_of
from verl_axpo.preflight.sizes import Sizes, processes_of, rl_setting, sft_setting, sizes_of
from verl_axpo.preflight.stages import Stage

MODEL_KEYS = {"rl": "actor_rollout_ref.model.path", "sft": "model.path"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known about one stage; the figures are None where its config could not be composed, or it has none."""

    stage: Stage
    findings: list[Finding] = field(default_factory=list)
    config: DictConfig | None = None
    shape: ModelShape | None = None
    setting: Setting | None = None
    sizes: Sizes | None = None
    phases: tuple[Phase, ...] = ()
    host: Phase = NO_HOST
    checkpoint_gib: float = 0.0
    kv_tokens: int = 0

    @property
    def ok(self) -> bool:
        """No finding is red."""
        return all(one.ok for one in self.findings)


def check_plan(stages: Sequence[Stage], *, starting: bool) -> list[Report]:
    """Every stage in order.

    Args:
        stages: the recipe's.
        starting: the run starts now, so that what other recipes make must be there.
    """
    reports: list[Report] = []
    coming: list[str] = []
    for stage in stages:
        elsewhere = () if starting else stage.elsewhere
        reports.append(check_stage(stage, [*coming, *elsewhere]))
        coming += stage.makes
    return reports


def check_stage(stage: Stage, coming: Sequence[str]) -> Report:
    """One stage, before which those that make `coming` have run; one that is done has nothing left to check."""
    if stage.done:
        return Report(stage=stage)
    findings = list(_check_needs(stage, coming))
    if stage.kind == "command":
        findings += [*check_served(stage), *check_searches(stage)]
        return Report(stage=stage, findings=findings)
    config = compose(stage)
    if isinstance(config, Finding):
        return Report(stage=stage, findings=[*findings, config])
    findings += host.check(config, stage.kind)
    shape = _shape(config, stage, coming)
    if isinstance(shape, Finding):
        return Report(stage=stage, findings=[*findings, shape], config=config)
    return _check_training(stage, coming, config, shape, findings)


def _check_training(
    stage: Stage, coming: Sequence[str], config: DictConfig, shape: ModelShape, findings: list[Finding]
) -> Report:
    gpus = processes_of(stage)
    setting = rl_setting(config, stage) if stage.kind == "rl" else sft_setting(config, stage, gpus)
    findings += rules.check_rl(config, shape, coming) if stage.kind == "rl" else rules.check_sft(config, shape, gpus)
    for key in ("data.train_files", "data.val_files"):
        findings += check_files(key, listed(OmegaConf.select(config, key)), stage.kind, coming)
    sizes = sizes_of(config, stage)
    findings += [*_check_steps(sizes, config), *check_searches(stage, sizes)]
    phases: tuple[Phase, ...] = (update_phase(shape, setting),)
    if setting.utilization:
        phases += (rollout_phase(shape, setting, stage.gpu_gib),)
    tokens = kv_tokens(shape, setting, stage.gpu_gib) if setting.utilization and stage.gpu_gib else 0
    if stage.gpu_gib:
        findings += _check_memory(stage, phases, tokens, sizes)
    return Report(
        stage=stage,
        findings=findings,
        config=config,
        shape=shape,
        setting=setting,
        sizes=sizes,
        phases=phases,
        host=host_phase(shape, setting, reference=stage.kind == "rl"),
        checkpoint_gib=checkpoint_gib(shape),
        kv_tokens=tokens,
    )


def _check_needs(stage: Stage, coming: Sequence[str]) -> Iterator[Finding]:
    for path in map(Path, stage.needs):
        if path.expanduser().exists():
            continue
        if is_coming(path, coming):
            yield fine("needs", f"{path} is not there yet: an earlier stage or recipe makes it")
        else:
            yield problem("needs", f"{path} is not there, and no stage before makes it", "run the recipe that makes it")


def _shape(config: DictConfig, stage: Stage, coming: Sequence[str]) -> ModelShape | Finding:
    """The model's shape; a checkpoint that is not trained yet has that of the model it starts from."""
    path = str(OmegaConf.select(config, MODEL_KEYS[stage.kind]))
    untrained = not Path(path).exists() and (path in stage.needs or is_coming(Path(path), coming))
    known = stage.base if stage.base and untrained else path
    try:
        return shape_of(known)
    except ValueError as error:
        fix = f"set {MODEL_KEYS[stage.kind]} to a hub id or folder of a Qwen3-VL"
        return problem(MODEL_KEYS[stage.kind], str(error), fix)


def _check_steps(sizes: Sizes, config: DictConfig) -> Iterator[Finding]:
    if sizes.steps < 1:
        found = f"{sizes.rows} rows make no batch of {config.data.train_batch_size}"
        yield problem(
            "data.train_batch_size", found, "use more rows or a smaller batch: the last, partial one is dropped"
        )


def _check_memory(stage: Stage, phases: Sequence[Phase], tokens: int, sizes: Sizes) -> Iterator[Finding]:
    for phase in phases:
        found = f"about {phase.gib:.1f} of {stage.gpu_gib:g} GiB on each GPU"
        if phase.gib <= stage.gpu_gib:
            yield fine(f"memory, {phase.name}", found)
        else:
            yield problem(f"memory, {phase.name}", found, _memory_advice(phase, stage.kind))
    if sizes.window and tokens < sizes.window:
        yield problem(
            "memory, rollout",
            f"room for {tokens:,} tokens of keys and values, one rollout may have {sizes.window:,}",
            "raise actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size",
        )


def _memory_advice(phase: Phase, kind: str) -> str:
    """What helps against the largest term of the phase."""
    engine = "actor_rollout_ref.actor.fsdp_config" if kind == "rl" else "engine"
    budget = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu" if kind == "rl" else "data.max_token_len_per_gpu"
    if phase.name == "rollout":
        return (
            "lower actor_rollout_ref.rollout.gpu_memory_utilization, or set "
            f"{engine}.param_offload=True {engine}.optimizer_offload=True"
        )
    largest = max(phase.terms, key=lambda term: term.gib)
    if "moments" in largest.name:
        return f"use more GPUs (GPUS=8), or set {engine}.offload_policy=True: weights and moments stay in host memory"
    return f"lower {budget} (now: {largest.name}, {largest.gib:.1f} GiB)"
