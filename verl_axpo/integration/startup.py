"""What a run will read, looked at before Ray starts: tokenizer, tools, reward, rows -> a finding for each that is bad.

Without this each of them fails (or is left out) in every session, after the GPUs are up. A remote path, and a dataset
class of the user's own, are left to verl.
"""

import copy
import importlib
import logging
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from verl_axpo.findings import Finding, problem
from verl_axpo.integration.training_rows import DATASET, FILES, listed, row_problems
from verl_axpo.rewards.rows import check_rows
from verl_axpo.tools.chat_format import ChatFormat, format_of
from verl_axpo.tools.syntax import HERMES, syntaxes

logger = logging.getLogger(__name__)

_MODEL, _MULTI_TURN = "actor_rollout_ref.model", "actor_rollout_ref.rollout.multi_turn"
FORMAT = f"{_MULTI_TURN}.format"
OURS = "axpo_"  # `axpo_<syntax>`: our parser with a syntax that the user named


def startup_problems(
    config: DictConfig, made: Sequence[Path] = (), columns: Sequence[str] = (), *, axpo: bool = True, named: str = ""
) -> Iterator[Finding]:
    """What is missing, misspelt or of no use, of everything that an RL run reads.

    Args:
        config: of verl's `main_ppo`, composed.
        made: folders that earlier commands fill: what is not there yet in them is no fault.
        columns: that every data file must have beyond its prompts.
        axpo: the estimator is ours, which reads tool calls itself and brings its own agent loop.
        named: see `named_syntax`.
    """
    if axpo:
        yield from model_problems(config, named=named)
    yield from tool_problems(config, made)
    yield from reward_problems(config)
    any_loop = not axpo or bool(OmegaConf.select(config, "actor_rollout_ref.rollout.agent.agent_loop_config_path"))
    for key in FILES:
        for path in listed(OmegaConf.select(config, key)):
            if not path.is_file():
                yield from missing(key, path, made)
            elif path.suffix == ".parquet" and OmegaConf.select(config, "data.custom_cls.path") in (None, DATASET):
                found = row_problems(path, config.data, columns, any_loop=any_loop)
                yield from (problem(f"{key}={path}", line) for line in found)
    try:
        check_rows(config)
    except ValueError as error:
        yield problem("reward", str(error))


def missing(key: str, path: Path, made: Sequence[Path]) -> Iterator[Finding]:
    """That `path` is neither here nor to be made by an earlier command."""
    if not path.exists() and not any(folder in path.absolute().parents for folder in made):
        yield problem(f"{key}={path}", "no such file", "name an existing path, or run the recipe that makes it")


def named_syntax(config: DictConfig, explicit: Collection[str] = ()) -> str:
    """The call syntax that the user named in `multi_turn.format`; "" where the template decides.

    Args:
        config: of verl's `main_ppo`.
        explicit: keys of the command line; there verl's default, hermes, is a word of the user's, too.
    """
    written = str(OmegaConf.select(config, FORMAT) or "")
    if written.startswith(OURS):
        return written.removeprefix(OURS)
    return written if written in syntaxes() and (written != HERMES.name or FORMAT in explicit) else ""


def chat_format(config: DictConfig, root: str = _MODEL, named: str = "") -> ChatFormat | None:
    """The format of the model's turns; None if its tokenizer cannot be read from here.

    Args:
        config: of verl's `main_ppo` or `sft_trainer`.
        root: the key of the model.
        named: see `named_syntax`.

    Raises:
        ValueError: see `format_of`, and a tokenizer that splits a tag.
    """
    name = OmegaConf.select(config, _tokenizer_key(config, root))
    tokenizer = _tokenizer(str(name), bool(OmegaConf.select(config, f"{root}.trust_remote_code"))) if name else None
    own = OmegaConf.select(config, f"{root}.custom_chat_template")
    if tokenizer is None or not (own or tokenizer.chat_template):
        return None
    if own:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = own
    found = format_of(tokenizer, OmegaConf.select(config, "data.apply_chat_template_kwargs"), named)
    found.parser(tokenizer)
    return found


def model_problems(config: DictConfig, root: str = _MODEL, named: str = "") -> Iterator[Finding]:
    """The template shows a call syntax that is known, and the tokenizer has its tags.

    Args: as of `chat_format`.
    """
    key = _tokenizer_key(config, root)
    try:
        chat_format(config, root, named)
    except ValueError as error:
        yield problem(f"{key}={OmegaConf.select(config, key)}", str(error))


def _tokenizer_key(config: DictConfig, root: str) -> str:
    return f"{root}.tokenizer_path" if OmegaConf.select(config, f"{root}.tokenizer_path") else f"{root}.path"


@lru_cache(maxsize=4)  # a hub that does not answer is asked once
def _tokenizer(name: str, trust_remote_code: bool) -> Any | None:
    """None if it cannot be read from here (a remote path, no network): verl gets it itself, or says why not."""
    from verl.utils.tokenizer import hf_tokenizer

    path = Path(name).expanduser()
    if "://" in name or (path.is_absolute() and not path.exists()):
        return None
    try:
        return hf_tokenizer(str(path), trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds for a folder that holds no tokenizer
        logger.warning("axpo: the tokenizer of %s cannot be read here, so it is not checked: %s", name, error)
        return None


def tool_problems(config: DictConfig, made: Sequence[Path] = ()) -> Iterator[Finding]:
    """The tool config exists, has tools, and its classes can be imported. That there is one: conflicts.py."""
    functions, path = (
        OmegaConf.select(config, f"{_MULTI_TURN}.{key}_path") for key in ("function_tool", "tool_config")
    )
    if functions:
        yield from missing(f"{_MULTI_TURN}.function_tool_path", Path(str(functions)).expanduser(), made)
    if not path:
        return
    key, file = f"{_MULTI_TURN}.tool_config_path", _resolved(str(path))
    if not file.is_file():
        yield from missing(key, file, made)
        return
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield problem(f"{key}={file}", f"it is no YAML: {error}")
        return
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not tools:
        yield problem(f"{key}={file}", "it has no list `tools:`", "add one, as in verl_axpo/tools/config/paper.yaml")
        return
    for tool in tools:
        name = str(tool.get("class_name")) if isinstance(tool, dict) else str(tool)
        if not _importable(name):
            yield problem(f"{key}={file}", f"it names {name}, which cannot be imported", "correct its class_name")


def _resolved(path: str) -> Path:
    """As verl finds it: in the current folder, or next to its own package."""
    from verl.utils.import_utils import resolve_config_path

    try:
        return Path(resolve_config_path(path))
    except FileNotFoundError:
        return Path(path)


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False


def reward_problems(config: DictConfig) -> Iterator[Finding]:
    """The reward function can be loaded; none named is verl's own."""
    from verl.utils.import_utils import load_extern_object

    key = "reward.custom_reward_function"
    path, name = (str(OmegaConf.select(config, f"{key}.{part}") or "") for part in ("path", "name"))
    if not path:
        return
    try:
        load_extern_object(path, name)
    except FileNotFoundError:
        yield problem(key, f"{path} does not exist", "name an existing file, or pkg://module")
    except (ImportError, AttributeError):
        yield problem(key, f"{path} has no {name}", "name a module, and what it has, that exist")
    except Exception as error:  # whatever a module of the user's raises while it is imported
        yield problem(key, f"{path} cannot be loaded: {error.__cause__ or error}")
