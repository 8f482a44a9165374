r"""Whether a sentence contains an option's text, as something said rather than as a piece of a larger expression.

answer, option -> plain() both -> each place of the option -> what stands around it -> is_said()

"it is red" says "red" and "so x = 7" says 7; `\sqrt{154}` does not say 154, "10-3" not 10, "1, 2 and 3" not "2 and 3",
"it is not red" not "red".
"""

import re

from verl_axpo.eval.scorers.denial import is_denied
from verl_axpo.eval.scorers.tidying import undress

_OPERATORS = r"\\{}/^_+*<>|·÷\u00d7"  # the last is the sign of multiplication
_MINUS = r"\-\u2212\u2013"  # Unicode's minus and the en dash, too
_JOINED = r"(?:,|and|or|to)?\s*"  # what stands between the items of a list
# An edge of the option that is a word needs no more than the word's boundary; any other one may belong to mathematics.
_OPENS_WITH_WORD = re.compile(r"[^\W\d_]{3}")
_ENDS_WITH_WORD = re.compile(r"[^\W\d_]{3}$")
_WORD_GOES_ON_BEFORE = re.compile(r"[\w.\\{^\-]$")
_WORD_GOES_ON_AFTER = re.compile(r"\w|[.,]\d|[\\}^]")
_MATHS_BEFORE = re.compile(
    rf"[\w.\-)\]]$|[{_OPERATORS}√(\[]\s*$|\d\s*{_JOINED}$|\d:$"
    r"|\\(?!approx|therefore|implies|rightarrow)[a-z]+\s*$"  # "\approx 7" is said, "\sqrt 7" is another number
    rf"|(?<![^\W\d_]{{2}}\s)[{_MINUS}]\s*$"  # after a word and a space it is a dash
)
_MATHS_AFTER = re.compile(
    rf"\w|[.,]\d|:\d|\s*[{_OPERATORS}=)\[\]]|\s*{_JOINED}\d"
    r"|\(|\s+\((?!\s*[^\W\d_]{2})"  # "7 (seven)" goes on with a word
    rf"|[{_MINUS}]|\s+[{_MINUS}](?!\s+[^\W\d_]{{2}})"
)
_BRACKETS = {"(": ")", "[": "]"}


def plain(text: str) -> str:
    """Undressed, lower case, single spaces, without a closing full stop."""
    return " ".join(undress(text).casefold().split()).rstrip(".")


def _peeled(before: str, after: str) -> tuple[str, str]:
    """The surroundings without one pair of brackets around the option: "minus (-)"."""
    if before and after and _BRACKETS.get(before[-1]) == after[0]:
        return before[:-1], after[1:]
    return before, after


def is_said(answer: str, option: str) -> bool:
    r"""Whether the option's text stands in the answer on its own, and is not denied there.

    Example: `is_said("the answer is red", "red")`, `not is_said(r"\frac{1}{2}", "1")`
    """
    sentence, wanted = (plain(text) for text in (answer, option))
    if not wanted:
        return False
    goes_on_before = _WORD_GOES_ON_BEFORE if _OPENS_WITH_WORD.match(wanted) else _MATHS_BEFORE
    goes_on_after = _WORD_GOES_ON_AFTER if _ENDS_WITH_WORD.search(wanted) else _MATHS_AFTER
    for place in re.finditer(re.escape(wanted), sentence):
        before, after = _peeled(sentence[: place.start()], sentence[place.end() :])
        goes_on = goes_on_before.search(before) or goes_on_after.match(after)
        if not goes_on and not is_denied(before, after):
            return True
    return False
