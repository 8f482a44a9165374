"""Held-out evaluation before and after training: verl's validation dumps -> `heldout.json` -> `HeldOut`.

    {"before": {"questions": [{"uid": "h0", "rewards": [1.0, null], "uses_tool": [true, false]}, ...]}, "after": {...}}

`rewards` are the dump's `acc`, 1 for a correct answer: `score`, which is trained on, may hold what a tool call earns. A
null is an answer that nobody could judge. Rollouts that ended in an infra failure are not in the lists, but counted.
verl draws a question's uid anew in each validation. The uid here is a name that is the same in every training on the
question: a hash of its right answer and of where it stands in the data (`question`, from our rollout workers), or else
of its prompt. Questions that share a name keep verl's uids.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from verl_axpo.files import read_lines, write_atomically
from verl_axpo.report.stats import Answers, Outcome

Stage = Literal["before", "after"]
FILE_NAME = "heldout.json"
NAME_CHARACTERS = 16  # 64 bits
NEEDED = ("uid", "acc", "uses_tool", "infra_failure")  # of a line of the dump


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut(Answers):
    """A policy on the held-out questions; `rollouts` is the most that a question has."""

    infra_failures: int = 0

    def all_wrong(self, *, uses_tool: bool) -> float:
        """Of the questions with such a rollout, the share where all of these are wrong: the Thinking-Acting Gap."""
        groups = [[bool(right) for right, used in group if used == uses_tool] for group in self.questions.values()]
        subgroups = [not any(group) for group in groups if group]
        return sum(subgroups) / len(subgroups) if subgroups else float("nan")


def evaluation_from_dump(path: str | Path) -> HeldOut:
    """From verl's validation dump (`trainer.validation_data_dir`): a JSON line per rollout, by `{uid}_{session}_0`.

    An answer whose judge failed has the `acc` null (`verl_axpo.eval.reward`) and no verdict; any other infra failure
    says nothing about the policy.

    Raises:
        ValueError: a line is damaged, or lacks one of `NEEDED`.
    """
    rows = list(_rows(Path(path)))
    drawn = {row["uid"].rsplit("_", 2)[0]: _name(row) for row in rows}
    shared = Counter(drawn.values())
    names = {uid: name if name and shared[name] == 1 else uid for uid, name in drawn.items()}
    questions: dict[str, list[Outcome]] = {}
    failures = 0
    for row in rows:
        if row["infra_failure"] and row["acc"] is not None:
            failures += 1
        else:
            correct = None if row["acc"] is None else row["acc"] >= 1
            name = names[row["uid"].rsplit("_", 2)[0]]
            questions.setdefault(name, []).append(Outcome(correct, bool(row["uses_tool"])))
    return _held_out(questions, failures)


def _name(row: Mapping[str, Any]) -> str | None:
    """The question in every training on it: its row in the data, or its prompt, and its right answer."""
    asked = row.get("question") or row.get("input")
    digest = hashlib.sha256(json.dumps([asked, row.get("gts")]).encode()).hexdigest()
    return digest[:NAME_CHARACTERS] if asked else None


def _held_out(questions: dict[str, list[Outcome]], failures: int) -> HeldOut:
    most = max(map(len, questions.values()), default=0)
    return HeldOut(questions=questions, rollouts=most, infra_failures=failures)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from (line.value for line in read_lines(path, _row_in, at_once=True))
    except ValueError as error:
        raise ValueError(f"{error}; validate again, or delete the file") from error


def _row_in(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)  # not orjson: verl writes NaN
    missing = [name for name in NEEDED if name not in row]
    if missing:
        raise ValueError(
            f"got {sorted(row)}, expected {missing} too; a reward function of your own returns `acc` next to `score`: "
            "1.0 for a correct answer, whatever else it pays for"
        )
    return row


def write_heldout(run_dir: str | Path, stage: Stage, evaluation: HeldOut) -> Path:
    """Put one stage into the run's `heldout.json`, whole or not at all; the other stage stays as it is."""
    path = Path(run_dir) / FILE_NAME
    stages = json.loads(path.read_text()) if path.exists() else {}
    questions = [
        {
            "uid": uid,
            "rewards": [None if outcome.correct is None else float(outcome.correct) for outcome in group],
            "uses_tool": [outcome.uses_tool for outcome in group],
        }
        for uid, group in evaluation.questions.items()
    ]
    stages[stage] = {"questions": questions, "infra_failures": evaluation.infra_failures, "correct_threshold": 1.0}
    write_atomically(path, json.dumps(stages, indent=1).encode())
    return path


def read_heldout(run_dir: str | Path) -> dict[Stage, HeldOut]:
    """The stages in the run's `heldout.json`; {} without the file.

    Raises:
        ValueError: the file is not as `write_heldout` writes it.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return {}
    try:
        stages = json.loads(path.read_text())
        return {stage: _stage(stages[stage]) for stage in get_args(Stage) if stage in stages}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no held-out evaluation ({error}); write it with verl_axpo.report.heldout") from error


def _stage(values: dict[str, Any]) -> HeldOut:
    threshold = values.get("correct_threshold", 1.0)
    questions = {
        question["uid"]: [
            Outcome(None if reward is None else reward >= threshold, used)
            for reward, used in zip(question["rewards"], question["uses_tool"], strict=True)
        ]
        for question in values["questions"]
    }
    return _held_out(questions, values.get("infra_failures", 0))
