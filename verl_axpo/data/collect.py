"""An agent run's folder into rollouts for the selections: who solved what, and what the teacher wrote.

<folder>/rollouts.jsonl (turns, calls, responses) --.-> one attempt per line, in the form of `rollouts.py`
<folder>/scores.jsonl   (verdicts)                --'   pictures of tools -> the image store

The runner's `uid` is the problem's id. Of its lines only the fields below are read; a later line of the same rollout
replaces an earlier one, and a verdict counts for the line that it was given on. A verdict that nobody could give hides
none. Rollouts without a verdict are not collected yet; verdicts of other rules are refused. A line that is none, and a
picture that is lost, cost their own rollout.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel

from verl_axpo.core.types import Status
from verl_axpo.data.images import ImageRefused, ImageStore
from verl_axpo.data.problem import PLACEHOLDER
from verl_axpo.data.rollouts import Message, Rollout
from verl_axpo.data.stage import Numbers
from verl_axpo.data.validation import parser
from verl_axpo.eval import versions
from verl_axpo.eval.types import bytes_hash
from verl_axpo.files import Line, inside, read_lines, write_lines

BAD_LINES = "bad_lines"
Key = tuple[str, str, int]


class _Response(BaseModel):
    text: str
    images: list[str] = []


class _Turn(BaseModel):
    text: str
    calls: list[object] = []
    responses: list[_Response] = []
    unanswered: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Line(BaseModel):
    benchmark: str
    uid: str
    rollout: int

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


class _Run(_Line):
    status: Status
    turns: list[_Turn]


class _Verdict(BaseModel):
    correct: bool | None


class _Scored(_Line):
    score: _Verdict
    version: str = versions.FIRST_SCORING
    of: str | None = None


LineT = TypeVar("LineT", bound=_Line)


def collect(folder: Path, model: str, out: Path, store: ImageStore) -> Numbers:
    """Write the rollouts of an agent run to `out`, whole or not at all.

    Returns:
        how many were written, correct, not scorable, without a verdict yet, not usable for SFT, and how many lines are
        none that the runner writes.

    Raises:
        ValueError: a file without a single line that the runner writes, a path that leaves the folder, or verdicts of
            other rules; names it.
        FileNotFoundError: the folder has no rollouts.
    """
    names = ("written", "correct", "infra_failures", "without_verdict", "not_for_sft", "not_ended", BAD_LINES)
    counts = dict.fromkeys(names, 0)
    scored = [line.value for line in _lines(folder / "scores.jsonl", _Scored, counts)]
    runs = _lines(folder / "rollouts.jsonl", _Run, counts)
    places = {line.value.key: (line.offset, bytes_hash(line.data)) for line in runs}
    verdicts = _verdicts(folder, scored, {key: name for key, (_, name) in places.items()})

    def made() -> Iterator[bytes]:
        for line in _lines(folder / "rollouts.jsonl", _Run, dict(counts)):
            run = line.value
            if places[run.key][0] != line.offset:
                continue
            failed = run.status is Status.INFRA_FAILURE
            if run.key not in verdicts and not failed:
                counts["without_verdict"] += 1
                continue
            rollout = _rollout(run, None if failed else verdicts[run.key], model, folder, store)
            counts["written"] += 1
            counts["correct"] += rollout.correct is True
            counts["infra_failures"] += rollout.correct is None
            counts["not_for_sft"] += not rollout.trainable
            counts["not_ended"] += not rollout.ended
            yield orjson.dumps(rollout.model_dump())

    write_lines(out, made())
    return counts


def _verdicts(folder: Path, scored: Sequence[_Scored], names: Mapping[Key, str]) -> dict[Key, bool | None]:
    """Of today's rules, on the last line of each rollout."""
    found: dict[Key, bool | None] = {}
    for line in scored:
        is_current = line.version == versions.scoring() and line.of in (None, names.get(line.key))
        if is_current and (line.score.correct is not None or line.key not in found):
            found[line.key] = line.score.correct
    outdated = {line.key for line in scored if line.version != versions.scoring()} & names.keys() - found.keys()
    if outdated:
        raise ValueError(
            f"{folder}: {len(outdated)} rollouts have verdicts of other rules only, not of {versions.scoring()!r}; run "
            "the same `verl-axpo eval run` again: it scores them without sampling"
        )
    return found


def _rollout(run: _Run, correct: bool | None, model: str, folder: Path, store: ImageStore) -> Rollout:
    turns: list[Message] = []
    images: list[str] = []
    for turn in run.turns:
        turns.append(Message(role="assistant", content=turn.text))
        for response in turn.responses:
            # as the agent loop renders it: the pictures, then the words
            turns.append(Message(role="tool", content=PLACEHOLDER * len(response.images) + response.text))
            images += response.images
    # Who writes the placeholder itself would get a picture there
    trainable = sum(turn.content.count(PLACEHOLDER) for turn in turns) == len(images)
    prompt_tokens, response_tokens = _tokens(run.turns)
    pictures = [_content(inside(folder, name)) for name in images]
    kept: list[str] = []
    try:
        kept = [store.add(data).sha256 for data in pictures if data is not None]
    except ImageRefused:
        trainable = False  # a crop too thin to be an image; the attempt still counts
    ended = run.status is Status.OK and not any(turn.unanswered for turn in run.turns)
    trainable = trainable and ended and None not in pictures
    return Rollout(
        problem_id=run.uid,
        model=model,
        sample=run.rollout,
        correct=correct,
        scored_by=versions.scoring(),
        tool_calls=sum(len(turn.calls) + turn.unanswered for turn in run.turns),
        trainable=trainable,
        ended=ended,
        prompt_tokens=prompt_tokens,
        response_tokens=response_tokens,
        turns=tuple(turns) if trainable else (),
        images=tuple(kept) if trainable else (),
    )


def _content(path: Path) -> bytes | None:
    """A picture's bytes; None where it was lost."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _tokens(turns: Sequence[_Turn]) -> tuple[int | None, int | None]:
    """Of the prompt, and of what followed it: the last turn's prompt is all that was said before its completion."""
    if not turns or turns[0].prompt_tokens is None:
        return None, None
    before, last = turns[0].prompt_tokens, turns[-1]
    if last.prompt_tokens is None or last.completion_tokens is None:
        return before, None
    return before, last.prompt_tokens + last.completion_tokens - before


def _lines(path: Path, kind: type[LineT], counts: Numbers) -> Iterator[Line[LineT]]:
    """The whole lines of a file; those that the runner did not write are counted."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of an agent run (its --out)")
    damaged: list[str] = []
    line = None
    for line in read_lines(path, parser(kind), damaged):
        yield line
    counts[BAD_LINES] += len(damaged)
    if damaged and line is None:
        raise ValueError(f"{path.parent}: {damaged[0]}")
