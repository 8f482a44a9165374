"""What a run will read, looked at before Ray starts: tokenizer, tools, reward, rows -> one line for each problem.

Without this each of them fails (or is left out) in every session, after the GPUs are up. A remote path, and a dataset
class of the user's own, are left to verl.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.integration.named import object_problems, tool_problems
from verl_axpo.integration.training_rows import DATASET, row_problems
from verl_axpo.rewards.rows import check_rows
from verl_axpo.tools.parser import ToolCallParser

logger = logging.getLogger(__name__)

_MODEL, _ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.rollout"
PROBE = {"type": "function", "function": {"name": "probe", "arguments": {"key": "value"}}}
_planned: ContextVar[bool] = ContextVar("axpo_planned", default=False)


@contextmanager
def planned() -> Iterator[None]:
    """Within, a config is only looked at: what the run will read may not have been made yet."""
    token = _planned.set(True)
    try:
        yield
    finally:
        _planned.reset(token)


def startup_problems(config: DictConfig) -> list[str]:
    """A line for each thing that is missing, misspelt or of no use to AXPO."""
    if _planned.get():
        return []
    checks = (_model, _tools, _reward, _files, _grades)
    return [f"- {problem}" for check in checks for problem in check(config)]


def _model(config: DictConfig) -> Iterator[str]:
    """The tokenizer has the tags, and the template writes calls as they are read."""
    key = f"{_MODEL}.tokenizer_path" if OmegaConf.select(config, f"{_MODEL}.tokenizer_path") else f"{_MODEL}.path"
    name = OmegaConf.select(config, key)
    tokenizer = _tokenizer(name, bool(OmegaConf.select(config, f"{_MODEL}.trust_remote_code"))) if name else None
    if tokenizer is None:
        return
    try:
        parser = ToolCallParser(tokenizer, starts_in_think=False)
    except ValueError as error:
        yield f"{key}={name}: {error}"
        return
    tokenizer.chat_template = OmegaConf.select(config, f"{_MODEL}.custom_chat_template") or tokenizer.chat_template
    written = _foreign_call(tokenizer, parser, OmegaConf.select(config, "data.apply_chat_template_kwargs"))
    if written is not None:
        yield (
            f"{key}={name}: its chat template writes a tool call as {written!r}, and AXPO reads "
            '{"name": ..., "arguments": {...}}, so that every call would be undecodable; use a model of the Qwen3 or '
            f"Qwen3-VL family, or set {_MODEL}.custom_chat_template"
        )


def _tokenizer(name: str, trust_remote_code: bool) -> Any | None:
    """None if it cannot be had from here (a remote path, no network): verl gets it itself, or says why not."""
    from verl.utils.tokenizer import hf_tokenizer

    if "://" in name:
        return None
    try:
        return hf_tokenizer(str(Path(name).expanduser()), trust_remote_code=trust_remote_code)
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


def _tools(config: DictConfig) -> Iterator[str]:
    """The files of tools; that there are any is a rule of conflicts.py."""
    path = OmegaConf.select(config, f"{_ROLLOUT}.multi_turn.tool_config_path")
    if path:
        yield from tool_problems(str(path))
    functions = OmegaConf.select(config, f"{_ROLLOUT}.multi_turn.function_tool_path")
    if functions and not Path(str(functions)).expanduser().is_file():
        yield f"{_ROLLOUT}.multi_turn.function_tool_path={functions}: no such file; name an existing one"


def _reward(config: DictConfig) -> Iterator[str]:
    key = "reward.custom_reward_function"
    yield from object_problems(key, OmegaConf.select(config, key))


def _files(config: DictConfig) -> Iterator[str]:
    for key in ("data.train_files", "data.val_files"):
        named = OmegaConf.select(config, key) or []
        for name in [named] if isinstance(named, str) else named:
            path = Path(str(name)).expanduser()
            if "://" in str(name):
                continue
            if not path.is_file():
                yield f"{key}={name}: no such file; set it to a parquet file (docs/data.md says how one is made)"
            elif path.suffix == ".parquet" and OmegaConf.select(config, "data.custom_cls.path") in (None, DATASET):
                yield from (f"{key}={name}: {problem}" for problem in row_problems(path, config))


def _grades(config: DictConfig) -> Iterator[str]:
    try:
        check_rows(config)
    except ValueError as error:
        yield str(error)
