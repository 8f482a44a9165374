"""The one command on the real stack: what it leaves behind, that it audits, and that it goes on where it was killed."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import create_rl_sampler

from tests.e2e.conftest import REPO, RUN_TIMEOUT_S, FastRun, recipe, run
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
    for name in ("report.md", "report.html", "metrics.jsonl", "heldout.json", "trace/step_000002.summary.json"):
        assert (fast_run.out / name).stat().st_size > 0, name
    assert list((fast_run.out / "report/plots").glob("*.svg"))
    assert list((fast_run.out / "report/tables").glob("*.csv"))
    lines = [json.loads(line) for line in (fast_run.out / "metrics.jsonl").read_text().splitlines()]
    trained = [line["data"] for line in lines if "axpo/tool_use_rate" in line["data"]]
    assert len(trained) == 2
    missing = [name for name in METRICS if not any(f"axpo/{name}" in step for step in trained)]
    assert not missing


def test_prefixes_were_resampled_and_the_audit_agrees(fast_run: FastRun) -> None:
    steps = [read_step(fast_run.out / "trace", step) for step in list_steps(fast_run.out / "trace")]
    records = [record for step in steps for record in step.records]
    assert any(record.selected for record in records)
    result = audit(fast_run.out / "trace")
    assert result.steps == 2
    assert result.differences == ()
    # Resamples repeat their source's prefix id for id (invariant 2)
    sources = {(one.step, one.uid, one.session): one for one in records}
    for one in records:
        if one.source_session is not None:
            source = sources[one.step, one.uid, one.source_session]
            length = source.prefix_len or 0
            assert list(one.response_ids)[:length] == list(source.response_ids)[:length]


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
    """The trained policy behind vLLM's server, every family, on the questions that verl's validation asked."""
    folder = fast_run.out / "eval/step_2"
    report = json.loads((folder / "report.json").read_text())
    assert list(report["benchmarks"]) == ["perception", "reasoning", "search"]
    asked = [one["rollouts"] for one in report["benchmarks"].values()]
    assert all(one["done"] == one["planned"] > 0 for one in asked)
    assert sum(one["planned"] for one in asked) == 4 * len(read_heldout(fast_run.out)["after"].questions)
    assert report["settings"]["weights"] == weights_hash(fast_run.out / "checkpoint")
    for name in ("report.md", "report.html"):
        assert (folder / name).stat().st_size > 0, name


def test_a_second_run_has_nothing_to_do(fast_run: FastRun) -> None:
    made = (
        "trace/step_000002.jsonl",
        "checkpoints/settings.json",
        "sft/steps/settings.json",
        "eval/step_2/rollouts.jsonl",
    )
    before = {name: (fast_run.out / name).stat().st_mtime_ns for name in made}
    started = time.monotonic()
    recipe(fast_run.out)
    assert time.monotonic() - started < 120
    assert {name: (fast_run.out / name).stat().st_mtime_ns for name in made} == before


def test_other_settings_are_refused_before_anything_runs(fast_run: FastRun) -> None:
    """What is there was made with seed 0: its report must not be shown as that of seed 1."""
    command = ["bash", str(REPO / "recipes/run_tiny_axpo.sh")]
    environment = {**os.environ, "FAST": "1", "SEED": "1", "OUT": str(fast_run.out)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "checkpoints was begun with other settings or data" in done.stdout
    assert "data.seed: 0 then, 1 now" in done.stdout


def test_a_killed_run_goes_on_from_its_checkpoint(fast_run: FastRun) -> None:
    """Two more steps: killed with SIGKILL while it works on step 4, then started again."""
    first = {step: read_step(fast_run.out / "trace", step).records for step in (1, 2)}
    log = fast_run.out.parent / "killed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            rl_command(fast_run),
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **rl_of(fast_run, steps=4)},
        )
    wait_for(fast_run.out / "trace/step_000003.summary.json", process)
    kill_tree(process.pid)
    process.wait()
    run(rl_command(fast_run), log, **rl_of(fast_run, steps=4))
    assert list_steps(fast_run.out / "trace") == [1, 2, 3, 4]
    result = audit(fast_run.out / "trace")
    assert (result.steps, result.differences) == (4, ())
    assert {step: read_step(fast_run.out / "trace", step).records for step in (1, 2)} == first
    check_data_order(fast_run, steps=4)
    steps = [json.loads(line)["step"] for line in (fast_run.out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert {1, 2, 3, 4} <= set(steps)


def rl_command(fast_run: FastRun) -> list[str]:
    """As run_tiny_axpo.sh calls rl.sh."""
    files = [f"data.train_files={fast_run.world}/train.parquet", f"data.val_files={fast_run.world}/heldout.parquet"]
    return ["bash", str(REPO / "recipes/rl.sh"), "trainer.save_freq=1", *files]


def rl_of(fast_run: FastRun, steps: int) -> dict[str, str]:
    """The variables that run_tiny_axpo.sh gives to rl.sh."""
    out = str(fast_run.out)
    places = {"OUT": out, "RUN": out, "WORLD": str(fast_run.world), "SFT_MODEL": str(fast_run.model)}
    return {"MODEL": "tiny", "SEED": "0", "STEPS": str(steps), **places}


def check_data_order(fast_run: FastRun, steps: int) -> None:
    """The rows of a run that nobody interrupted: those of verl's own sampler, 16 in a step."""
    rows = pq.read_table(fast_run.world / "train.parquet", columns=["extra_info"]).to_pylist()
    order = list(create_rl_sampler(OmegaConf.create({"shuffle": True, "seed": 0}), rows))
    for step in range(1, steps + 1):
        asked = {record.uid: record.question for record in read_step(fast_run.out / "trace", step).records}
        expected = [rows[index]["extra_info"]["question"] for index in order[16 * (step - 1) : 16 * step]]
        assert Counter(asked.values()) == Counter(expected), step


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, f"no {path.name} within {RUN_TIMEOUT_S} s"
        time.sleep(0.2)


def kill_tree(pid: int) -> None:
    """SIGKILL to the process and everything below it, as a machine that loses power would."""
    import psutil

    family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    for one in family:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
