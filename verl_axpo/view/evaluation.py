"""An evaluation as the page asks for it: benchmarks, questions with their rollouts, score and reason."""

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import JUDGE, read_manifest
from verl_axpo.eval.store import MANIFEST, QUESTIONS, ROLLOUTS, SCORES, Store
from verl_axpo.eval.types import Key, Question, RolloutRecord, Score
from verl_axpo.view.index import TEXT_CHARACTERS
from verl_axpo.view.source import Json
from verl_axpo.view.text import split


class EvaluationSource:
    """The folder of `verl-axpo eval run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state: tuple[int, ...] = ()
        self._store = Store(folder)
        self._has_judge = False
        self._questions: dict[str, dict[str, Question]] = {}

    def run(self) -> Json:
        self._read()
        return {
            "kind": "evaluation",
            "title": self.folder.resolve().name,
            "chapters": [{"key": name, "complete": True, "metrics": self._figures(name)} for name in self._questions],
        }

    def chapter(self, key: str) -> Json:
        rollouts: dict[str, list[RolloutRecord]] = defaultdict(list)
        questions = self._of(key)
        for record in self._store.rollouts(lambda wanted: wanted[0] == key):
            rollouts[record.uid].append(record)
        listed = [self._in_list(question, rollouts[uid]) for uid, question in questions.items()]
        return {"key": key, "defects": self._store.damaged, "questions": listed}

    def question(self, key: str, uid: str) -> Json:
        question = self._of(key).get(uid)
        if question is None:
            raise ValueError(f"view: {key} has no question {uid}")
        records = sorted(self._store.rollouts(lambda wanted: wanted[:2] == (key, uid)), key=lambda each: each.rollout)
        return {
            "uid": uid,
            "text": question.prompt.replace("<image>", ""),
            "truth": question.ground_truth,
            "images": list(question.image_paths),
            "trajectories": [self._trajectory(record) for record in records],
        }

    def tokens(self, key: str, uid: str, name: str) -> Json:
        raise ValueError("view: an evaluation keeps texts, no tokens")

    def _read(self) -> None:
        """Anew when an evaluation that is going on has written more."""
        files = [self.folder / name for name in (MANIFEST, ROLLOUTS, SCORES)]
        state = tuple(file.stat().st_size if file.exists() else 0 for file in files)
        if state != self._state:
            self._store = Store(self.folder).load()
            names = sorted(path.stem for path in (self.folder / QUESTIONS).glob("*.jsonl"))
            self._questions = {name: {each.uid: each for each in self._store.questions(name)} for name in names}
            self._has_judge = read_manifest(self.folder).settings.get(JUDGE) is not None
            self._state = state

    def _of(self, key: str) -> dict[str, Question]:
        self._read()
        if key not in self._questions:
            raise ValueError(f"view: there is no benchmark {key}; there are {', '.join(self._questions)}")
        return self._questions[key]

    def _figures(self, name: str) -> dict[str, float]:
        verdicts = [self._score(key) for key in self._store.scores if key[0] == name]
        scores = [score for score in verdicts if score.correct is not None]
        done = sum(key[0] == name for key in self._store.statuses)
        share = {"pass@1": sum(bool(score.correct) for score in scores) / len(scores)} if scores else {}
        return {**share, "rollouts": done, "questions": len(self._questions[name])}

    def _score(self, key: Key) -> Score:
        why = self._store.refused.get(key, "no score yet")
        return self._store.verdict(key, has_judge=self._has_judge) or Score(correct=None, by="nobody", reason=why)

    def _in_list(self, question: Question, records: list[RolloutRecord]) -> Json:
        scores = [self._score(each.key) for each in records]
        marks = [
            [each.rollout, _reward(score), each.uses_tool, each.status.value, score.correct]
            for each, score in zip(records, scores, strict=True)
        ]
        return {
            "uid": question.uid,
            "text": " ".join(question.prompt.replace("<image>", "").split())[:TEXT_CHARACTERS],
            "truth": question.ground_truth[:TEXT_CHARACTERS],
            "infra": sum(each.status is Status.INFRA_FAILURE for each in records),
            "rollouts": sorted(marks, key=lambda mark: mark[0]),
            "continuations": [],
        }

    def _trajectory(self, record: RolloutRecord) -> Json:
        score = self._score(record.key)
        parts: list[Json] = []
        images: list[str] = []
        for turn in record.turns:
            parts += [asdict(part) for part in split(turn.text, thinking=_opened(turn.text))]
            for response in turn.responses:
                parts.append({"kind": "response", "text": response.text.replace("<image>", "")})
                parts += [{"kind": "image", "text": ""} for _ in response.images]
                images += response.images
        return {
            "id": str(record.rollout),
            "source": None,
            "selected": False,
            "status": record.status.value,
            "reward": _reward(score),
            "correct": score.correct,
            "usesTool": record.uses_tool,
            "tokens": record.response_tokens,
            "seconds": record.finished - record.started,
            "reason": record.error or f"{score.by}: {score.reason}",
            "answer": record.answer,
            "parts": parts,
            "calls": [asdict(call) for turn in record.turns for call in turn.calls],
            "images": images,
        }


def _opened(text: str) -> bool:
    """Whether a turn begins inside its thinking: it closes one that it did not open."""
    close = text.find("</think>")
    return close >= 0 and "<think>" not in text[:close]


def _reward(score: Score) -> float | None:
    return None if score.correct is None else float(score.correct)
