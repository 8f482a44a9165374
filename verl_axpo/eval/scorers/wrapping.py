"""Take the wrapping off an answer: what typesetting added, not what the policy said.

"$\\text{(B)}$"  -> "(B)"        "\\boxed{\\boxed{3}}" -> "3"        "**Paris**." -> "Paris."
"""

import re

from verl_axpo.rewards.answer import boxed

# LaTeX commands that only choose a font: the argument is what was said.
_FONT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|mbox|boldsymbol|bm)\s*\{([^{}]*)\}")
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))
_INSIDE = re.compile(r"\$|(?<!\\)\\[()\[\],;:! ]|~")  # math delimiters within a sentence, spaces of LaTeX
_MAX_LAYERS = 8  # nested wrappings looked through; more is not an answer


def unboxed(text: str) -> str:
    r"""The content of the last `\boxed{}`, boxes inside it opened too; the text itself when there is none."""
    for _ in range(_MAX_LAYERS):
        inner = boxed(text)
        if inner is None:
            return text
        text = inner
    return text


def _unpaired(text: str) -> str:
    for opening, closing in _PAIRS:
        inside = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inside.strip() and opening not in inside:
            return inside.strip()
    return text


def undress(answer: str) -> str:
    r"""The answer without `\boxed{}` (the last one counts), math delimiters, font commands and Markdown.

    Example: `undress(r"$\mathbf{C}$") == "C"`
    """
    text = unboxed(answer).strip()
    for _ in range(_MAX_LAYERS):
        plain = _FONT.sub(r"\1", _unpaired(text)).strip()
        if plain == text:
            break
        text = plain
    return text


def spaced(text: str) -> str:
    r"""The text with plain spaces for math delimiters anywhere in it and for the spaces of LaTeX.

    Example: `spaced(r"it is $5\,m$").split() == ["it", "is", "5", "m"]`
    """
    return _INSIDE.sub(" ", text)
