"""A step in the terminal: its questions, or one of them with its rollouts, prefixes and continuations.

read_step() -> TracedStep.questions() -> a line for each, no wider than the terminal   view()
                                      -> one of them in full                           view(..., question)
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from verl_axpo.trace import TracedQuestion, TracedStep, TrajectoryRecord, read_step

OPENING_TAG = "<tool_call>"
MOST_UIDS = 20  # listed in an error message
QUESTION_CHARACTERS = 60  # of a question, in the list as JSON


def view(trace_dir: str | Path, step: int, question: str | None = None) -> RenderableType:
    """The questions of a step, or one of them in full.

    Args:
        question: its uid, the beginning of its uid if no other begins so, or its row in the list of questions.

    Raises:
        ValueError: no such step, no such question in it, or several.
    """
    traced = read_step(trace_dir, step, tokens=False)
    if question is not None:
        return Group(*_in_full(_chosen(traced, question)))
    return Group(*(Text(defect, style="yellow") for defect in traced.defects), *_list(traced))


def view_json(trace_dir: str | Path, step: int, question: str | None = None) -> bytes:
    """The same as JSON: the list of questions, or the question's records without their tokens."""
    traced = read_step(trace_dir, step, tokens=False)
    if question is None:
        return orjson.dumps(questions_of(traced), option=orjson.OPT_INDENT_2)
    return b"[" + b",\n".join(record.to_json() for record in _chosen(traced, question).records) + b"]"


def questions_of(step: TracedStep) -> list[dict[str, Any]]:
    """A row per question."""
    return [
        {
            "row": row,
            "uid": question.uid,
            "question": question.text[:QUESTION_CHARACTERS],
            "rewards": " ".join(f"{record.reward:g}" for record in question.rollouts),
            "tool-using": f"{sum(record.uses_tool for record in question.rollouts)} of {len(question.rollouts)}",
            "resampled": ", ".join(f"session {record.session}" for record in question.sources),
            "restored": ("yes" if question.restored else "no") if question.sources else "",
        }
        for row, question in enumerate(step.questions(), start=1)
    ]


def inert(text: str) -> str:
    """Text of a policy or a page, for a terminal: control characters and marks of direction are shown, not obeyed."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" and sign not in "\n\t" else sign
        for sign in text
    )


def first_call(record: TrajectoryRecord) -> str:
    """`name(arguments)` of the first tool call; "" without one."""
    if not record.tool_calls:
        return ""
    call = record.tool_calls[0]
    arguments = call.arguments
    if isinstance(arguments, dict):
        arguments = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{call.name}({arguments})"


def split_at_call(record: TrajectoryRecord) -> tuple[str, str]:
    """The text up to and including the opening tag of the first tool call, and the rest; all of it without a call.

    The trace holds the prefix as tokens; in the text the tag is looked for after the thinking, where a call can be.
    """
    if record.prefix_len is None:
        return record.text, ""
    at = record.text.find(OPENING_TAG, max(record.text.find("</think>"), 0))
    end = at + len(OPENING_TAG) if at >= 0 else len(record.text)
    return record.text[:end], record.text[end:]


def _list(step: TracedStep) -> Iterator[Text]:
    """A line per question. Its end is cut where the terminal is narrow: the uid, which --uid takes, never is."""
    lines = [("row", "uid", "rewards", "tool", "restored", "question")]
    for row in questions_of(step):
        rewards = row["rewards"].replace(" ", "" if set(row["rewards"]) <= set("01 ") else " ")
        sources = row["resampled"].replace("session ", "") + (f": {row['restored']}" if row["restored"] else "")
        tool = row["tool-using"].replace(" of ", "/")
        lines.append((str(row["row"]), row["uid"], rewards, tool, sources, row["question"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, cells in enumerate(lines):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield Text(inert(line.rstrip()), style="" if number else "bold", no_wrap=True, overflow="ellipsis")


def _chosen(step: TracedStep, words: str) -> TracedQuestion:
    """The question that the words stand for: a whole uid first, then a row, then a beginning."""
    questions = {question.uid: question for question in step.questions()}
    uids = list(questions)
    rows = {str(row): uid for row, uid in enumerate(uids, start=1)}
    begun = [uid for uid in uids if uid.startswith(words)]
    uid = words if words in uids else rows.get(words) or (begun[0] if len(begun) == 1 else None)
    if uid is not None:
        return questions[uid]
    why = f"which begins {len(begun)} uids of step {step.step}" if begun else f"which step {step.step} does not have"
    listed = ", ".join((begun or uids)[:MOST_UIDS]) + (", ..." if len(begun or uids) > MOST_UIDS else "")
    raise ValueError(
        f"view: got uid {words}, {why}; give a row from 1 to {len(uids)}, a uid or its beginning; "
        f"questions there: {listed}"
    )


def _in_full(question: TracedQuestion) -> Iterator[RenderableType]:
    first = question.records[0]
    images = "\n".join(dict.fromkeys(image for record in question.records for image in record.images))
    asked = Text(inert(f"{first.question}\n\nanswer: {first.ground_truth}\n{images}"))
    yield Panel(asked, title=Text(inert(first.uid)))
    for record in question.rollouts:
        yield _panel(record)
        yield from map(_panel, question.continuations(record.session))


def _panel(record: TrajectoryRecord) -> Panel:
    title, prefix_style, indent = f"rollout {record.session}", "cyan" if record.selected else "", 1
    prefix, rest = map(inert, split_at_call(record))
    if record.source_session is not None:
        title = f"continuation {record.session} of rollout {record.source_session}"
        prefix, prefix_style, indent = "... ", "dim", 5
    lines = Text(inert(_facts(record)) + "\n", style="bold")
    lines.append(prefix, style=prefix_style).append(rest, style="strike dim" if record.selected else "")
    return Panel(lines, title=title, border_style="green" if record.reward > 0 else "red", padding=(0, 1, 0, indent))


def _facts(record: TrajectoryRecord) -> str:
    measured = {"confidence": record.confidence, "entropy": record.entropy}
    facts = [f"reward {record.reward:g}", f"advantage {record.advantage:.3f}", record.status.value]
    facts += [f"{name} {value:.3f}" for name, value in measured.items() if value is not None]
    if record.recovery is not None:
        facts.append(f"recovery {record.recovery}: trained on the prefix, its continuation is masked")
    return "  ".join([*facts, first_call(record)])
