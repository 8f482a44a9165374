"""verl's own opinion of a config: DictConfig -> its dataclasses and validate_config -> what they refuse.

Everything is really built, except the model's dataclass, which would download the model: its keys and types are
compared instead. `validate_config` is the one our plugin completes, so AXPO's refusals come from there as well.
"""

import contextlib
import dataclasses
import io
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.preflight.problems import Finding, problem

# What verl's workers turn into dataclasses; the actor's is built in validate_config.
RL_PARTS = (
    "actor_rollout_ref.rollout",
    "actor_rollout_ref.rollout.checkpoint_engine",
    "actor_rollout_ref.ref",
)
# verl's workers rename these before they build the reference model's config (verl/workers/engine_workers.py).
REFERENCE_KEYS = {
    "log_prob_micro_batch_size": "ppo_micro_batch_size",
    "log_prob_micro_batch_size_per_gpu": "ppo_micro_batch_size_per_gpu",
    "log_prob_use_dynamic_bsz": "use_dynamic_bsz",
    "log_prob_max_token_len_per_gpu": "ppo_max_token_len_per_gpu",
}
SFT_PARTS = ("engine", "optim", "checkpoint", "profiler")
MODELS = {"rl": "actor_rollout_ref.model", "sft": "model"}


def check(config: DictConfig, kind: str) -> Iterator[Finding]:
    """Every part that verl would refuse, each under the part's name."""
    for part in RL_PARTS if kind == "rl" else SFT_PARTS:
        yield from _refused(f"verl: {part}", lambda part=part: _build(config, part))  # type: ignore[misc]
    yield from _refused(f"verl: {MODELS[kind]}", lambda: _compare_model(config, MODELS[kind]))
    if kind == "rl":
        yield from _refused("verl: validate_config", lambda: _validate(config))


def _refused(name: str, attempt: Callable[[], None]) -> Iterator[Finding]:
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()
    except Exception as error:  # whatever a dataclass, Hydra or OmegaConf raises: it is shown
        yield problem(name, _told(error.__cause__ or error), "change the keys that the message names")


def _told(error: BaseException) -> str:
    """The message; for a bare `assert`, its line."""
    line = traceback.extract_tb(error.__traceback__)[-1].line
    return str(error) or f"{type(error).__name__}: {line}"


def _build(config: DictConfig, part: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    node = OmegaConf.create(OmegaConf.to_container(OmegaConf.select(config, part), resolve=True))
    if part == "actor_rollout_ref.ref":
        for theirs, actors in REFERENCE_KEYS.items():
            node[actors] = node.pop(theirs, None)
    omega_conf_to_dataclass(node)


def _compare_model(config: DictConfig, part: str) -> None:
    """The keys of HFModelConfig; building one loads tokenizer and weights' index from the hub."""
    from verl.workers.config import HFModelConfig

    known = {field.name for field in dataclasses.fields(HFModelConfig)} | {"_target_"}
    node = OmegaConf.to_container(OmegaConf.select(config, part), resolve=True)
    assert isinstance(node, Mapping)
    unknown = sorted(set(map(str, node)) - known)
    if unknown:
        raise ValueError(
            f"unknown keys {[f'{part}.{key}' for key in unknown]}; verl's HFModelConfig has {sorted(known)}"
        )


def _validate(config: DictConfig) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from verl_axpo.integration.startup import planned

    arguments: dict[str, Any] = {
        "config": config,
        "use_reference_policy": need_reference_policy(config),
        "use_critic": need_critic(config),
    }
    with planned():  # files.py and rules.py look at what the run will read
        validate_config(**arguments)
