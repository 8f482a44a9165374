"""What would stop a command, found before it costs anything: `verl-axpo check -- <any verl command>`.

    argv -> parse() -> Command -> compose() -> verl's own validation, completed by our plugin -> Finding, Finding, ...
                                            -> files, lengths            (any machine, seconds)
                                            -> keys, tools, GPUs, ...    (machine.py, only where it will run)

The config is composed as verl's Hydra does it: with the same names, search path and overrides.
"""

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from verl_axpo.doctor import Finding, fine, problem

Kind = Literal["rl", "sft"]
TRAINERS: dict[str, Kind] = {"verl.trainer.main_ppo": "rl", "verl.trainer.sft_trainer": "sft"}
CONFIG_NAMES: dict[Kind, str] = {"rl": "ppo_trainer", "sft": "sft_trainer_engine"}  # without --config-name
HOST_CONFIGS = "verl.trainer.config"
COLUMNS: dict[Kind, tuple[str, ...]] = {"rl": ("prompt", "data_source", "reward_model"), "sft": ("messages",)}
MODEL_KEYS: dict[Kind, str] = {"rl": "actor_rollout_ref.model.path", "sft": "model.path"}
TOOLS = "actor_rollout_ref.rollout.multi_turn.tool_config_path"
# What verl's workers turn into dataclasses; the actor's is built in validate_config.
PARTS: dict[Kind, tuple[str, ...]] = {
    "rl": ("actor_rollout_ref.rollout", "actor_rollout_ref.rollout.checkpoint_engine"),
    "sft": ("engine", "optim", "checkpoint", "profiler"),
}
CLOSEST = 3  # keys named as what may have been meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A training command of verl: `kind`, the config that it composes, and its overrides."""

    kind: Kind
    config_name: str
    overrides: tuple[str, ...]


def parse(argv: Sequence[str]) -> Command | None:
    """verl's trainer in a command line, with `python -m`, `torchrun -m` or anything before it; None: no trainer."""
    trainer = next((word for word in argv if word in TRAINERS), None)
    if trainer is None:
        return None
    kind, words, name = TRAINERS[trainer], list(argv[argv.index(trainer) + 1 :]), ""
    overrides = []
    while words:
        word = words.pop(0)
        if word in ("--config-name", "-cn") and words:
            name = words.pop(0)
        elif word.startswith("--config-name="):
            name = word.partition("=")[2]
        else:
            overrides.append(word)
    return Command(kind=kind, config_name=name or CONFIG_NAMES[kind], overrides=tuple(overrides))


def compose(command: Command) -> DictConfig:
    """The config that the command would train with.

    Raises:
        ValueError: Hydra cannot compose it; the message has Hydra's words and the keys that may have been meant.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(HOST_CONFIGS, version_base=None):
            config = hydra_compose(command.config_name, list(command.overrides), return_hydra_config=True)
            # completion.py tells a user's own words from defaults by Hydra's record of the command line
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            return config
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"{_first_lines(error)}\n{_advice(command, str(error))}") from None


def check(argv: Sequence[str], made: Sequence[Path] = (), *, machine: bool = True) -> Iterator[Finding]:
    """Everything that is known about a command before it starts.

    Args:
        argv: the command; one that is no training of verl has its program looked up, nothing more.
        made: folders that earlier commands fill: what is not there yet in them is no fault.
        machine: also look at this machine: packages, GPUs, keys, services, tools.
    """
    from verl_axpo import machine as here

    command = parse(argv)
    if command is None:
        yield here.check_program(argv)
        return
    try:
        config = compose(command)
    except ValueError as error:
        message, _, advice = str(error).rpartition("\n")
        yield problem("config", message, advice)
        return
    yield from check_config(config, command.kind)
    yield from check_inputs(config, command.kind, [folder.absolute() for folder in made])
    if machine:
        yield from here.check_machine(config, command.kind)


def check_config(config: DictConfig, kind: Kind) -> Iterator[Finding]:
    """verl's own opinion of a config: its dataclasses, and `validate_config` with AXPO's completion and rules in it."""
    refused = []
    for part in PARTS[kind]:
        refused += _refused(f"verl: {part}", lambda part=part: _build(config, part))  # type: ignore[misc]
    if kind == "rl":
        refused += _refused("verl: validate_config", lambda: _validate(config))
    refused += [problem(*broken) for broken in _lengths(config, kind)]
    yield from refused or [fine("config", "composes, and verl accepts it")]


def check_inputs(config: DictConfig, kind: Kind, made: Sequence[Path]) -> Iterator[Finding]:
    """Training files with the columns that verl's datasets read, the model's folder, the tool config."""
    for key in ("data.train_files", "data.val_files"):
        for file in listed(OmegaConf.select(config, key)):
            yield _file(key, file, COLUMNS[kind], made)
    model = Path(str(OmegaConf.select(config, MODEL_KEYS[kind])))
    if model.is_absolute() or model.exists():  # else a hub's id
        yield _there(MODEL_KEYS[kind], model, made)
    tools = OmegaConf.select(config, TOOLS) if kind == "rl" else None
    if tools:
        yield _there(TOOLS, Path(str(tools)), made)


def listed(value: Any) -> list[Path]:
    """verl's `data.train_files`: nothing, one path or a list of them."""
    if value is None:
        return []
    return [Path(str(path)).expanduser() for path in ([value] if isinstance(value, str | Path) else value)]


def _there(key: str, path: Path, made: Sequence[Path]) -> Finding:
    if path.exists():
        return fine(key, str(path))
    if any(folder in path.absolute().parents for folder in made):
        return fine(key, f"{path} is not there yet: an earlier command makes it")
    return problem(key, f"{path} does not exist", f"set {key} to what exists, or run the recipe that makes it")


def _file(key: str, file: Path, needed: Sequence[str], made: Sequence[Path]) -> Finding:
    if not file.is_file():
        return _there(key, file, made)
    try:
        names, rows = pq.read_schema(file).names, pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowInvalid) as error:
        return problem(key, f"{file} is not a whole parquet file: {error}", "make it again; a copy may be cut short")
    missing = [name for name in needed if name not in names]
    if missing:
        return problem(key, f"{file} has no column {missing}, only {names}", "docs/data.md describes the columns")
    return fine(key, f"{file}: {rows:,} rows")


def _lengths(config: DictConfig, kind: Kind) -> Iterator[tuple[str, str, str]]:
    """A row that is longer than what has to hold it; verl notices when the first such row comes."""

    def get(key: str) -> Any:
        return OmegaConf.select(config, key)

    actor, rollout, ref = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.ref"
    if kind == "sft":
        row, budgets = get("data.max_length"), [("data.use_dynamic_bsz", "data.max_token_len_per_gpu")]
    else:
        row = get("data.max_prompt_length") + get("data.max_response_length")
        budgets = [(f"{actor}.use_dynamic_bsz", f"{actor}.ppo_max_token_len_per_gpu")]
        budgets += [
            (f"{part}.log_prob_use_dynamic_bsz", f"{part}.log_prob_max_token_len_per_gpu") for part in (rollout, ref)
        ]
        window = get(f"{rollout}.max_model_len")
        if window and row > window:
            yield f"{rollout}.max_model_len", f"{window} tokens; prompt and response may have {row}", f"set it to {row}"
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


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    return " ".join([*lines[:2], *([cause] if cause and cause not in lines else [])])


def _advice(command: Command, message: str) -> str:
    """Which override is meant, and the keys of verl that look like it."""
    named = [override for override in command.overrides if override.split("=", 1)[0].lstrip("+~") in message]
    if not named:
        return "change the override that the message names"
    override = max(named, key=lambda text: len(text.split("=", 1)[0]))  # a longer key has the shorter ones inside
    key = override.split("=", 1)[0].lstrip("+~")
    close = get_close_matches(key, _known_keys(command), n=CLOSEST, cutoff=0.6)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"remove or correct {override!r}{meant} (a key that verl does not declare is added with a leading +)"


def _known_keys(command: Command) -> list[str]:
    """Every key of the command's config without overrides, dotted; groups among them."""
    GlobalHydra.instance().clear()
    with initialize_config_module(HOST_CONFIGS, version_base=None):
        config = hydra_compose(command.config_name)
    return list(_dotted(OmegaConf.to_container(config, resolve=False, throw_on_missing=False), ""))


def _dotted(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys: list[str] = []
    for name, value in node.items():
        key = f"{prefix}{name}"
        keys += [key, *_dotted(value, f"{key}.")]
    return keys
