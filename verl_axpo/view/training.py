"""A training's trace as the page asks for it: steps, questions as trees, tokens with what shades them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.rewards.answer import final_answer
from verl_axpo.tools.syntax import HERMES, syntax
from verl_axpo.trace import StepSummary, TracedQuestion, TrajectoryRecord
from verl_axpo.trace.reader import list_steps, read_summary, records_path, summary_path
from verl_axpo.view.index import Row, StepIndex, rows, step_index
from verl_axpo.view.source import Json
from verl_axpo.view.text import split

TOKENIZERS = ("checkpoint/tokenizer.json", "checkpoints/*/actor/huggingface/tokenizer.json")


class TrainingSource:
    """The trace of a run.

    Args:
        folder: of the trace.
        run_folder: of the run, whose checkpoint has the tokenizer; without one, tokens are shown as numbers.
    """

    def __init__(self, folder: Path, run_folder: Path | None = None) -> None:
        self.folder, self.run_folder = folder, run_folder or folder
        self._summaries: dict[int, tuple[int, StepSummary | None, list[str]]] = {}

    def run(self) -> Json:
        steps = list_steps(self.folder)
        return {
            "kind": "training",
            "title": self.run_folder.resolve().name,
            "chapters": [self._step_in_short(step) for step in steps],
        }

    def chapter(self, key: str) -> Json:
        step = self._step(key)
        index = step_index(self.folder, step)
        summary, defects = self._summary(step)
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in index.rows:
            groups[row.uid].append(row)
        return {
            "key": key,
            "defects": [*index.defects, *defects, *_missing(index, summary)],
            "questions": [_in_list(uid, index, group, summary) for uid, group in groups.items()],
        }

    def question(self, key: str, uid: str) -> Json:
        step = self._step(key)
        records = list(rows(self.folder, step, step_index(self.folder, step), uid))
        if not records:
            raise ValueError(f"view: step {step} has no question {uid}")
        summary, _ = self._summary(step)
        asked = TracedQuestion(uid=uid, records=tuple(records)).images
        return {
            "uid": uid,
            "text": records[0].question,
            "truth": str(records[0].ground_truth),
            "images": asked,
            "trajectories": [_trajectory(record, len(asked), summary) for record in records],
        }

    def tokens(self, key: str, uid: str, name: str) -> Json:
        step = self._step(key)
        session = int(name) if name.isdecimal() else -1
        for record in rows(self.folder, step, step_index(self.folder, step), uid, session):
            ids = [int(token) for token in record.response_ids]
            tokenizer = self._tokenizer
            return {
                "ids": ids,
                "texts": [tokenizer.decode([token], skip_special_tokens=False) for token in ids] if tokenizer else None,
                "logprobs": record.logprobs,
                "entropies": record.entropies,
                "trained": record.response_mask,
                "advantage": record.advantage,
                "prefix": record.prefix_len,
                "call": record.tool_call_span,
            }
        raise ValueError(f"view: step {step} has no trajectory {name} of question {uid}")

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        found = (path for name in TOKENIZERS for path in sorted(self.run_folder.glob(name)))
        path = next(found, None)
        return Tokenizer.from_file(str(path)) if path else None

    def _step(self, key: str) -> int:
        step = int(key) if key.isdecimal() else -1
        if not records_path(self.folder, step).exists():
            raise ValueError(f"view: there is no step {key}")
        return step

    def _step_in_short(self, step: int) -> Json:
        summary, _ = self._summary(step)
        metrics = dict(summary.metrics) if summary else {}
        return {"key": str(step), "complete": summary is not None, "metrics": metrics}

    def _summary(self, step: int) -> tuple[StepSummary | None, list[str]]:
        """Read once, and again when a resumed run has written the step anew."""
        path = summary_path(self.folder, step)
        if not path.exists():
            return None, [f"step {step} has no summary yet"]
        modified = path.stat().st_mtime_ns
        kept = self._summaries.get(step)
        if kept is None or kept[0] != modified:
            kept = self._summaries[step] = (modified, *read_summary(self.folder, step))
        return kept[1:]


def _in_list(uid: str, index: StepIndex, group: Sequence[Row], summary: StepSummary | None) -> Json:
    text, truth = index.questions[uid]

    def mark(row: Row) -> list[Any]:
        return [row.session, row.reward, row.uses_tool, row.status, _is_correct(row.reward, summary)]

    return {
        "uid": uid,
        "text": text,
        "truth": truth,
        "triggered": summary is not None and any(candidate.uid == uid for candidate in summary.candidates),
        "resampled": any(row.selected for row in group),
        "restored": any(row.recovery == 1 for row in group),
        "infra": sum(row.status == Status.INFRA_FAILURE.value for row in group),
        "rollouts": [mark(row) for row in group if row.source is None],
        "continuations": [mark(row) for row in group if row.source is not None],
    }


def _is_correct(reward: float, summary: StepSummary | None) -> bool:
    return (summary.config if summary else AxpoConfig()).is_correct(reward)


def _missing(index: StepIndex, summary: StepSummary | None) -> list[str]:
    wanted = summary.num_records if summary else None
    there = len(index.rows)
    return [f"{there} of {wanted} trajectories are there"] if wanted is not None and wanted != there else []


def _trajectory(record: TrajectoryRecord, asked: int, summary: StepSummary | None) -> Json:
    thinking = summary.starts_in_think if summary and summary.starts_in_think is not None else "</think>" in record.text
    wrote = syntax(summary.call_syntax) if summary and summary.call_syntax else HERMES
    return {
        "id": str(record.session),
        "source": None if record.source_session is None else str(record.source_session),
        "selected": record.selected,
        "status": record.status.value,
        "reward": record.reward,
        "correct": _is_correct(record.reward, summary),
        "advantage": record.advantage,
        "recovery": record.recovery,
        "confidence": record.confidence,
        "entropy": record.entropy,
        "usesTool": record.uses_tool,
        "tokens": len(record.response_ids),
        "runs": runs_of(record),
        "prefix": record.prefix_len,
        "call": record.tool_call_span,
        "seconds": record.finished - record.started,
        "weights": record.weight_versions,
        "reason": _reason(record, starts_in_think=bool(summary and summary.starts_in_think)),
        "parts": [asdict(part) for part in split(record.text, thinking=thinking, syntax=wrote)],
        "calls": [asdict(call) for call in record.tool_calls],
        "images": list(record.images[asked:]),
    }


def runs_of(record: TrajectoryRecord) -> list[tuple[str, int]]:
    """The response as runs of tokens of one kind, with lengths: "trained", "masked", "tool" (a tool wrote them)."""
    by_policy = ~np.isnan(np.array(record.logprobs, dtype=float))
    kinds = np.where(np.array(record.response_mask, dtype=bool), 2, by_policy.astype(int))
    starts = np.flatnonzero(np.diff(kinds, prepend=-1))
    lengths = np.diff(starts, append=len(kinds))
    names = ("tool", "masked", "trained")
    return [(names[kinds[start]], int(length)) for start, length in zip(starts, lengths, strict=True)]


def _reason(record: TrajectoryRecord, *, starts_in_think: bool) -> str:
    if record.status is Status.INFRA_FAILURE:
        return "a service failed: no answer is right or wrong, and nothing is trained"
    given = final_answer(record.text, starts_in_think=starts_in_think)
    return f"reward {record.reward:g}: " + ("no final answer" if given is None else f"answered {given}")
