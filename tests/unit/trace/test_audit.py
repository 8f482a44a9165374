"""The audit: no difference in a correct trace, and for each kind of planted fault a difference by the right rule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from verl_axpo.audit import Difference, audit
from verl_axpo.core.config import AxpoConfig
from verl_axpo.trace import TraceWriter, store_image

Line = dict[str, Any]
Lines = list[Line]


def edit(trace_dir: Path, change: Callable[[Lines, Line], None], step: int = 2) -> tuple[Difference, ...]:
    """Apply a fault to a step's lines and summary, then audit."""
    path, summary_path = trace_dir / f"step_{step:06d}.jsonl", trace_dir / f"step_{step:06d}.summary.json"
    lines, summary = [json.loads(line) for line in path.open()], json.loads(summary_path.read_text())
    change(lines, summary)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary_path.write_text(json.dumps(summary))
    return audit(trace_dir).differences


def source(lines: Lines) -> Line:
    return next(line for line in lines if line["selected"])


def resample(lines: Lines) -> Line:
    return next(line for line in lines if line["kind"] == "resample")


def plain(lines: Lines, *, tool: bool = True) -> Line:
    return next(
        line
        for line in lines
        if line["kind"] == "rollout" and not line["selected"] and tool == bool(line["tool_calls"])
    )


def test_a_faithful_trace_has_no_difference_and_exercises_every_branch(trace_dir: Path) -> None:
    result = audit(trace_dir)
    assert result.differences == ()
    assert result.notes == ()
    assert result.steps == 3
    lines = [json.loads(line) for step in (1, 2, 3) for line in (trace_dir / f"step_{step:06d}.jsonl").open()]
    summary = json.loads((trace_dir / "step_000002.summary.json").read_text())
    assert 0 < len(summary["selected"]) < len(summary["candidates"])
    assert {line["recovery"] for line in lines if line["selected"]} == {0, 1}
    assert result.trajectories == len(lines)


ABLATIONS: dict[str, dict[str, Any]] = {
    "scratch": {"prefix": "scratch"},
    "no credit": {"prefix_credit": False},
    "merged": {"advantage_group": "merged"},
    "random": {"uncertainty": "random"},
    "entropy": {"uncertainty": "entropy"},
    "no tool": {"target": "no_tool", "prefix": "scratch", "uncertainty": "random"},
    "grpo": {"budget": 0},
    "twice the budget": {"budget": 0.5},
    "streaming": {"allocation": "streaming"},
}


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_setting_has_its_own_rules(ablation: str, tmp_path: Path, step_maker: Callable[..., Any]) -> None:
    """No difference under its own settings, and a difference under the paper's."""
    image = store_image(tmp_path, Image.new("RGB", (4, 3)))
    with TraceWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write_step(*step_maker(step, AxpoConfig(num_continuations=2, **ABLATIONS[ablation]), image))
    assert audit(tmp_path).differences == ()
    resampled = sum(line.count(b'"kind":"resample"') for line in (tmp_path / "step_000001.jsonl").open("rb"))
    assert (resampled > 0) == (ablation != "grpo")
    assert edit(tmp_path, lambda lines, summary: summary.update(config={"num_continuations": 2}))


STREAMING: dict[str, tuple[Callable[[Line], Any], str]] = {
    "an account that nobody paid into": (lambda told: told[2].update(account=told[2]["account"] + 1), "settled"),
    "two groups in another order": (lambda told: told.insert(0, told.pop(3)), "settled"),
    "a group that never settled": (lambda told: told.pop(), "settled once"),
    "a group that settled twice": (lambda told: told.append(told[0]), "settled once"),
    "a group of another step": (lambda told: told[0].update(uid="q9z"), "settled once"),
    "a decision at once, with an account of its own": (lambda told: told[4].update(reserve=0.0), "at once"),
}


@pytest.mark.parametrize("fault", STREAMING)
def test_streaming_is_decided_as_the_groups_settled(fault: str, tmp_path: Path, step_maker: Callable[..., Any]) -> None:
    config = AxpoConfig(num_continuations=2, allocation="streaming")
    with TraceWriter(tmp_path) as writer:
        writer.write_step(*step_maker(2, config, store_image(tmp_path, Image.new("RGB", (4, 3)))))
    assert audit(tmp_path).differences == ()
    change, expected = STREAMING[fault]
    differences = edit(tmp_path, lambda _, summary: change(summary["settled"]))
    assert expected in " ".join(str(difference) for difference in differences if difference.check == "allocation")
    assert differences


def set_key(pick: Callable[[Lines], Line], key: str, value: Any) -> Callable[[Lines, Line], None]:
    """A fault: `value`, or what it makes of the old value, in one trajectory."""

    def change(lines: Lines, summary: Line) -> None:
        line = pick(lines)
        line[key] = value(line[key]) if callable(value) else value

    return change


def set_summary(key: str, value: Callable[[Any], Any]) -> Callable[[Lines, Line], None]:
    return lambda lines, summary: summary.update({key: value(summary[key])})


def with_token(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda old: [*old[:index], value, *old[index + 1 :]]


FAULTS: dict[str, tuple[Callable[[Lines, Line], None], str]] = {
    # trajectories that went missing, doubled or strayed
    "row lost": (lambda lines, summary: lines.remove(plain(lines)), "rows"),
    "row doubled": (lambda lines, summary: lines.append(plain(lines)), "rows"),
    "row of another step": (set_key(plain, "step", 7), "rows"),
    "row of another question": (set_key(plain, "uid", "stranger"), "rows"),
    # decisions
    "budget too large": (set_summary("budget", lambda old: old + 1), "budget"),
    "trigger missed": (set_key(source, "reward", 1.0), "ranking"),
    "candidate lost": (set_summary("candidates", lambda old: old[1:]), "ranking"),
    "candidates out of order": (set_summary("candidates", lambda old: old[::-1]), "ranking"),
    "score is not the confidence": (
        lambda lines, summary: summary["candidates"][0].update(score=summary["candidates"][0]["score"] * 1.001),
        "ranking",
    ),
    "selection not breadth-first": (
        lambda lines, summary: summary["selected"].__setitem__(0, summary["candidates"][-1]),
        "allocation",
    ),
    "selected one too few": (set_summary("selected", lambda old: old[:-1]), "allocation"),
    "other settings": (lambda lines, summary: summary["config"].update(budget=0.1), "allocation"),
    "continuation lost": (lambda lines, summary: lines.remove(resample(lines)), "resamples"),
    "source not marked": (set_key(source, "selected", False), "resamples"),
    "continuation of no source": (set_key(resample, "source_session", 99), "resamples"),
    # tokens
    "prefix token changed": (set_key(resample, "response_ids", with_token(1, 5)), "prefix"),
    "prefix cut short": (set_key(plain, "prefix_len", 3), "prefix"),
    "prefix of another length": (set_key(resample, "prompt_len", 12), "prefix"),
    "span beyond the response": (set_key(plain, "tool_call_span", [4, 99]), "prefix"),
    "source cut in the trace": (set_key(source, "response_ids", lambda old: old[:4]), "masks"),
    "source trains its continuation": (set_key(source, "response_mask", with_token(4, 1)), "masks"),
    "source loses its opening tag": (set_key(source, "response_mask", with_token(3, 0)), "masks"),
    "resample trains the opening tag": (set_key(resample, "response_mask", with_token(3, 1)), "masks"),
    "tool response trained": (set_key(plain, "response_mask", with_token(10, 1)), "masks"),
    "rollout masked": (set_key(plain, "response_mask", with_token(0, 0)), "masks"),
    "infra failure trained": (set_key(plain, "status", "infra_failure"), "masks"),
    "confidence of other tokens": (set_key(plain, "confidence", lambda old: old * 0.99), "confidence"),
    # learning signal
    "recovery flipped": (set_key(source, "recovery", lambda old: 1 - old), "recovery"),
    "recovery of a plain rollout": (set_key(plain, "recovery", 1), "recovery"),
    "advantage off": (set_key(plain, "advantage", lambda old: old + 1e-4), "advantages"),
    "source credited with its own zero": (set_key(source, "advantage", -0.5), "advantages"),
    "prefix advantage missing": (set_key(source, "advantage_prefix", None), "advantages"),
    "reward changed after the fact": (set_key(resample, "reward", lambda old: 1 - old), "advantages"),
    "selection of a resample": (set_key(resample, "selected", True), "resamples"),
    "metric wrong": (lambda lines, summary: summary["metrics"].update({"axpo/restore_rate": 0.123}), "metrics"),
    # files
    "image lost": (set_key(plain, "images", ["images/lost.png"]), "files"),
    "unknown status": (set_key(plain, "status", "fine"), "files"),
    "impossible settings": (lambda lines, summary: summary["config"].update(budget=-1), "files"),
}


def set_metric(name: str, value: Any) -> Callable[[Lines, Line], None]:
    """A fault: `value`, or what it makes of the old value, in one of the summary's metrics; None takes it out."""

    def change(lines: Lines, summary: Line) -> None:
        old = summary["metrics"].pop(name, None)
        if value is not None:
            summary["metrics"][name] = value(old) if callable(value) else value

    return change


METRIC_FAULTS: dict[str, tuple[Callable[[Lines, Line], None], set[str]]] = {
    "a call too many": (set_metric("axpo/tool/image_zoom_in/calls", lambda old: old + 1), {"image_zoom_in/calls"}),
    "an error that no record has": (set_metric("axpo/tool/image_zoom_in/errors", 1.0), {"image_zoom_in/errors"}),
    "a total instead of a mean": (set_metric("axpo/tool/image_zoom_in/seconds", 0.2), {"image_zoom_in/seconds"}),
    "the prefix counted again": (set_metric("axpo/extra_tokens_ratio", lambda old: old * 11 / 7), {"extra_tokens"}),
    "no number": (lambda lines, summary: summary["metrics"].update({"axpo/selected": None}), {"axpo/selected"}),
    "missing, of core": (set_metric("axpo/pass@1", None), {"axpo/pass@1"}),
    "missing, of a tool": (set_metric("axpo/tool/image_zoom_in/errors", None), {"image_zoom_in/errors"}),
    "missing, of tokens": (set_metric("axpo/extra_tokens_ratio", None), {"axpo/extra_tokens_ratio"}),
    "invented": (set_metric("axpo/insight", 0.5), {"no axpo/insight"}),
    "of a tool that was never called": (set_metric("axpo/tool/python/calls", 3.0), {"no axpo/tool/python/calls"}),
}


@pytest.mark.parametrize("fault", METRIC_FAULTS)
def test_a_wrong_missing_or_invented_metric_is_reported_by_name(trace_dir: Path, fault: str) -> None:
    change, names = METRIC_FAULTS[fault]
    differences = edit(trace_dir, change)
    assert {(difference.check, difference.where) for difference in differences} == {("metrics", "summary")}
    assert len(differences) == len(names)
    assert all(any(name in difference.expected for difference in differences) for name in names)


@pytest.mark.parametrize("name", ["axpo/prefix_cache_hit_rate", "critic/rewards/mean", "actor/loss"])
@pytest.mark.parametrize("value", [None, 0.123])
def test_what_the_trace_does_not_determine_may_be_anything_or_missing(
    trace_dir: Path, name: str, value: float | None
) -> None:
    assert edit(trace_dir, set_metric(name, value)) == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_reported_by_its_rule(trace_dir: Path, fault: str) -> None:
    change, rule = FAULTS[fault]
    differences = edit(trace_dir, change)
    assert rule in {difference.check for difference in differences}
    assert {difference.step for difference in differences} == {2}


def test_a_difference_names_row_rule_expected_and_found(trace_dir: Path) -> None:
    (difference,) = edit(trace_dir, set_key(plain, "confidence", 0.001))[:1]
    if difference.check != "confidence":  # it was a candidate: its ranking differs first
        difference = next(difference for difference in audit(trace_dir).differences if difference.check == "confidence")
    assert str(difference).startswith("step 2, q2")
    assert str(difference).endswith("found 0.001000")


def test_a_step_missing_in_between_is_a_difference(trace_dir: Path) -> None:
    for path in trace_dir.glob("step_000002.*"):
        path.unlink()
    assert [(difference.step, difference.found) for difference in audit(trace_dir).differences] == [
        (2, "none of this one")
    ]


def test_a_killed_last_step_is_a_note_but_a_gap_before_it_a_difference(trace_dir: Path) -> None:
    (trace_dir / "step_000003.summary.json").unlink()
    result = audit(trace_dir)
    assert (result.steps, result.differences) == (2, ())
    assert "step 3 has no summary" in result.notes[0]
    (trace_dir / "step_000002.summary.json").unlink()
    assert [(difference.step, difference.expected) for difference in audit(trace_dir).differences] == [(2, "a summary")]


def test_a_failed_resample_is_a_note(trace_dir: Path) -> None:
    """Invariant 7: the group is then what GRPO would have had, so its source is an ordinary row again."""
    from verl_axpo.core.advantage import row_advantages
    from verl_axpo.trace import TrajectoryRecord, read_step

    def fail(lines: Lines, summary: Line) -> None:
        row = source(lines)
        row |= {"selected": False, "recovery": None, "advantage_prefix": None}
        row["response_mask"] = [int(value is not None) for value in row["logprobs"]]
        key = (row["uid"], row["session"])
        lines[:] = [line for line in lines if (line["uid"], line["source_session"]) != key]
        summary["num_records"] = len(lines)
        rows = [TrajectoryRecord.from_json(json.dumps(line)).as_rollout() for line in lines]
        config = read_step(trace_dir, 2).summary.config  # type: ignore[union-attr]
        for line, value in zip(lines, row_advantages(rows, config).tolist(), strict=True):
            line["advantage"] = value
            line["advantage_prefix"] = value if line["selected"] else None

    edit(trace_dir, fail)
    result = audit(trace_dir)
    # the fixture's metrics still count it
    assert {difference.check for difference in result.differences} <= {"metrics"}
    assert any("its resampling failed" in note for note in result.notes)


# Of step 2: a no-tool rollout of q2c, whose only tool call is wrong, and every session of q2d
FAILED_SESSIONS = {("q2c", 3), *(("q2d", session) for session in range(4))}


def write_failed_sessions(folder: Path, config: AxpoConfig, step_maker: Callable[..., Any]) -> None:
    image = store_image(folder, Image.new("RGB", (4, 3)))
    with TraceWriter(folder) as writer:
        writer.write_step(*step_maker(2, config, image, FAILED_SESSIONS))


def test_a_failed_session_is_a_note(tmp_path: Path, config: AxpoConfig, step_maker: Callable[..., Any]) -> None:
    """docs/design/status.md: the session is gone, and its group resamples nothing."""
    write_failed_sessions(tmp_path, config, step_maker)
    result = audit(tmp_path)
    assert result.differences == ()
    assert result.notes == (
        "step 2, q2c: 3 of 4 rollouts, the other sessions failed; nothing of it is resampled",
        "step 2, q2d: 0 of 4 rollouts, the other sessions failed; nothing of it is resampled",
    )


def test_a_step_that_lost_most_of_its_rollouts_is_a_difference(
    tmp_path: Path, config: AxpoConfig, step_maker: Callable[..., Any]
) -> None:
    """A step that lost most of its rollouts has those that ended first, and groups of one."""
    lost = {(f"q2{letter}", session) for letter in "abcdef" for session in range(4)} - {("q2a", 1), ("q2c", 1)}
    image = store_image(tmp_path, Image.new("RGB", (4, 3)))
    with TraceWriter(tmp_path) as writer:
        writer.write_step(*step_maker(2, config, image, lost))
    differences = audit(tmp_path).differences
    assert "most of the step's 24 rollouts, found 2 that did not fail" in str(differences[-1])


def test_what_a_group_with_a_failed_session_resamples_is_a_difference(
    tmp_path: Path, config: AxpoConfig, step_maker: Callable[..., Any]
) -> None:
    write_failed_sessions(tmp_path, config, step_maker)

    def rank_it(lines: Lines, summary: Line) -> None:
        summary["candidates"].append({"uid": "q2c", "session": 1, "score": 0.5})

    assert [(found.check, found.where) for found in edit(tmp_path, rank_it)] == [("ranking", "q2c/1")]


def test_an_empty_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"was algorithm.axpo.trace_dir set"):
        audit(tmp_path)


VERSIONS: dict[str, Callable[[Lines], None]] = {
    "of the step itself": lambda lines: resample(lines).update(weight_versions=[1, 2]),
    "the older last": lambda lines: plain(lines).update(weight_versions=[1, 0]),
    "older than its source's": lambda lines: resample(lines).update(weight_versions=[0, 1]),
}


@pytest.mark.parametrize("wrong", [None, *VERSIONS])
def test_weights_only_get_newer(trace_dir: Path, wrong: str | None) -> None:
    """In step 2, where all rows have the weights of step 1, as in a synchronous run."""

    def change(lines: Lines, summary: Line) -> None:
        for line in lines:
            line["weight_versions"] = [1, 1]
        summary["metrics"]["axpo/mixed_version_prefixes"] = 0.0
        if wrong is not None:
            VERSIONS[wrong](lines)

    found = {difference.check for difference in edit(trace_dir, change)}
    assert ("versions" in found) if wrong else not found
