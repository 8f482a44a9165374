"""What verl notices after the GPUs are taken, or never: composed config + ModelShape -> what to change.

Each rule is a row of (is it broken, what it is about, what was found, what to change).
"""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from verl_axpo.preflight.files import is_coming
from verl_axpo.preflight.problems import Finding, problem
from verl_axpo.preflight.shapes import ModelShape

Rule = tuple[bool, str, str, str]  # broken, what it is about, what was found, what to change
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def check_rl(config: DictConfig, shape: ModelShape, coming: Sequence[str]) -> Iterator[Finding]:
    """All rules of a reinforcement-learning stage, before which stages that make `coming` have run."""
    yield from _broken([*_batch_rules(config), *_length_rules(config, shape), *_loss_rules(config)])
    yield from _broken(_parallel_rules(config, shape))
    yield from check_tools(OmegaConf.select(config, f"{_ROLLOUT}.multi_turn.tool_config_path"), coming)
    yield from check_reward(OmegaConf.select(config, "reward.custom_reward_function"))


def check_sft(config: DictConfig, shape: ModelShape, gpus: int) -> Iterator[Finding]:
    """All rules of a supervised stage on `gpus` processes."""
    batch, length = config.data.train_batch_size, config.data.max_length
    budget = config.data.max_token_len_per_gpu
    rules: list[Rule] = [
        _positive(config, "optim.lr"),
        (batch % gpus != 0, "data.train_batch_size", f"{batch} rows on {gpus} GPUs", f"make it a multiple of {gpus}"),
        (
            length > shape.max_positions,
            "data.max_length",
            f"{length}, the model reads {shape.max_positions} tokens",
            f"set data.max_length to at most {shape.max_positions}",
        ),
        (
            config.data.use_dynamic_bsz and budget < length,
            "data.max_token_len_per_gpu",
            f"{budget}, a row may have {length} tokens",
            f"set data.max_token_len_per_gpu={length} or more: a row is never split",
        ),
    ]
    yield from _broken(rules)
    yield from _check_class("data.custom_cls", config.data.custom_cls)


def _broken(rules: Sequence[Rule]) -> Iterator[Finding]:
    for broken, about, found, change in rules:
        if broken:
            yield problem(about, found, change)


def _batch_rules(config: DictConfig) -> list[Rule]:
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    rollouts, gpus = config.actor_rollout_ref.rollout.n, gpus_of(config)
    return [
        (
            rollouts < 2,
            f"{_ROLLOUT}.n",
            f"{rollouts}: a group of one has no peers to compare with",
            f"set {_ROLLOUT}.n=8, the paper's N",
        ),
        (
            mini <= 0 or batch % mini != 0,
            "data.train_batch_size",
            f"{batch} questions do not divide into mini-batches of {mini}",
            f"set {_ACTOR}.ppo_mini_batch_size to a divisor of {batch}",
        ),
        (
            (mini * rollouts) % gpus != 0,
            f"{_ACTOR}.ppo_mini_batch_size",
            f"{mini} questions x {rollouts} rollouts do not divide over {gpus} GPUs",
            f"make mini-batch times n a multiple of {gpus}",
        ),
    ]


def _length_rules(config: DictConfig, shape: ModelShape) -> list[Rule]:
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    row = prompt + response
    window = config.actor_rollout_ref.rollout.max_model_len or shape.max_positions
    rules: list[Rule] = [
        (
            row > window,
            "data.max_response_length",
            f"prompt {prompt} + response {response} = {row} tokens, longer than the model's window of {window}",
            f"set data.max_response_length to at most {max(0, window - prompt)}, or raise {_ROLLOUT}.max_model_len",
        ),
        (
            window > shape.max_positions,
            f"{_ROLLOUT}.max_model_len",
            f"{window}, the model reads {shape.max_positions} tokens",
            f"set {_ROLLOUT}.max_model_len to at most {shape.max_positions}",
        ),
    ]
    budgets = (
        (f"{_ACTOR}.use_dynamic_bsz", f"{_ACTOR}.ppo_max_token_len_per_gpu"),
        (f"{_ROLLOUT}.log_prob_use_dynamic_bsz", f"{_ROLLOUT}.log_prob_max_token_len_per_gpu"),
        ("actor_rollout_ref.ref.log_prob_use_dynamic_bsz", "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu"),
    )
    for switch, key in budgets:
        budget, dynamic = OmegaConf.select(config, key), OmegaConf.select(config, switch)
        fix = f"set {key}={row} or more: a row is never split"
        rules.append((dynamic and budget < row, key, f"{budget}, a row may have {row} tokens", fix))
    return rules


def _loss_rules(config: DictConfig) -> list[Rule]:
    low, high = (float(config.actor_rollout_ref.actor[f"clip_ratio_{side}"]) for side in ("low", "high"))
    coefficient = float(config.actor_rollout_ref.actor.kl_loss_coef)
    return [
        (
            not 0 < low < 1 or high <= 0,
            f"{_ACTOR}.clip_ratio_low, _high",
            f"{low} and {high}: the ratio is kept within [1 - low, 1 + high], both are distances above 0",
            f"set {_ACTOR}.clip_ratio_low=0.2 {_ACTOR}.clip_ratio_high=0.4, the paper's",
        ),
        (
            coefficient < 0,
            f"{_ACTOR}.kl_loss_coef",
            f"{coefficient} rewards distance from the SFT model",
            f"set {_ACTOR}.kl_loss_coef=0.001, the paper's",
        ),
        _positive(config, f"{_ACTOR}.optim.lr"),
        _positive(config, f"{_ROLLOUT}.temperature"),
    ]


def _parallel_rules(config: DictConfig, shape: ModelShape) -> list[Rule]:
    tensor, gpus = config.actor_rollout_ref.rollout.tensor_model_parallel_size, gpus_of(config)
    key = f"{_ROLLOUT}.tensor_model_parallel_size"
    return [
        (gpus % tensor != 0, key, f"{tensor} does not divide {gpus} GPUs", f"set {key} to a divisor of {gpus}"),
        (
            shape.heads % tensor != 0 or shape.kv_heads % tensor != 0,
            key,
            f"{tensor} does not divide {shape.heads} attention and {shape.kv_heads} key-value heads",
            f"set {key} to a divisor of {shape.kv_heads}",
        ),
    ]


def _positive(config: DictConfig, key: str) -> Rule:
    value = float(OmegaConf.select(config, key))
    return value <= 0, key, str(value), f"set {key} to a number above 0"


def gpus_of(config: DictConfig) -> int:
    """All GPUs of an RL config."""
    return int(config.trainer.nnodes) * int(config.trainer.n_gpus_per_node)


def check_tools(path: Any, coming: Sequence[str]) -> Iterator[Finding]:
    """The tool config exists or will, and every class that it names can be imported."""
    if not path:
        key = f"{_ROLLOUT}.multi_turn.tool_config_path"
        yield problem("tools", f"{key} is not set: there is nothing to call", f"set {key} to a YAML of tools")
        return
    file = _resolved(str(path))
    if file.is_file():
        yield from _check_classes(file)
    elif not is_coming(file, coming):
        yield problem("tools", f"{file} is not there", "name an existing tool config")


def _resolved(path: str) -> Path:
    """As verl finds it: in the current folder, or next to its own package."""
    from verl.utils.import_utils import resolve_config_path

    try:
        return Path(resolve_config_path(path))
    except FileNotFoundError:
        return Path(path)


def _check_classes(file: Path) -> Iterator[Finding]:
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield problem("tools", f"{file} is no YAML: {error}", "mend it")
        return
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not tools:
        yield problem("tools", f"{file} has no list `tools:`", "give it one, as in verl_axpo/tools/config/paper.yaml")
        return
    for tool in tools:
        name = str(tool.get("class_name")) if isinstance(tool, dict) else str(tool)
        if not _importable(name):
            yield problem("tools", f"{file} names {name}, which cannot be imported", "correct its class_name")


def check_reward(function: Any) -> Iterator[Finding]:
    """There is a reward function, where the config says."""
    key = "reward.custom_reward_function"
    if function is None or not function.path:
        yield problem("reward", f"{key}.path is not set", f"set {key}.path=pkg://verl_axpo.rewards.outcome")
    else:
        yield from _check_class(key, function)


def _check_class(key: str, named: Any) -> Iterator[Finding]:
    """A pair of path and name, as verl's configs have them, leads to something; nothing named is nothing to find."""
    from verl.utils.import_utils import load_extern_object

    path = str(named.path or "")
    if not path:
        return
    try:
        load_extern_object(path, str(named.name))
    except FileNotFoundError:
        yield problem(key, f"{path} is not there", "name an existing file, or pkg://module")
    except (ImportError, AttributeError):
        yield problem(key, f"{path} has no {named.name}", "name a module, and what it has, that exist")
    except Exception as error:  # whatever a module of the user's raises while it is imported
        yield problem(key, f"{path} cannot be loaded: {error.__cause__ or error}", "mend it")


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False
