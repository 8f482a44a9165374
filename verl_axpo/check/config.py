"""verl's own opinion of a composed config, with AXPO's rules in it, and what verl would notice too late."""

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.check.command import Kind
from verl_axpo.doctor import Finding, fine, problem
from verl_axpo.integration.startup import planned

# What verl's workers turn into dataclasses; the actor's is built in validate_config.
PARTS: dict[Kind, tuple[str, ...]] = {
    "rl": ("actor_rollout_ref.rollout", "actor_rollout_ref.rollout.checkpoint_engine"),
    "sft": ("engine", "optim", "checkpoint", "profiler"),
}
_ACTOR, _ROLLOUT, _REF = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.ref"
# Numbers that verl takes as they are, whatever their sign: above 0, and at least 0
ABOVE_ZERO: dict[Kind, tuple[str, ...]] = {
    "rl": (f"{_ACTOR}.optim.lr", f"{_ACTOR}.clip_ratio_low", f"{_ACTOR}.clip_ratio_high", f"{_ROLLOUT}.temperature"),
    "sft": ("optim.lr",),
}
Broken = tuple[str, str, str]  # what it is about, what was found, what to change


def check_config(config: DictConfig, kind: Kind, *, starting: bool) -> Iterator[Finding]:
    """verl's own opinion of a config: its dataclasses, and `validate_config` with AXPO's completion and rules in it.

    Args:
        config: composed; AXPO's completion changes it.
        kind: which trainer.
        starting: it starts now, so that what it reads must be there; otherwise an earlier command may make it.
    """
    refused: list[Finding] = []
    for part in PARTS[kind]:
        refused += _refused(f"verl: {part}", lambda part=part: _build(config, part))  # type: ignore[misc]
    if kind == "rl":
        with contextlib.nullcontext() if starting else planned():
            refused += _refused("verl: validate_config", lambda: _validate(config))
    refused += [problem(*broken) for broken in (*_values(config, kind), *_lengths(config, kind))]
    yield from refused or [fine("config", "composes, and verl accepts it")]


def _values(config: DictConfig, kind: Kind) -> Iterator[Broken]:
    """Numbers without a meaning."""
    for key in ABOVE_ZERO[kind]:
        value = OmegaConf.select(config, key)
        if value is not None and float(value) <= 0:
            yield key, str(value), f"set {key} to a number above 0"
    if kind == "sft":
        return
    coefficient = OmegaConf.select(config, f"{_ACTOR}.kl_loss_coef")
    if coefficient < 0:
        yield f"{_ACTOR}.kl_loss_coef", f"{coefficient} rewards distance from the SFT model", "set it to 0 or more"
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if mini <= 0 or batch % mini:
        found = f"{batch} questions do not divide into mini-batches of {mini}"
        yield "data.train_batch_size", found, f"set {_ACTOR}.ppo_mini_batch_size to a divisor of {batch}"


def _lengths(config: DictConfig, kind: Kind) -> Iterator[Broken]:
    """A row that is longer than what has to hold it; verl notices when the first such row comes."""

    def get(key: str) -> Any:
        return OmegaConf.select(config, key)

    if kind == "sft":
        row, budgets = get("data.max_length"), [("data.use_dynamic_bsz", "data.max_token_len_per_gpu")]
    else:
        row = get("data.max_prompt_length") + get("data.max_response_length")
        budgets = [(f"{_ACTOR}.use_dynamic_bsz", f"{_ACTOR}.ppo_max_token_len_per_gpu")]
        budgets += [
            (f"{part}.log_prob_use_dynamic_bsz", f"{part}.log_prob_max_token_len_per_gpu") for part in (_ROLLOUT, _REF)
        ]
        window = get(f"{_ROLLOUT}.max_model_len")
        if window and row > window:
            yield (
                f"{_ROLLOUT}.max_model_len",
                f"{window} tokens; prompt and response may have {row}",
                f"set it to {row}",
            )
    for switch, key in budgets:
        if get(switch) and get(key) < row:
            yield key, f"{get(key)} tokens; a row may have {row}, and is never split", f"set {key}={row} or more"


def _refused(name: str, attempt: Callable[[], None]) -> Iterator[Finding]:
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()
    except Exception as error:  # whatever a dataclass, Hydra or OmegaConf raises: it is shown
        cause = error.__cause__ or error
        line = traceback.extract_tb(cause.__traceback__)[-1].line  # what a bare `assert` says
        yield problem(name, str(cause) or f"{type(cause).__name__}: {line}", "change the keys that the message names")


def _build(config: DictConfig, part: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    omega_conf_to_dataclass(OmegaConf.create(OmegaConf.to_container(OmegaConf.select(config, part), resolve=True)))


def _validate(config: DictConfig) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    reference, critic = need_reference_policy(config), need_critic(config)
    validate_config(config=config, use_reference_policy=reference, use_critic=critic)
