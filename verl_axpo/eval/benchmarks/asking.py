"""What a row of each benchmark asks: its columns -> `asked()` -> Question.

Each function gets a row and the folder that image paths are relative to, None for a table with images inside. It raises
ValueError where the row is not as documented.
"""

import contextlib
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks.base import BenchmarkError, Row, asked
from verl_axpo.eval.benchmarks.reading import encoded
from verl_axpo.eval.types import AnswerType, Question
from verl_axpo.rewards.choice import options_in

HRBENCH_LETTERS = string.ascii_uppercase[:4]
_DYNAMATH_KINDS: dict[str, AnswerType] = {
    **dict.fromkeys(("float", "int", "single answer"), "math"),
    "multiple choice": "choice",
}
MATH_VR_IMAGES = 8  # columns image1 .. image8
_MATH_VR_PLACEHOLDER = re.compile(rf"<image([1-{MATH_VR_IMAGES}])>")
_VISUALPROBE_FOLDER = "VisualProbe_Hard/"  # what the paths of val.json begin with; the repository itself is that folder


def _letter(truth: Any, options: Sequence[str]) -> str:
    """The label of a choice question.

    Raises:
        BenchmarkError: it is none of the options' letters.
    """
    label, letters = str(truth).strip(), list(string.ascii_uppercase[: len(options)])
    if label not in letters:
        raise BenchmarkError(f"the right answer is {label!r}, the options are {letters}")
    return label


def mathvision(row: Row, folder: Path | None) -> Question:
    """`decoded_image` is one merged image, so `<image1>` in the text stays a word, as in the official prompt."""
    options = tuple(map(str, row["options"] or ()))
    return asked(
        text=str(row["question"]),
        kind="choice" if options else "math",
        truth=_letter(row["answer"], options) if options else str(row["answer"]),
        images=(encoded(row["decoded_image"], folder),),
        options=options,
        list_options=True,
    )


def dynamath(row: Row, folder: Path | None) -> Question:
    """The choices stand inside the text, so no option lines are added."""
    text, answer_type = str(row["question"]), str(row["answer_type"])
    kind = _DYNAMATH_KINDS.get(answer_type, "short_text")
    return asked(
        text=text,
        kind=kind,
        truth=str(row["ground_truth"]),
        images=(encoded(row["decoded_image"], folder),),
        options=options_in(text) if kind == "choice" else (),
        hint="float" if answer_type == "float" else None,
    )


def math_vr(row: Row, folder: Path | None) -> Question:
    """An image stands where the text first mentions it; the official script puts all of them after the text."""
    text, seen = str(row["question"]), list[str]()

    def place(match: re.Match[str]) -> str:
        if match[1] in seen:
            return ""
        seen.append(match[1])
        return prompts.IMAGE

    shown = _MATH_VR_PLACEHOLDER.sub(place, text)
    return asked(
        text=text,
        shown=shown,
        kind="judge",
        truth=_joined(row["answers"]),
        images=tuple(encoded(row[f"image{number}"], folder) for number in seen),
        metadata={"parts": int(row["number_of_answers"])},
    )


def _joined(answers: Any) -> str:
    """The `answers` column, of which neither type nor form is documented: text, a JSON list as text, or a list."""
    listed = answers
    with contextlib.suppress(ValueError, TypeError):
        listed = json.loads(answers)
    return "; ".join(map(str, listed)) if isinstance(listed, list) else str(answers)


def vstar(row: Row, folder: Path | None) -> Question:
    """The text is taken as it stands: it holds the options and its own instruction.

    The per-image JSON always lists the right option first: not used. The official code compares likelihoods of the
    options, so it has no rule for generated text.
    """
    text = str(row["text"])
    options, image = options_in(text), encoded(row["image"], folder)
    return asked(text=text, kind="choice", truth=_letter(row["label"], options), images=(image,), options=options)


def visualprobe(row: Row, folder: Path | None) -> Question:
    """`problem` already has its `<image>` line."""
    shown = str(row["problem"])
    images = tuple(encoded(str(path).removeprefix(_VISUALPROBE_FOLDER), folder) for path in row["images"])
    text = shown.replace(prompts.IMAGE, "").strip()
    return asked(text=text, shown=shown, kind="short_text", truth=str(row["solution"]), images=images)


def hrbench(row: Row, folder: Path | None) -> Question:
    """The image is base64 text inside the table."""
    options = tuple(str(row[letter]) for letter in HRBENCH_LETTERS)
    return asked(
        text=str(row["question"]),
        kind="choice",
        truth=_letter(row["answer"], options),
        images=(encoded(row["image"]),),
        options=options,
        list_options=True,
    )


def first_rotation(cycles: Sequence[Any]) -> list[int]:
    """Rows of the rotation that sorts first among the values of `cycle_category`.

    HR-Bench has every question in four rotations of its options, and the official scores average over them. The paper's
    decimals fit 200 questions, so one rotation is kept.

    Raises:
        BenchmarkError: the rotations are not of one size, so the table is only part of the data.
    """
    sizes = Counter(map(str, cycles))
    if len(set(sizes.values())) > 1:
        raise BenchmarkError(f"rotations (cycle_category) of different sizes {dict(sizes)}; take the whole split")
    return [index for index, cycle in enumerate(cycles) if str(cycle) == min(sizes)]


def hr_mmsearch(row: Row, folder: Path | None) -> Question:
    """`ground_truth` may be a text or a list of accepted texts."""
    truth, *aliases = map(str, row["ground_truth"] if isinstance(row["ground_truth"], list) else [row["ground_truth"]])
    image, text = encoded(row["query_image"], folder), str(row["query"])
    return asked(text=text, kind="short_text", truth=truth, images=(image,), metadata={"aliases": tuple(aliases)})


def mmsearch(row: Row, folder: Path | None) -> Question:
    """`image_search_result` is left out: the agent has to find things itself."""
    return asked(
        text=str(row["query"]),
        kind="short_text",
        truth=str(row["gt_answer"]),
        images=() if row["query_image"] is None else (encoded(row["query_image"], folder),),
        hint="search",
        metadata={"aliases": tuple(map(str, row["alternative_gt_answers"] or ()))},
    )
