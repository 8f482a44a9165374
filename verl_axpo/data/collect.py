"""An evaluation's folder into rollouts for the selections: who solved what, and what the teacher wrote.

<folder> -> eval.store.Store: the last line of each rollout, its verdict -> one attempt per line, as `rollouts.py` reads
                                                                            it; pictures of tools -> the image store

The runner's `uid` is the problem's id. Rollouts without a verdict are not collected yet; verdicts of other rules are
refused. A damaged line, and a picture that is lost, cost their own rollout.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from verl_axpo.core.types import Status
from verl_axpo.data.images import ImageRefused, ImageStore
from verl_axpo.data.rollouts import Message, Rollout
from verl_axpo.data.stage import Numbers
from verl_axpo.eval.store import ROLLOUTS, Store
from verl_axpo.eval.types import RolloutRecord, Turn
from verl_axpo.files import inside, write_lines
from verl_axpo.prompts import IMAGE

COUNTED = ("written", "correct", "infra_failures", "without_verdict", "not_for_sft", "not_ended", "bad_lines")


def collect(folder: Path, model: str, out: Path, store: ImageStore) -> Numbers:
    """Write the rollouts of an evaluation to `out`, whole or not at all.

    Returns:
        how many were written, correct, not scorable, without a verdict yet, not usable for SFT, and how many lines are
        none that the runner writes.

    Raises:
        ValueError: files without a single line that the runner writes, a path that leaves the folder, or verdicts of
            other rules; names it.
        FileNotFoundError: the folder has no rollouts.
    """
    run = _opened(folder)
    counts = {**dict.fromkeys(COUNTED, 0), "bad_lines": len(run.damaged)}

    def made() -> Iterator[bytes]:
        for record in run.rollouts():
            failed = record.status is Status.INFRA_FAILURE
            if record.key not in run.scores and not failed:
                counts["without_verdict"] += 1
                continue
            rollout = _rollout(record, None if failed else run.scores[record.key].correct, model, run, store)
            counts["written"] += 1
            counts["correct"] += rollout.correct is True
            counts["infra_failures"] += rollout.correct is None
            counts["not_for_sft"] += not rollout.trainable
            counts["not_ended"] += not rollout.ended
            yield orjson.dumps(rollout.model_dump())

    write_lines(out, made())
    return counts


def _opened(folder: Path) -> Store:
    if not (folder / ROLLOUTS).is_file():
        raise FileNotFoundError(f"{folder / ROLLOUTS}: no such file; expected the folder of an agent run (its --out)")
    run = Store(folder).load()
    if run.damaged and not run.statuses:
        raise ValueError(f"{folder}: {run.damaged[0]}")
    outdated = run.outdated.keys() & run.statuses.keys()
    if outdated:
        raise ValueError(
            f"{folder}: {len(outdated)} rollouts have verdicts of other rules only, not of {run.version!r}; run "
            "the same `verl-axpo eval run` again: it scores them without sampling"
        )
    return run


def _rollout(record: RolloutRecord, correct: bool | None, model: str, run: Store, store: ImageStore) -> Rollout:
    turns, images = _messages(record.turns)
    # Who writes the placeholder itself would get a picture there
    is_plain = sum(turn.content.count(IMAGE) for turn in turns) == len(images)
    kept = _stored([inside(run.folder, name) for name in images], store)
    ended = record.status is Status.OK and not any(turn.unanswered for turn in record.turns)
    trainable = ended and is_plain and kept is not None
    prompt_tokens = record.turns[0].prompt_tokens if record.turns else None
    return Rollout(
        problem_id=record.uid,
        model=model,
        sample=record.rollout,
        correct=correct,
        scored_by=run.version,
        tool_calls=sum(len(turn.calls) + turn.unanswered for turn in record.turns),
        trainable=trainable,
        ended=ended,
        prompt_tokens=prompt_tokens,
        response_tokens=None if prompt_tokens is None else record.response_tokens,
        turns=tuple(turns) if trainable else (),
        images=tuple(kept or ()) if trainable else (),
    )


def _messages(turns: Sequence[Turn]) -> tuple[list[Message], list[str]]:
    """What followed the prompt, as the agent loop renders it (a response's pictures, then its words), and the paths of
    the pictures."""
    messages: list[Message] = []
    images: list[str] = []
    for turn in turns:
        messages.append(Message(role="assistant", content=turn.text))
        for response in turn.responses:
            messages.append(Message(role="tool", content=IMAGE * len(response.images) + response.text))
            images += response.images
    return messages, images


def _stored(paths: Sequence[Path], store: ImageStore) -> list[str] | None:
    """The pictures' names in the store; None where one is lost or refused. The attempt still counts."""
    try:
        return [store.add(path.read_bytes()).sha256 for path in paths]
    except (FileNotFoundError, ImageRefused):
        return None
