"""Where the final answer stands in a response (paper, section 2).

decoded response -> final_turn() -> final_answer() -> what a grader sees, or None
"""

import re

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BOX = "\\boxed"
_BOX_OR_BRACE = re.compile(r"\\boxed\s*\{|[{}]")


def final_turn(response: str) -> str:
    """What the last assistant turn says after its thinking.

    A response starts inside the thinking of its first turn; each later turn opens with `<think>`. Text of tools stands
    before that tag, so an `<answer>` in a tool's output or in the thinking is not an answer.
    """
    turn = response.rpartition("<think>")[2]
    return turn.rpartition("</think>")[2]


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Every outermost `\boxed{...}` as (start, start of content, end of content); empty when one never closes."""
    found: list[tuple[int, int, int]] = []
    depth, outer, start, begin = 0, 0, -1, -1
    for mark in _BOX_OR_BRACE.finditer(text, text.find(_BOX) % (len(text) + 1)):
        if mark[0] == "}":
            depth = max(depth - 1, 0)
            if start >= 0 and depth == outer:
                found.append((start, begin, mark.start()))
                start = -1
            continue
        if start < 0 and mark[0] != "{":
            start, begin, outer = mark.start(), mark.end(), depth
        depth += 1
    return [] if start >= 0 else found


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, braces balanced; None when there is none or one never closes."""
    found = boxes(text)
    return text[found[-1][1] : found[-1][2]] if found else None


def opened(text: str) -> str:
    r"""The text with each `\boxed{...}` replaced by its content: "\boxed{1} and \boxed{2}" is "1 and 2"."""
    parts, done = [], 0
    for start, begin, end in boxes(text):
        parts += [text[done:start], text[begin:end]]
        done = end + 1
    return "".join([*parts, text[done:]])


def final_answer(response: str) -> str | None:
    r"""The last complete `<answer>` of the final turn, the `\boxed{}` inside it preferred; None when missing."""
    answers = _ANSWER.findall(final_turn(response))
    if not answers:
        return None
    inside = boxed(answers[-1])
    return answers[-1] if inside is None else inside


def normalise(text: str) -> str:
    """Case and the amount of white space do not matter."""
    return " ".join(text.split()).casefold()
