"""A composed config before it costs anything: AXPO's rules, verl's own opinion, and what verl would notice too late."""

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_axpo.check.command import Kind
from verl_axpo.findings import Finding, fine, problem
from verl_axpo.integration import completion, startup
from verl_axpo.integration.training_rows import FILES, listed, open_rows

# What verl's workers turn into dataclasses; the actor's is built in validate_config.
PARTS: dict[Kind, tuple[str, ...]] = {
    "rl": ("actor_rollout_ref.rollout", "actor_rollout_ref.rollout.checkpoint_engine"),
    "sft": ("engine", "optim", "checkpoint", "profiler"),
}
MODEL_ROOTS: dict[Kind, str] = {"rl": "actor_rollout_ref.model", "sft": "model"}
GRADED = ("data_source", "reward_model")  # columns that verl's reward managers read of every row
_ACTOR, _ROLLOUT, _REF = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.ref"
# Numbers that verl takes as they are, whatever their sign
ABOVE_ZERO: dict[Kind, tuple[str, ...]] = {
    "rl": (f"{_ACTOR}.optim.lr", f"{_ACTOR}.clip_ratio_low", f"{_ACTOR}.clip_ratio_high", f"{_ROLLOUT}.temperature"),
    "sft": ("optim.lr",),
}


def check_config(config: DictConfig, kind: Kind, made: Sequence[Path]) -> Iterator[Finding]:
    """Whether verl and AXPO accept a config, and whether what it names is there.

    Args:
        config: composed; AXPO's completion changes it.
        kind: which trainer.
        made: folders that earlier commands fill: what is not there yet in them is no fault.
    """
    refused = [*_inputs(config, kind, made), *_values(config, kind), *_lengths(config, kind)]
    for part in PARTS[kind]:
        refused += _refused(f"verl: {part}", lambda part=part: _build(config, part))  # type: ignore[misc]
    if kind == "rl":
        refused += _refused("verl: validate_config", lambda: _validate(config))
    yield from refused or [fine("config", "composes, verl accepts it, and what it names is there")]
    with contextlib.suppress(ValueError):  # told with the other problems
        if found := startup.chat_format(config, MODEL_ROOTS[kind], _named(config, kind)):
            yield fine("model", str(found))


def _inputs(config: DictConfig, kind: Kind, made: Sequence[Path]) -> Iterator[Finding]:
    """AXPO's rules, the model's folder and the files that the run reads."""
    key = f"{MODEL_ROOTS[kind]}.path"
    model = str(OmegaConf.select(config, key))
    if model.startswith(("/", "~", ".")):  # else a hub's id
        yield from startup.missing(key, Path(model).expanduser(), made)
    if kind == "sft":
        if str(OmegaConf.select(config, "data.custom_cls.path")).endswith("verl_axpo.integration.sft_dataset"):
            yield from startup.model_problems(config, MODEL_ROOTS[kind], _named(config, kind))
        yield from _sft_files(config, made)
    elif completion.asks_for_axpo(config):
        yield from completion.refusals(config, made, GRADED)
    else:
        yield from startup.startup_problems(config, made, GRADED, axpo=False)


def _named(config: DictConfig, kind: Kind) -> str:
    """The call syntax that the user named."""
    return startup.named_syntax(config) if kind == "rl" else str(OmegaConf.select(config, "data.call_syntax") or "")


def _sft_files(config: DictConfig, made: Sequence[Path]) -> Iterator[Finding]:
    for key in FILES:
        for path in listed(OmegaConf.select(config, key)):
            yield from startup.missing(key, path, made)
            try:
                if path.exists():
                    open_rows(path, (OmegaConf.select(config, "data.messages_key") or "messages",))
            except ValueError as error:
                yield problem(f"{key}={path}", str(error))


def _values(config: DictConfig, kind: Kind) -> Iterator[Finding]:
    """Numbers without a meaning."""
    for key in ABOVE_ZERO[kind]:
        value = OmegaConf.select(config, key)
        if value is not None and float(value) <= 0:
            yield problem(key, str(value), f"set {key} to a number above 0")
    if kind == "sft":
        return
    coefficient = OmegaConf.select(config, f"{_ACTOR}.kl_loss_coef")
    if coefficient < 0:
        found = f"{coefficient} rewards distance from the SFT model"
        yield problem(f"{_ACTOR}.kl_loss_coef", found, "set it to 0 or more")
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if not 0 < mini <= batch:
        found = f"{batch} questions do not fill a mini-batch of {mini}"
        yield problem("data.train_batch_size", found, f"set {_ACTOR}.ppo_mini_batch_size to 1 to {batch}")


def _lengths(config: DictConfig, kind: Kind) -> Iterator[Finding]:
    """A row that is longer than what has to hold it; verl notices when the first such row comes."""

    get = partial(OmegaConf.select, config)
    if kind == "sft":
        row, budgets = get("data.max_length"), [("data.use_dynamic_bsz", "data.max_token_len_per_gpu", "engine")]
    else:
        row = get("data.max_prompt_length") + get("data.max_response_length")
        budgets = [(f"{_ACTOR}.use_dynamic_bsz", f"{_ACTOR}.ppo_max_token_len_per_gpu", _ACTOR)]
        for part, engine in ((_ROLLOUT, _ACTOR), (_REF, _REF)):
            budgets += [(f"{part}.log_prob_use_dynamic_bsz", f"{part}.log_prob_max_token_len_per_gpu", engine)]
        window = get(f"{_ROLLOUT}.max_model_len")
        if window and row > window:
            found = f"{window} tokens; prompt and response may have {row}"
            yield problem(f"{_ROLLOUT}.max_model_len", found, f"set it to {row}")
    for switch, key, engine in budgets:
        sizes = (f"{engine}.{part}ulysses_sequence_parallel_size" for part in ("", "fsdp_config."))
        ranks = max(get(size) or 1 for size in sizes)  # that share a row
        if get(switch) and get(key) * ranks < row:
            found = f"{get(key)} tokens on each of {ranks} ranks; a row may have {row}, and is never split further"
            yield problem(key, found, f"set {key}={-(-row // ranks)} or more")


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
    """verl's own function: `refusals` has said what AXPO's wrapper around it would say."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    if completion.asks_for_axpo(config):
        with contextlib.suppress(ValueError):  # settings of ours that `refusals` has told already
            completion.fill(config)
    own = getattr(validate_config, "__wrapped__", validate_config)
    own(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
