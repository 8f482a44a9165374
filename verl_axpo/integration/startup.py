"""What a run will read, looked at before Ray starts: tokenizer, tools, reward, rows -> a finding for each that is bad.

Without this each of them fails (or is left out) in every session, after the GPUs are up. A remote path, and a dataset
class of the user's own, are left to verl.
"""

import importlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from verl_axpo.findings import Finding, problem
from verl_axpo.integration.training_rows import DATASET, row_problems
from verl_axpo.rewards.rows import check_rows
from verl_axpo.tools.parser import ToolCallParser

logger = logging.getLogger(__name__)

FILES = ("data.train_files", "data.val_files")
_MODEL, _MULTI_TURN = "actor_rollout_ref.model", "actor_rollout_ref.rollout.multi_turn"
PROBE = {"type": "function", "function": {"name": "probe", "arguments": {"key": "value"}}}


def startup_problems(
    config: DictConfig, made: Sequence[Path] = (), columns: Sequence[str] = (), *, axpo: bool = True
) -> Iterator[Finding]:
    """What is missing, misspelt or of no use, of everything that an RL run reads.

    Args:
        config: of verl's `main_ppo`, composed.
        made: folders that earlier commands fill: what is not there yet in them is no fault.
        columns: that every data file must have beyond its prompts.
        axpo: the estimator is ours, which reads tool calls itself and brings its own agent loop.
    """
    if axpo:
        yield from model_problems(config)
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


def listed(value: Any) -> list[Path]:
    """The local paths of verl's `data.train_files`: nothing, one path or a list of them."""
    names = [value] if isinstance(value, str | Path) else value or []
    return [Path(str(name)).expanduser() for name in names if "://" not in str(name)]


def missing(key: str, path: Path, made: Sequence[Path]) -> Iterator[Finding]:
    """That `path` is neither here nor to be made by an earlier command."""
    if not path.exists() and not any(folder in path.absolute().parents for folder in made):
        yield problem(f"{key}={path}", "no such file", "name an existing path, or run the recipe that makes it")


def model_problems(config: DictConfig) -> Iterator[Finding]:
    """The tokenizer has the tags, and the template writes calls as they are read."""
    key = f"{_MODEL}.tokenizer_path" if OmegaConf.select(config, f"{_MODEL}.tokenizer_path") else f"{_MODEL}.path"
    name = OmegaConf.select(config, key)
    tokenizer = _tokenizer(name, bool(OmegaConf.select(config, f"{_MODEL}.trust_remote_code"))) if name else None
    if tokenizer is None:
        return
    try:
        parser = ToolCallParser(tokenizer, starts_in_think=False)
    except ValueError as error:
        yield problem(f"{key}={name}", str(error))
        return
    tokenizer.chat_template = OmegaConf.select(config, f"{_MODEL}.custom_chat_template") or tokenizer.chat_template
    written = _foreign_call(tokenizer, parser, OmegaConf.select(config, "data.apply_chat_template_kwargs"))
    if written is not None:
        yield problem(
            f"{key}={name}",
            f"its chat template writes a tool call as {written!r}, and AXPO reads "
            '{"name": ..., "arguments": {...}}, so that every call would be undecodable',
            f"use a model of the Qwen3 or Qwen3-VL family, or set {_MODEL}.custom_chat_template",
        )


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


def _foreign_call(tokenizer: Any, parser: ToolCallParser, template_kwargs: Any) -> str | None:
    """How the template writes a call, if that cannot be read; None where it can, or where it writes none."""
    kwargs = OmegaConf.to_container(template_kwargs) if isinstance(template_kwargs, DictConfig) else {}
    said = {"role": "assistant", "content": "", "tool_calls": [PROBE]}
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": "?"}, said], tokenize=False, **kwargs)
    except Exception:  # a template may refuse anything, in any way; it is only asked for an example
        return None
    ids = tokenizer.encode(text, add_special_tokens=False)
    calls = [parser.parse(ids, span) for span in parser.spans(ids)]
    return next((call.raw for call in calls if call.problem is not None), None)


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
