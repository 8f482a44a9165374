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


def view(trace_dir: str | Path, step: int, uid: str | None = None) -> RenderableType:
    """The questions of a step, or one of them in full.

    Raises:
        ValueError: no such step, or no such question in it.
    """
    traced = read_step(trace_dir, step)
    if uid is None:
        return Group(*(Text(defect, style="yellow") for defect in traced.defects), _questions(traced))
    records = [record for record in traced.records if record.uid == uid]
    if not records:
        known = sorted({record.uid for record in traced.records})
        raise ValueError(f"view: got uid {uid}, which step {step} does not have; questions there: {', '.join(known)}")
    return Group(*_question(records))


def _questions(step: TracedStep) -> Table:
    table = Table("uid", "question", "rewards", "tool-using", "resampled", "restored", title=f"step {step.step}")
    for uid in dict.fromkeys(record.uid for record in step.records):
        records = [record for record in step.records if record.uid == uid]
        rollouts = [record for record in records if record.kind is Kind.ROLLOUT]
        sources = [record for record in rollouts if record.selected]
        table.add_row(
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
