"""Every field of a real trace, changed alone and with everything that a run would compute from it: the audit tells.

Where no trace could show a change the table below says why, and the test checks that this is so: a rule that begins to
see it must take its line out.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from tests.unit.trace.real import Line, Step, follow, unpack
from verl_axpo.audit import audit
from verl_axpo.audit.tokens import RowView, check_calls
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.tools.syntax import syntax
from verl_axpo.tools.text import utf8
from verl_axpo.trace import StepSummary, TrajectoryRecord
from verl_axpo.trace.records import ToolCall

Change = Callable[[Step], None]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Step:
    return Step.read(unpack(tmp_path_factory.mktemp("real")), 1)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return unpack(tmp_path)


# ------------------------------ rows to change ------------------------------


def source(step: Step) -> Line:
    return step.pick(lambda line: line["selected"])


def resample(step: Step) -> Line:
    return step.pick(lambda line: line["kind"] == "resample" and _responses(line))


def plain(step: Step) -> Line:
    """With a call that a tool answered, and no candidate: its question has a tool-using rollout that is right."""
    candidates = {(entry["uid"], entry["session"]) for entry in step.summary["candidates"]}
    return step.pick(
        lambda line: _responses(line) and line["kind"] == "rollout" and (line["uid"], line["session"]) not in candidates
    )


def silent(step: Step) -> Line:
    return step.pick(lambda line: line["prefix_len"] is None and line["status"] == "ok")


def truncated(step: Step) -> Line:
    return step.pick(lambda line: line["status"] == "truncated")


def _responses(line: Line) -> list[int]:
    """Places of tokens that the policy did not generate."""
    return [at for at, value in enumerate(line["logprobs"]) if value is None]


def to(pick: Callable[[Step], Line], key: str, value: Any) -> Change:
    """`value`, or what it makes of the old value, in one row."""

    def change(step: Step) -> None:
        line = pick(step)
        line[key] = value(line[key]) if callable(value) else value

    return change


def every(key: str, value: Callable[[Any], Any]) -> Change:
    def change(step: Step) -> None:
        for line in step.lines:
            line[key] = None if line[key] is None else value(line[key])

    return change


def at(place: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda old: [*old[:place], value, *old[place + 1 :]]


def summary(key: str, value: Any) -> Change:
    return lambda step: step.summary.update({key: value(step.summary[key]) if callable(value) else value})


def setting(key: str, value: Any) -> Change:
    return lambda step: step.summary["config"].update({key: value})


def generated(places: Callable[[list[int]], list[int]]) -> Change:
    """Tokens of tool responses get a log-prob, and so are trained."""

    def change(step: Step) -> None:
        line = plain(step)
        for place in places(_responses(line)):
            line["logprobs"][place] = -0.5

    return change


def without_call(*keys: str) -> Change:
    """A row that is no candidate loses what is known of its call."""
    return lambda step: plain(step).update({key: [] if key == "tool_calls" else None for key in keys})


def shorter_prefixes(step: Step) -> None:
    for line in step.lines:
        if line["prefix_len"] is not None:
            line["prefix_len"] -= 1
            line["tool_call_span"][0] -= 1


def copied(other: Callable[[Step, Line], Line], *also: str) -> Change:
    """A continuation takes the tokens of another row, and all that the row says of them."""

    def change(step: Step) -> None:
        line = resample(step)
        keys = ("response_ids", "logprobs", "entropies", "text", "tool_call_span", "num_turns", "reward", "status")
        keys += ("turn_lengths",)
        line.update({key: other(step, line)[key] for key in (*keys, *also) if key in line})

    return change


def its_source(step: Step, line: Line) -> Line:
    return step.pick(lambda row: (row["uid"], row["session"]) == (line["uid"], line["source_session"]))


def its_sibling(step: Step, line: Line) -> Line:
    return step.pick(
        lambda row: row is not line and (row["uid"], row["source_session"]) == (line["uid"], line["source_session"])
    )


def other_truth(step: Step) -> None:
    uid = plain(step)["uid"]
    for line in step.lines:
        if line["uid"] == uid:
            line["ground_truth"] = "7"  # no answer of the tiny world


def no_resamples(step: Step) -> None:
    step.lines = [line for line in step.lines if line["kind"] == "rollout"]
    for line in step.lines:
        line["selected"] = False


# ------------------------------ kinds of fault: found alone, and with all that follows ------------------------------

KINDS: dict[str, Change] = {
    "a tool's response is generated": generated(lambda places: places),
    "a second tool's response is split off": generated(lambda places: places[3:4]),
    "the first token of a tool's response is generated": generated(lambda places: places[:1]),
    "the last token of a tool's response is generated": generated(lambda places: places[-1:]),
    "the last generated token of a turn is the tool's": lambda step: plain(step)["logprobs"].__setitem__(
        _responses(plain(step))[0] - 1, None
    ),
    "a tool's response in a row without one": to(silent, "logprobs", at(3, None)),
    "every prefix is one token short": shorter_prefixes,
    "one prefix is one token short": lambda step: plain(step).update(
        prefix_len=plain(step)["prefix_len"] - 1,
        tool_call_span=[plain(step)["prefix_len"] - 1, plain(step)["tool_call_span"][1]],
    ),
    "a span ends early": to(plain, "tool_call_span", lambda old: [old[0], old[1] - 1]),
    "a span ends late": to(plain, "tool_call_span", lambda old: [old[0], old[1] + 1]),
    "every span ends early": every("tool_call_span", lambda old: [old[0], old[1] - 1]),
    "no confidence": without_call("confidence"),
    "no span": without_call("tool_call_span"),
    "no confidence and no span": without_call("confidence", "tool_call_span"),
    "no prefix, span and confidence": without_call("prefix_len", "tool_call_span", "confidence"),
    "no call at all": without_call("prefix_len", "tool_call_span", "confidence", "entropy", "tool_calls"),
    "no calls": without_call("tool_calls"),
    "a continuation copies its source": copied(its_source, "tool_calls"),
    "a continuation copies its source, calls not": copied(its_source),
    "a continuation copies its sibling": copied(its_sibling, "tool_calls"),
    "a question of another group": to(plain, "question", "What is 2 + 2?"),
    "a truth of another group": to(plain, "ground_truth", "7"),
    "a prompt of another length": to(plain, "prompt_len", lambda old: old + 1),
    "a continuation's question": to(resample, "question", "What is 2 + 2?"),
    "a continuation's truth": to(resample, "ground_truth", "7"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("consistent", [False, True], ids=["alone", "followed"])
def test_a_kind_of_fault_is_found(real: Step, kind: str, consistent: bool) -> None:
    step = real.copy()
    KINDS[kind](step)
    if consistent:
        follow(step)
    assert step.differences()


ONLY_LENGTHS_SHOW = {  # in a trace without `turn_lengths` and `tags`, as the first ones are
    "the first token of a tool's response is generated",
    "the last token of a tool's response is generated",
    "the last generated token of a turn is the tool's",
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ONLY_LENGTHS_SHOW])
def test_a_kind_of_fault_is_found_in_a_trace_without_the_later_fields(real: Step, kind: str) -> None:
    step = real.copy()
    step.summary.pop("tags")
    for line in step.lines:
        line.pop("turn_lengths")
    assert step.differences() == []
    KINDS[kind](step)
    follow(step)
    assert step.differences()


def test_what_follows_from_the_real_trace_is_the_real_trace(real: Step) -> None:
    """Else `follow` would add differences of its own, and every test above would pass for nothing."""
    step = real.copy()
    assert step.differences() == []
    follow(step)
    assert step.differences() == []
    assert [(line["advantage"], line["recovery"]) for line in step.lines] == [
        (line["advantage"], line["recovery"]) for line in real.lines
    ]


def test_resampling_that_fails_in_every_step_is_a_difference(trace: Path) -> None:
    for number in (1, 2):
        step = Step.read(trace, number)
        no_resamples(step)
        follow(step)
        step.write(trace)
    (difference,) = audit(trace).differences
    assert "resampling failed for 16" in str(difference)


def test_resampling_that_fails_now_and_then_is_a_note(trace: Path) -> None:
    step = Step.read(trace, 1)
    chosen = source(step)
    gone = (chosen["uid"], chosen["session"])
    step.lines = [line for line in step.lines if (line["uid"], line["source_session"]) != gone]
    chosen["selected"] = False
    follow(step)
    step.write(trace)
    result = audit(trace)
    assert result.differences == ()
    assert any("its resampling failed" in note for note in result.notes)


# ------------------------------ every field, alone and with all that follows ------------------------------

# One change per field of a row, of a step; None where the format alone refuses any other value
ROWS: dict[str, Change] = {
    "step": to(plain, "step", 2),
    "uid": to(plain, "uid", lambda old: old[:-1] + ("1" if old[-1] != "1" else "2")),
    "session": to(plain, "session", lambda old: (old + 1) % 8),
    "kind": to(plain, "kind", "resample"),
    "source_session": to(resample, "source_session", lambda old: (old + 1) % 8),
    "selected": to(plain, "selected", True),
    "status": to(plain, "status", "truncated"),
    "question": to(plain, "question", lambda old: old + " "),
    "ground_truth": to(plain, "ground_truth", lambda old: f"{old}0"),
    "images": to(lambda step: step.pick(lambda line: line["images"]), "images", ["images/none.png"]),
    "prompt_len": to(plain, "prompt_len", lambda old: old - 1),
    "response_ids": to(resample, "response_ids", at(1, 5)),
    "response_mask": to(plain, "response_mask", at(0, 0)),
    "logprobs": to(resample, "logprobs", at(1, -0.25)),
    "entropies": to(plain, "entropies", [0.5]),
    "text": to(plain, "text", lambda old: old.replace("a", "e")),
    "tool_calls": to(plain, "tool_calls", lambda old: [old[0] | {"name": "python", "arguments": {"code": "1"}}]),
    "prefix_len": to(plain, "prefix_len", lambda old: old + 1),
    "tool_call_span": to(plain, "tool_call_span", lambda old: [old[0] + 1, old[1]]),
    "confidence": to(plain, "confidence", lambda old: old * 0.999),
    "entropy": to(plain, "entropy", lambda old: old + 0.1),
    "reward": to(silent, "reward", lambda old: 1.0 - old),
    "recovery": to(source, "recovery", lambda old: 1 - old),
    "advantage_prefix": to(source, "advantage_prefix", lambda old: old + 0.01),
    "advantage": to(plain, "advantage", lambda old: old + 0.01),
    "num_turns": to(plain, "num_turns", lambda old: old + 2),
    "started": to(resample, "started", lambda old: old - 3600),
    "finished": to(plain, "finished", lambda old: old - 3600),
    "turn_lengths": to(plain, "turn_lengths", lambda old: [old[0] - 1, *old[1:]]),
    "weight_versions": to(plain, "weight_versions", [1, 0]),
}
STEPS: dict[str, Change] = {
    "step": summary("step", 2),
    "config": setting("num_continuations", 2),
    "questions": summary("questions", lambda old: [old[1], old[0], *old[2:]]),
    "rollouts_per_question": summary("rollouts_per_question", 7),
    "budget": summary("budget", lambda old: old + 1),
    "candidates": summary("candidates", lambda old: old[1:]),
    "selected": summary("selected", lambda old: [old[0] | {"score": old[0]["score"] * 0.999}, *old[1:]]),
    "metrics": summary("metrics", lambda old: old | {"axpo/pass@1": old["axpo/pass@1"] + 0.01}),
    "normalize_std": summary("normalize_std", False),
    "num_records": summary("num_records", lambda old: old + 1),
    "tags": summary("tags", lambda old: old | {"<tool_call>": old["<tool_call>"] + 1}),
    "settled": summary("settled", [{"uid": "q", "order": 0, "account": 2.0}]),
    "call_syntax": summary("call_syntax", "qwen3_coder"),
    "starts_in_think": summary("starts_in_think", False),
}
COMPUTED = {  # from other fields: with all that follows they are what they were
    "response_mask", "confidence", "recovery", "advantage_prefix", "advantage",
    "budget", "candidates", "selected", "metrics", "num_records",
}  # fmt: skip
# What no trace could show: where the evidence would have to come from
UNSEEN = {
    "text": "the tokenizer, which turns the ids into the text, is in no trace; the calls in it are compared",
    "reward": "the reward is the reward function's word: the function, or the judge, is in no trace",
    "entropy": "the logits are in no trace; it decides nothing unless uncertainty=entropy ranks by it",
    "normalize_std": "a setting is what the run was told; only the other steps show that it was another (a note)",
}
# Other changes of the same fields that nothing in a trace contradicts
UNSEEN_CHANGES: dict[str, Change] = {
    "an id after the call, for the tokenizer is in no trace": to(
        plain, "response_ids", lambda old: [*old[:-2], old[-3], old[-1]]
    ),
    "a log-prob after the call, for the logits are in no trace": to(
        plain, "logprobs", lambda old: [*old[:-2], old[-2] - 0.01, old[-1]]
    ),
    "the number of a continuation, for it is a name": to(resample, "session", 999),
    "a clock by less than its order shows": to(silent, "finished", lambda old: old + 1e-3),
    "how long a call took": to(plain, "tool_calls", lambda old: [old[0] | {"seconds": 0.5 * old[0]["seconds"]}]),
    "the truth of a whole group, for the data set is in no trace": other_truth,
}
FIELDS = [*((True, name) for name in ROWS), *((False, name) for name in STEPS)]


def changed(real: Step, of_row: bool, name: str, *, consistent: bool) -> Step:
    step = real.copy()
    (ROWS if of_row else STEPS)[name](step)
    if consistent:
        follow(step)
    return step


def test_the_tables_have_every_field() -> None:
    in_memory = [field.name for field in fields(TrajectoryRecord)]
    place = in_memory.index("session") + 1
    assert list(ROWS) == [*in_memory[:place], "kind", *in_memory[place:]]  # the file names the kind after the session
    assert list(STEPS) == [field.name for field in fields(StepSummary)]


@pytest.mark.parametrize(("of_row", "name"), [field for field in FIELDS if field[1] not in {"text", "entropy"}])
def test_a_field_changed_alone_is_found(real: Step, of_row: bool, name: str) -> None:
    assert changed(real, of_row, name, consistent=False).differences()


@pytest.mark.parametrize(("of_row", "name"), [field for field in FIELDS if field[1] not in COMPUTED | UNSEEN.keys()])
def test_a_field_changed_with_all_that_follows_is_found(real: Step, of_row: bool, name: str) -> None:
    try:
        step = changed(real, of_row, name, consistent=True)
    except (ValueError, KeyError):  # no consistent consequence exists for a row that contradicts itself
        step = changed(real, of_row, name, consistent=False)
    assert step.differences()


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_trace_could_show_is_not_seen(real: Step, name: str) -> None:
    assert changed(real, name in ROWS, name, consistent=True).differences() == []


@pytest.mark.parametrize("change", UNSEEN_CHANGES)
def test_a_change_that_nothing_contradicts_is_not_seen(real: Step, change: str) -> None:
    step = real.copy()
    UNSEEN_CHANGES[change](step)
    assert step.lines != real.lines
    follow(step)
    assert step.differences() == []


# ------------------------------ what only the steps next to it show ------------------------------

SETTINGS: dict[str, Any] = {
    "budget": 0.2, "num_continuations": 2, "uncertainty": "random", "target": "no_tool", "prefix": "scratch",
    "prefix_credit": False, "advantage_group": "merged", "correct_threshold": 0.5, "trace_dir": "elsewhere", "seed": 7,
    "max_failed_share": 0.5, "allocation": "streaming", "speculate": True, "example_trees": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_one_step_is_a_note_where_it_is_no_difference(trace: Path, name: str) -> None:
    """With rewards of 0 and 1 a threshold of 0.5 decides as 1.0 does: only the other steps show the change."""
    step = Step.read(trace, 2)
    setting(name, SETTINGS[name])(step)
    step.write(trace)
    result = audit(trace)
    assert result.differences or any(f"step 2: {name} is" in note for note in result.notes)


def test_every_setting_is_tried() -> None:
    assert {field.name for field in fields(AxpoConfig)} == SETTINGS.keys()


def test_another_normalisation_in_one_step_is_a_note(trace: Path) -> None:
    step = Step.read(trace, 2)
    summary("normalize_std", False)(step)
    follow(step)
    step.write(trace)
    assert any("step 2: normalize_std is False from here on" in note for note in audit(trace).notes)


def test_a_row_that_ends_after_the_next_step_began_is_a_difference(trace: Path) -> None:
    step = Step.read(trace, 1)
    to(silent, "finished", lambda old: old + 3600)(step)
    step.write(trace)
    assert "rollouts after those of the step before" in str(audit(trace).differences[-1])


# ------------------------------ what is right and looks odd ------------------------------


def odd_call(arguments: str, name: str = "python") -> Line:
    """A row of one call, as a tokenizer and the agent loop would give it, whose name and arguments are these."""
    call = f'{{"name": "{name}", "arguments": {arguments}}}'
    pieces = ["I see.</think>", "<tool_call>", *re.split("(</?tool_call>)", call), "</tool_call>", "<|im_end|>"]
    tags = {"<tool_call>": 1450, "</tool_call>": 1451}
    ids = [1449, *(tags.get(piece, 7) for piece in pieces[1:])]
    told: list[float | None] = [-0.5] * len(ids)
    end = len(ids) - 1
    return {
        "text": "".join(pieces) + "<tool_response>4</tool_response>It is 4.",
        "response_ids": [*ids, 8, 9], "logprobs": [*told, None, -0.5], "turn_lengths": [len(ids), 1], "num_turns": 4,
        "prefix_len": 2, "tool_call_span": [2, end], "confidence": math.exp(-0.5), "entropy": 1.0,
        "tool_calls": [{"name": utf8(json.loads(f'"{name}"')), "ok": True,
                        "arguments": orjson.loads(orjson.dumps(json.loads(arguments))),
                        "infra": False, "seconds": 0.0, "error": None}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        '{"code": "1 + 1"}',
        '{"code": "print(\\"</tool_call>\\")"}',
        '{"code": "print(\\"<tool_call>\\")"}',
        '{"code": "</tool_call> <tool_call> </tool_call>"}',
        '{"number": NaN}',
        '{"number": -0.0, "large": 1e400}',
    ],
)
def test_calls_that_hold_tags_and_odd_numbers_are_no_difference(real: Step, arguments: str) -> None:
    step = real.copy()
    step.pick(lambda line: line is plain(step)).update(odd_call(arguments))
    follow(step)
    assert step.differences() == []


def test_a_name_with_half_a_surrogate_pair_is_no_difference(real: Step) -> None:
    step = real.copy()
    step.pick(lambda line: line is plain(step)).update(odd_call("{}", name="pyt\\ud83d"))
    follow(step)
    assert step.differences() == []


@pytest.mark.parametrize(("traced", "differences"), [(None, 0), (3, 1)])
def test_an_odd_number_in_a_tagged_call_is_no_difference(traced: int | None, differences: int) -> None:
    text = "<tool_call><function=python><parameter=timeout>\nNaN\n</parameter></function></tool_call>"
    call = ToolCall(name="python", arguments={"timeout": traced}, ok=True)
    record = SimpleNamespace(uid="a", session=0, text=text, status=Status.OK, tool_calls=[call])
    row = SimpleNamespace(record=record, tags=SimpleNamespace(syntax=syntax("qwen3_coder")))
    assert len(list(check_calls(cast(RowView, row)))) == differences
