"""What models made of the problems: one JSON object per attempt, from the agent runner.

{"problem_id", "model", "sample", "correct", "scored_by", "ended", "tool_calls", "prompt_tokens", "response_tokens",
 "turns", "images"} a line
    -> RolloutFiles.attempts() -> Attempt, without turns: counting and choosing need only these few bytes of each line
    -> RolloutFiles.read()     -> Rollout, with turns
Attempts -> solve_counts() -> per problem: solved, attempts

`correct` is null when nobody could tell (a tool, the judge or the server failed): such an attempt is no attempt.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verl_axpo.data.validation import parser
from verl_axpo.eval.versions import scoring
from verl_axpo.files import read_lines

Key = tuple[str, str, int]


def name_of(key: Key) -> str:
    """An attempt as it appears in messages."""
    problem_id, model, sample = key
    return f"trajectory {sample} of {model} on {problem_id}"


class Message(BaseModel):
    """A message after the prompt; `<image>` in a tool's answer stands for the next of the rollout's images."""

    model_config = ConfigDict(frozen=True)

    role: str
    content: str


class Attempt(BaseModel):
    """Who attempted what, and what came of it. `ended` is False where a limit cut the last turn or left its call
    unanswered: nobody should learn to end so. `trainable` is False for what else can be counted but is no SFT row.
    `scored_by` names the rules of the verdict; a file from elsewhere need not say. Tokens are as the model's server
    counted them, images included: of the prompt, and of all that followed it."""

    model_config = ConfigDict(frozen=True)

    problem_id: str = Field(min_length=1)
    model: str
    sample: int = Field(ge=0)
    correct: bool | None
    scored_by: str | None = None
    tool_calls: int = Field(ge=0)
    ended: bool = True
    trainable: bool = True
    prompt_tokens: int | None = Field(default=None, ge=0)
    response_tokens: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _end_of_turns(cls, line: Any) -> Any:
        """Where nobody noted the end, the last turn must end with its answer."""
        turns = line.get("turns") if isinstance(line, dict) and "ended" not in line else None
        if not turns or not isinstance(turns, list) or not isinstance(turns[-1], dict):
            return line  # what is no list of turns is told when the turns are read
        said = str(turns[-1].get("content", "")).rpartition("</think>")[2]
        return {**line, "ended": said.rstrip().endswith("</answer>") and "<tool_call>" not in said}

    @property
    def tokens(self) -> int | None:
        """Of the whole conversation; None where nobody counted."""
        if self.prompt_tokens is None or self.response_tokens is None:
            return None
        return self.prompt_tokens + self.response_tokens

    @property
    def key(self) -> Key:
        """What identifies an attempt: a runner that was resumed may have written it twice."""
        return self.problem_id, self.model, self.sample


class Rollout(Attempt):
    """An attempt with what was said: `turns` is what followed the prompt, `images` are the pictures that tools
    returned, by their SHA-256 in the image store."""

    turns: tuple[Message, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Solved:
    """How often a problem was solved in how many attempts that were scored."""

    correct: int
    attempts: int


class RolloutFiles:
    """Files of rollouts, of which only the places are kept: a teacher's turns are gigabytes.

    A later line for an attempt that is known is skipped. So is a last line without its newline, which a killed runner
    leaves.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._places: dict[Key, tuple[Path, int]] = {}

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt once, in order.

        Raises:
            ValueError: a line that is no rollout, or whose verdict is of other rules; names file, line and problem.
            FileNotFoundError: no such file.
        """
        self._places.clear()
        for path in self.paths:
            for line in read_lines(path, _current):
                if line.value.key not in self._places:
                    self._places[line.value.key] = path, line.offset
                    yield line.value

    def read(self, attempts: Iterable[Attempt]) -> Iterator[Rollout]:
        """The rollouts of attempts that `attempts()` gave, with their turns, in the order asked for.

        Raises:
            ValueError: turns or images of the wrong type.
        """
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in self.paths}
            for attempt in attempts:
                path, offset = self._places[attempt.key]
                files[path].seek(offset)
                try:
                    yield _rollout(files[path].readline())
                except ValueError as error:
                    raise ValueError(f"{path} at byte {offset}: {error}") from None


_attempt, _rollout = parser(Attempt), parser(Rollout)


def _current(line: bytes) -> Attempt:
    """An attempt whose verdict, if it says by whom, is of today's rules."""
    attempt = _attempt(line)
    if attempt.scored_by not in (None, scoring()):
        raise ValueError(
            f"its verdict is of other rules ({attempt.scored_by}); run the `verl-axpo eval run` of its attempts again, "
            "which scores without sampling, then `verl-axpo data collect`"
        )
    return attempt


def solve_counts(attempts: Iterable[Attempt], model: str) -> dict[str, Solved]:
    """Per problem what `model` made of it; problems it never attempted, or never with a score, are not in it."""
    counts: dict[str, Solved] = {}
    for attempt in attempts:
        if attempt.model == model and attempt.correct is not None:
            before = counts.get(attempt.problem_id, Solved(0, 0))
            counts[attempt.problem_id] = Solved(before.correct + attempt.correct, before.attempts + 1)
    return counts
