"""The one command on the real stack: which files it leaves, that they pass the audit, and that a killed run resumes."""

import json
import os
import subprocess
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import create_rl_sampler

from tests.e2e.conftest import STEPS, TINY_RECIPE, FastRun, run, settings
from tests.unit.trace.real import Step, follow
from tests.unit.trace.test_mutations import KINDS
from verl_axpo.audit import audit
from verl_axpo.eval.settings import weights_hash
from verl_axpo.report.heldout import read_heldout
from verl_axpo.trace.reader import list_steps, read_step

METRICS = (
    "tool_use_rate", "tool_all_wrong_rate", "tool_all_wrong_rate_after", "no_tool_all_wrong_rate", "triggered",
    "candidates", "selected", "budget_used", "extra_tokens_ratio", "prefix_cache_hit_rate", "infra_failures",
    "outcome/tool_correct", "tool/image_zoom_in/calls", "tool/python/calls", "tool/tavily-search/calls",
    "pass@1", "pass@N",
)  # fmt: skip


def test_it_leaves_a_report_metrics_plots_and_a_trace(fast_run: FastRun) -> None:
    for name in ("report.md", "report.html", "metrics.jsonl", "heldout.json", f"trace/step_{STEPS:06d}.summary.json"):
        assert (fast_run.out / name).stat().st_size > 0, name
    assert list((fast_run.out / "report/plots").glob("*.svg"))
    assert list((fast_run.out / "report/tables").glob("*.csv"))
    lines = [json.loads(line) for line in (fast_run.out / "metrics.jsonl").read_text().splitlines()]
    trained = [line["data"] for line in lines if "axpo/tool_use_rate" in line["data"]]
    assert len(trained) == STEPS
    missing = [name for name in METRICS if not any(f"axpo/{name}" in step for step in trained)]
    assert not missing


def test_prefixes_were_resampled_and_the_audit_agrees(fast_run: FastRun) -> None:
    steps = [read_step(fast_run.out / "trace", step) for step in list_steps(fast_run.out / "trace")]
    records = [record for step in steps for record in step.records]
    assert any(record.selected for record in records)
    result = audit(fast_run.out / "trace")
    assert result.steps == STEPS
    assert result.differences == ()
    # Continuations repeat their source's prefix id for id (invariant 2)
    by_session = {(record.step, record.uid, record.session): record for record in records}
    for record in records:
        if record.source_session is not None:
            source = by_session[record.step, record.uid, record.source_session]
            length = source.prefix_len or 0
            assert list(record.response_ids)[:length] == list(source.response_ids)[:length]


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_finds_each_kind_of_fault_in_this_runs_trace(fast_run: FastRun, kind: str) -> None:
    """The unit tests' mutations, on a trace that today's code wrote."""
    step = Step.read(fast_run.out / "trace", 1)
    KINDS[kind](step)
    follow(step)
    assert step.differences()


def test_the_prefix_is_found_in_the_engines_cache(fast_run: FastRun) -> None:
    lines = [json.loads(line)["data"] for line in (fast_run.out / "metrics.jsonl").read_text().splitlines()]
    rates = [line["axpo/prefix_cache_hit_rate"] for line in lines if "axpo/prefix_cache_hit_rate" in line]
    assert max(rates) > 0.5  # whole blocks of 16 tokens of a prompt and prefix of some 60


def test_held_out_questions_are_never_resampled_and_have_four_rollouts(fast_run: FastRun) -> None:
    stages = read_heldout(fast_run.out)
    assert set(stages) == {"before", "after"}
    assert all(len(rollouts) == 4 for stage in stages.values() for rollouts in stage.questions.values())
    assert set(stages["before"].uids) == set(stages["after"].uids)  # so that reports can pair them


def test_it_ends_in_the_evaluations_report(fast_run: FastRun) -> None:
    """The trained policy on vLLM's server, every family, on the questions that verl's validation asked."""
    folder = fast_run.out / f"eval/step_{STEPS}"
    report = json.loads((folder / "report.json").read_text())
    assert list(report["benchmarks"]) == ["perception", "reasoning", "search"]
    rollouts = [row["rollouts"] for row in report["benchmarks"].values()]
    assert all(count["done"] == count["planned"] > 0 for count in rollouts)
    assert sum(count["planned"] for count in rollouts) == 4 * len(read_heldout(fast_run.out)["after"].questions)
    assert report["settings"]["weights"] == weights_hash(fast_run.out / "checkpoint")
    for name in ("report.md", "report.html"):
        assert (folder / name).stat().st_size > 0, name


def test_a_second_run_has_nothing_to_do(fast_run: FastRun) -> None:
    made = (
        f"trace/step_{STEPS:06d}.jsonl",
        "checkpoints/settings.json",
        "sft/steps/settings.json",
        f"eval/step_{STEPS}/rollouts.jsonl",
    )
    before = {name: (fast_run.out / name).stat().st_mtime_ns for name in made}
    started = time.monotonic()
    run(TINY_RECIPE, fast_run.out.parent / "second.log", **settings(fast_run.out))
    assert time.monotonic() - started < 120
    assert {name: (fast_run.out / name).stat().st_mtime_ns for name in made} == before


def test_other_settings_are_refused_before_anything_runs(fast_run: FastRun) -> None:
    """The files in the folder were made with seed 0: their report must not be shown as that of seed 1."""
    environment = {**os.environ, **settings(fast_run.out, SEED="1")}
    done = subprocess.run(TINY_RECIPE, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "checkpoints was begun with other settings or data" in done.stdout
    assert "data.seed: 0 then, 1 now" in done.stdout


def test_the_killed_run_went_on_from_its_checkpoint(fast_run: FastRun) -> None:
    """Killed with SIGKILL during its last step and started again: the finished steps are as they were."""
    assert list_steps(fast_run.trace_when_killed)[: STEPS - 1] == list(range(1, STEPS))
    assert list_steps(fast_run.out / "trace") == list(range(1, STEPS + 1))
    resumed_from = fast_run.step_when_killed
    assert 1 <= resumed_from < STEPS, "the kill came too late or too early"
    for step in range(1, resumed_from + 1):
        assert read_step(fast_run.out / "trace", step).records == read_step(fast_run.trace_when_killed, step).records
    check_data_order(fast_run)
    steps = [json.loads(line)["step"] for line in (fast_run.out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert set(range(1, STEPS + 1)) <= set(steps)


def check_data_order(fast_run: FastRun) -> None:
    """The rows of a run that was not interrupted, as verl's sampler orders them: 16 in a step."""
    rows = pq.read_table(fast_run.world / "train.parquet", columns=["extra_info"]).to_pylist()
    order = list(create_rl_sampler(OmegaConf.create({"shuffle": True, "seed": 0}), rows))
    for step in range(1, STEPS + 1):
        asked = {record.uid: record.question for record in read_step(fast_run.out / "trace", step).records}
        expected = [rows[index]["extra_info"]["question"] for index in order[16 * (step - 1) : 16 * step]]
        assert Counter(asked.values()) == Counter(expected), step
