"""One question of a step in the terminal: its rollouts, the prefixes that were resampled, and what came of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from verl_axpo.core.types import Kind
from verl_axpo.report.example import first_call
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
        return Group(*(Text(defect, style="yellow") for defect in traced.defects), _questions(traced))
    uid = _uid(question, list(dict.fromkeys(record.uid for record in traced.records)), step)
    return Group(*_question([record for record in traced.records if record.uid == uid]))


def _uid(question: str, uids: Sequence[str], step: int) -> str:
    """The uid that `question` stands for: a whole uid first, then a row, then a beginning."""
    rows = {str(row): uid for row, uid in enumerate(uids, start=1)}
    beginning = [uid for uid in uids if uid.startswith(question)]
    if question in uids:
        return question
    if question in rows:
        return rows[question]
    if len(beginning) == 1:
        return beginning[0]
    found = f"which begins {len(beginning)} uids of step {step}" if beginning else f"which step {step} does not have"
    listed = ", ".join((beginning or list(uids))[:MOST_UIDS]) + (", ..." if len(beginning or uids) > MOST_UIDS else "")
    raise ValueError(
        f"view: got uid {question}, {found}; give a row from 1 to {len(uids)}, a uid or its beginning; "
        f"questions there: {listed}"
    )


def _questions(step: TracedStep) -> Table:
    table = Table("row", title=f"step {step.step}")
    table.add_column("uid", overflow="fold")  # never cut: it is what --uid takes
    for name in ("question", "rewards", "tool-using", "resampled", "restored"):
        table.add_column(name)
    for row, uid in enumerate(dict.fromkeys(record.uid for record in step.records), start=1):
        records = [record for record in step.records if record.uid == uid]
        rollouts = [record for record in records if record.kind is Kind.ROLLOUT]
        sources = [record for record in rollouts if record.selected]
        table.add_row(
            str(row),
            Text(uid),
            Text(" ".join(records[0].question.split())[:60]),
            " ".join(f"{record.reward:g}" for record in rollouts),
            f"{sum(record.uses_tool for record in rollouts)} of {len(rollouts)}",
            ", ".join(f"session {record.session}" for record in sources),
            "yes" if any(record.recovery for record in sources) else "no" if sources else "",
        )
    return table


def _question(records: Sequence[TrajectoryRecord]) -> Iterator[RenderableType]:
    first = records[0]
    images = "\n".join(dict.fromkeys(image for record in records for image in record.images))
    yield Panel(Text(f"{first.question}\n\nanswer: {first.ground_truth}\n{images}"), title=Text(first.uid))
    for record in records:
        if record.kind is Kind.ROLLOUT:
            yield _panel(record)
            yield from (_panel(one) for one in records if one.source_session == record.session)


def _panel(record: TrajectoryRecord) -> Panel:
    resample = record.kind is Kind.RESAMPLE
    title = f"{'continuation' if resample else 'rollout'} {record.session}"
    if resample:
        title += f" of rollout {record.source_session}"
    lines = Text(_facts(record) + "\n", style="bold")
    prefix, rest = split_at_call(record)
    lines.append(prefix if not resample else "... ", style="cyan" if record.selected else "dim" if resample else "")
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


def split_at_call(record: TrajectoryRecord) -> tuple[str, str]:
    """The text up to and including the opening tag of the first tool call, and the rest; all of it without a call.

    The trace holds the prefix as tokens; in the text the tag is looked for after the thinking, where a call can be.
    """
    if record.prefix_len is None:
        return record.text, ""
    at = record.text.find(OPENING_TAG, max(record.text.find("</think>"), 0))
    end = at + len(OPENING_TAG) if at >= 0 else len(record.text)
    return record.text[:end], record.text[end:]
