"""The user turn of an evaluation question: one prompt per answer type.

    question text, options, images -> render() -> "<image>\\nQuestion\\nA. ...\\nB. ...\\nInstruction"

The system turn (tools, `<answer>\\boxed{}</answer>`) is the training's own, `verl_axpo.prompts.system_prompt`.
`prompt_hash` goes into every report: two runs with one hash asked in the same words.
"""

import hashlib
import string
from collections.abc import Mapping, Sequence

from verl_axpo.eval.scorers.choice import is_lettered
from verl_axpo.eval.types import AnswerType
from verl_axpo.prompts import IMAGE as IMAGE

INSTRUCTIONS: Mapping[AnswerType, str] = {
    "math": "Give only the final value or expression as the answer.",
    "choice": "Give only the letter of the right option as the answer.",
    "short_text": "Give the answer in as few words as possible.",
    "judge": "Solve every part of the question and give the final results of all parts, in order, as the answer.",
}

# What an official evaluation tells the model about its answers, in our words; the benchmark's module names its hint.
HINTS: Mapping[str, str] = {
    "float": "Write it as a decimal number with at least three digits after the point.",
    "search": 'If the question rests on a false premise, answer "invalid question". Write dates as yyyy-mm-dd.',
}


def option_lines(options: Sequence[str]) -> list[str]:
    """`A. text` per option; none where the options are literally A, B, C, ...: they are drawn in the image."""
    if is_lettered(options):
        return []
    return [f"{mark}. {text}" for mark, text in zip(string.ascii_uppercase, options, strict=False)]


def render(
    question: str, answer_type: AnswerType, *, options: Sequence[str] = (), images: int = 0, hint: str | None = None
) -> str:
    """The text of the user turn.

    Args:
        question: the benchmark's text; `<image>` in it stands for the next image.
        answer_type: chooses the instruction.
        options: texts in the order of the letters; empty when the question already holds them.
        images: images of the question; those without a placeholder in the text come first, one line each.
        hint: a key of `HINTS`, said after the instruction.

    Raises:
        ValueError: the text asks for more images than there are.
    """
    missing = images - question.count(IMAGE)
    if missing < 0:
        raise ValueError(
            f"the question has {question.count(IMAGE)} {IMAGE} placeholders for {images} image(s): {question[:80]!r}"
        )
    instruction = INSTRUCTIONS[answer_type] + (f" {HINTS[hint]}" if hint else "")
    return "\n".join([*[IMAGE] * missing, question.strip(), *option_lines(options), instruction])


def prompt_hash(system: str = "") -> str:
    """The first 16 hex digits of the SHA-256 of every prompt, each rendered with a stand-in question.

    Args:
        system: the system turn of the run, where one wants it covered too.
    """
    hints = (None, *HINTS)
    texts = [render("Q", kind, options=("x", "y"), images=1, hint=hint) for kind in INSTRUCTIONS for hint in hints]
    return hashlib.sha256("\0".join([system, *texts]).encode()).hexdigest()[:16]
