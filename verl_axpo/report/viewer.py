"""A step in the terminal: its questions, or one of them with its rollouts, prefixes and continuations."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from verl_axpo.report.table import Rows, Table
from verl_axpo.trace import TracedStep, TrajectoryRecord, read_step

OPENING_TAG = "<tool_call>"
MOST_UIDS = 20  # listed in an error message


def view(trace_dir: str | Path, step: int, question: str | None = None) -> RenderableType:
    """The questions of a step, or one of them in full.

    Args:
        question: its uid, the beginning of its uid if no other begins so, or its row in the list of questions.

    Raises:
        ValueError: no such step, no such question in it, or several.
    """
    traced = read_step(trace_dir, step, tokens=False)
    if question is None:
        table = questions_table(traced).rich()
        table.columns[1].overflow = "fold"  # never cut: it is what --uid takes
        return Group(*(Text(defect, style="yellow") for defect in traced.defects), table)
    return Group(*_question(_records(traced, question)))


def view_json(trace_dir: str | Path, step: int, question: str | None = None) -> bytes:
    """The same as JSON: the list of questions, or the question's records without their tokens."""
    traced = read_step(trace_dir, step, tokens=False)
    if question is None:
        return orjson.dumps(questions_table(traced).records(), option=orjson.OPT_INDENT_2)
    return b"[" + b",\n".join(record.to_json() for record in _records(traced, question)) + b"]"


def questions_table(step: TracedStep) -> Table:
    """A row per question."""
    rows: Rows = []
    for row, uid in enumerate(_uids(step), start=1):
        records = [record for record in step.records if record.uid == uid]
        rollouts = [record for record in records if record.source_session is None]
        sources = [record for record in rollouts if record.selected]
        rows.append(
            {"row": row, "uid": uid, "question": " ".join(records[0].question.split())[:60]}
            | {"rewards": " ".join(f"{record.reward:g}" for record in rollouts)}
            | {"tool-using": f"{sum(record.uses_tool for record in rollouts)} of {len(rollouts)}"}
            | {"resampled": ", ".join(f"session {record.session}" for record in sources)}
            | {"restored": "yes" if any(record.recovery for record in sources) else "no" if sources else ""}
        )
    return Table(name="questions", title=f"step {step.step}", rows=rows)


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


def _uids(step: TracedStep) -> list[str]:
    return list(dict.fromkeys(record.uid for record in step.records))


def _records(step: TracedStep, question: str) -> list[TrajectoryRecord]:
    """Of the question that the words stand for: a whole uid first, then a row, then a beginning."""
    uids = _uids(step)
    rows = {str(row): uid for row, uid in enumerate(uids, start=1)}
    begun = [uid for uid in uids if uid.startswith(question)]
    uid = question if question in uids else rows.get(question) or (begun[0] if len(begun) == 1 else None)
    if uid is not None:
        return [record for record in step.records if record.uid == uid]
    why = f"which begins {len(begun)} uids of step {step.step}" if begun else f"which step {step.step} does not have"
    listed = ", ".join((begun or uids)[:MOST_UIDS]) + (", ..." if len(begun or uids) > MOST_UIDS else "")
    raise ValueError(
        f"view: got uid {question}, {why}; give a row from 1 to {len(uids)}, a uid or its beginning; "
        f"questions there: {listed}"
    )


def _question(records: Sequence[TrajectoryRecord]) -> Iterator[RenderableType]:
    first = records[0]
    images = "\n".join(dict.fromkeys(image for record in records for image in record.images))
    yield Panel(Text(f"{first.question}\n\nanswer: {first.ground_truth}\n{images}"), title=Text(first.uid))
    for record in records:
        if record.source_session is None:
            yield _panel(record)
            yield from (_panel(other) for other in records if other.source_session == record.session)


def _panel(record: TrajectoryRecord) -> Panel:
    resample = record.source_session is not None
    title = f"rollout {record.session}"
    if resample:
        title = f"continuation {record.session} of rollout {record.source_session}"
    lines = Text(_facts(record) + "\n", style="bold")
    prefix, rest = split_at_call(record)
    lines.append("... " if resample else prefix, style="cyan" if record.selected else "dim" if resample else "")
    lines.append(rest, style="strike dim" if record.selected else "")
    colour = "green" if record.reward > 0 else "red"
    return Panel(lines, title=title, border_style=colour, padding=(0, 1, 0, 5 if resample else 1))


def _facts(record: TrajectoryRecord) -> str:
    facts = [f"reward {record.reward:g}", f"advantage {record.advantage:.3f}", record.status.value]
    if record.confidence is not None:
        facts.append(f"confidence {record.confidence:.3f}")
    if record.entropy is not None:
        facts.append(f"entropy {record.entropy:.3f}")
    if record.recovery is not None:
        facts.append(f"recovery {record.recovery}: trained on the prefix, its continuation is masked")
    return "  ".join([*facts, first_call(record)])
