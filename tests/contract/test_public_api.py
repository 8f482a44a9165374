"""The names that users and other projects may rely on. Removing or renaming one of these needs a major version.

Adding is free: an assertion here is about what must be there, never about what else is.
"""

import importlib
import inspect
from importlib import metadata
from typing import Any

import orjson
import pytest
import typer
from omegaconf import OmegaConf

from verl_axpo.check import compose, parse
from verl_axpo.cli import app
from verl_axpo.trace.records import TrajectoryRecord

# Paths in users' configs, tool configs and Python code
NAMES = (
    "verl_axpo.errors.InfraFailure",
    "verl_axpo.rewards.outcome.compute_score",
    "verl_axpo.eval.reward.compute_score",
    "verl_axpo.integration.sft_dataset.SftDataset",
    "verl_axpo.integration.rollout.AxpoAgentLoopManager",
    "verl_axpo.tools.python.Python",
    "verl_axpo.tools.image_zoom_in.ImageZoomIn",
    "verl_axpo.tools.search.tool.TavilySearch",
    "verl_axpo.trace.reader.read_step",
    "verl_axpo.audit.audit",
    "verl_axpo.core.step.explore",
)
AXPO = {  # algorithm.axpo, with the paper's values
    "budget": 0.25, "num_continuations": 4, "uncertainty": "confidence", "allocation": "exact", "target": "tool",
    "prefix": "fixed", "prefix_credit": True, "advantage_group": "separate", "correct_threshold": 1.0,
    "trace_dir": None, "seed": None,
}  # fmt: skip
TRACE = (
    *("step", "uid", "session", "kind", "source_session", "selected", "status", "question", "ground_truth", "images"),
    *("prompt_len", "response_ids", "response_mask", "logprobs", "text", "tool_calls", "prefix_len", "tool_call_span"),
    *(
        "confidence",
        "entropy",
        "reward",
        "recovery",
        "advantage_prefix",
        "advantage",
        "num_turns",
        "started",
        "finished",
    ),
)
COMMANDS = {
    "check": (), "run": (), "doctor": (), "audit": (), "view": (), "report": (),
    "data": ("sources", "fetch", "check", "ingest", "benchmarks", "dedup", "collect", "sft", "filter"),
    "eval": ("run", "report", "compare", "export"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_imported(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_the_reward_function_takes_what_verl_gives() -> None:
    from verl_axpo.rewards.outcome import compute_score

    names = list(inspect.signature(compute_score).parameters)
    assert names[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("verl.plugins", "axpo_platform"),
        ("verl.plugins", "axpo_training"),
        ("vllm.general_plugins", "axpo_platform"),
        ("console_scripts", "verl-axpo"),
    ],
)
def test_an_entry_point_is_registered(group: str, name: str) -> None:
    assert name in {point.name for point in metadata.entry_points(group=group)}


@pytest.mark.parametrize("name", ["axpo_trainer", "qwen3vl_rl", "tiny_rl"])
def test_a_config_can_be_named(name: str) -> None:
    command = parse(["python", "-m", "verl.trainer.main_ppo", "--config-name", name])
    assert command is not None
    config = compose(command)
    found = OmegaConf.to_container(config.algorithm.axpo)
    assert isinstance(found, dict)
    expected = AXPO if name != "tiny_rl" else {key: value for key, value in AXPO.items() if key != "seed"}
    assert {key: found[key] for key in expected} == expected
    assert config.trainer.v1.trainer_mode == "axpo_sync"


def test_the_trace_has_its_fields() -> None:
    """In the file, and as attributes of what `iter_records` gives."""
    record = TrajectoryRecord(
        step=1, uid="q", session=0, question="?", ground_truth="x", prompt_len=1, response_ids=[1], response_mask=[1],
        logprobs=[-0.5], text="x", reward=1.0, advantage=0.0, num_turns=2, started=0.0, finished=1.0,
    )  # fmt: skip
    assert set(TRACE) <= set(orjson.loads(record.to_json()))
    assert all(hasattr(record, name) for name in TRACE)


def test_the_commands_are_there() -> None:
    group: Any = typer.main.get_command(app)
    assert set(COMMANDS) <= set(group.commands)
    for name, parts in COMMANDS.items():
        assert set(parts) <= set(getattr(group.commands[name], "commands", ()))
