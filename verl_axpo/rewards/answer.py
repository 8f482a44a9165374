"""Where the final answer stands in a response (paper, section 2).

decoded response -> final_turn() -> final_answer() -> what a grader sees, or None
"""

import re

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BRACE = re.compile(r"[{}]")
_BOXED = "\\boxed{"


def final_turn(response: str) -> str:
    """What the last assistant turn says after its thinking.

    A response starts inside the thinking of its first turn; each later turn opens with `<think>`. Text of tools stands
    before that tag, so an `<answer>` in a tool's output or in the thinking is not an answer.
    """
    turn = response.rpartition("<think>")[2]
    return turn.rpartition("</think>")[2]


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, braces balanced; None when there is none or it never closes."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth, begin = 1, start + len(_BOXED)
    for brace in _BRACE.finditer(text, begin):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[begin : brace.start()]
    return None


def unboxed(text: str) -> str:
    r"""The content of the last `\boxed{...}`, or all of `text` when nothing is boxed."""
    inside = boxed(text)
    return text if inside is None else inside


def final_answer(response: str) -> str | None:
    r"""The last complete `<answer>` of the final turn, the `\boxed{}` inside it preferred; None when missing."""
    answers = _ANSWER.findall(final_turn(response))
    return unboxed(answers[-1]) if answers else None


def normalise(text: str) -> str:
    """Case and the amount of white space do not matter."""
    return " ".join(text.split()).casefold()
