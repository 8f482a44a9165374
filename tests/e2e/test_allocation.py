"""Speculation and streaming on the real stack, with two of everything: same batch, clean audits.

Three runs of two steps each from one checkpoint, in deterministic mode and at learning rate 0, so that all sample
from the same policy. `correct_threshold=2` triggers every group with a tool call: the whole budget is used. Ten minutes
on two free cores, so not part of every run: `bash tests/run.sh tests/e2e/test_allocation.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TWO_OF_EACH, FastRun, MainPpo
from verl_axpo.audit import audit

STEPS = 2
pytestmark = pytest.mark.slow


def trace_of(name: str, main_ppo: MainPpo, fast_run: FastRun, tmp_path: Path, *settings: str) -> Path:
    trace = tmp_path / name / "trace"
    main_ppo(
        name,
        "--config-name", "tiny_rl", *TWO_OF_EACH, *settings,
        f"algorithm.axpo.trace_dir={trace}", "algorithm.axpo.seed=0", "algorithm.axpo.correct_threshold=2.0",
        "actor_rollout_ref.actor.optim.lr=0.0", "trainer.val_before_train=false", "trainer.test_freq=-1",
        "trainer.logger=[console]", f"hydra.run.dir={tmp_path}/{name}/hydra",
        steps=STEPS,
    )  # fmt: skip
    result = audit(trace)
    assert (result.steps, result.differences) == (STEPS, ())
    return trace


def rows(trace: Path) -> dict[tuple[int, str, int], dict[str, Any]]:
    lines = [json.loads(line) for path in sorted(trace.glob("step_*.jsonl")) for line in path.open()]
    return {(line["step"], line["uid"], line["session"]): line for line in lines}


def selected(trace: Path) -> list[list[dict[str, Any]]]:
    return [json.loads(path.read_text())["selected"] for path in sorted(trace.glob("step_*.summary.json"))]


def wasted(trace: Path) -> list[float]:
    name = "axpo/speculated_tokens_wasted"
    return [json.loads(path.read_text())["metrics"].get(name) for path in sorted(trace.glob("step_*.summary.json"))]


def test_speculation_changes_no_row_of_the_batch(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path) -> None:
    exact = trace_of("exact", main_ppo, fast_run, tmp_path)
    speculates = trace_of("speculates", main_ppo, fast_run, tmp_path, "algorithm.axpo.speculate=true")
    plain, early = rows(exact), rows(speculates)
    assert plain.keys() == early.keys()
    same = ("kind", "source_session", "selected", "response_ids", "response_mask", "reward", "advantage")
    different = [(key, name) for key in plain for name in same if plain[key][name] != early[key][name]]
    assert different == []
    begun = [
        key for key, line in early.items()
        if line["kind"] == "resample"
        and line["started"] < max(other["finished"] for at, other in early.items()
                                  if at[0] == key[0] and other["kind"] == "rollout")
    ]  # fmt: skip
    assert begun, "nothing was speculated and used, so that this test would show nothing"
    assert any(wasted(speculates))
    assert wasted(exact) == [None] * STEPS


def test_streaming_pays_for_as_many_prefixes_and_for_none_later(
    fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path
) -> None:
    trace = trace_of("streaming", main_ppo, fast_run, tmp_path, "algorithm.axpo.allocation=streaming")
    for path, chosen in zip(sorted(trace.glob("step_*.summary.json")), selected(trace), strict=True):
        summary = json.loads(path.read_text())
        assert len(summary["settled"]) == len(summary["questions"])
        assert len(chosen) == min(summary["budget"], len(summary["candidates"]))
    lines = rows(trace)
    last = {step: max(line["finished"] for key, line in lines.items() if key[0] == step and line["kind"] == "rollout")
            for step in range(1, STEPS + 1)}  # fmt: skip
    assert any(line["kind"] == "resample" and line["started"] < last[key[0]] for key, line in lines.items())
