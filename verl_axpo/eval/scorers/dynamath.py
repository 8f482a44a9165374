"""DynaMath's rules for its answer types, and VLMEvalKit's for the same data.

float            the number read as DynaMath reads it, within 0.001 of the truth
multiple choice  the letter, or the truth among the first three characters
anything else    the truth is a substring of the answer
"""

import math
import re

from verl_axpo.eval.scorers.mathematics import stated_value
from verl_axpo.eval.scorers.numeric import is_number
from verl_axpo.eval.scorers.tidying import undress

TOLERANCE = 0.001  # absolute, compared in floats: 3.143 is too far from 3.142, 2.001 is not from 2
_LEAD = 3  # characters in which a choice's letter may stand


def as_float(text: str) -> float | None:
    """A number as DynaMath reads it: digits, or the first word, where π multiplies what stands before it.

    What stands after π is ignored and a lone π is unreadable, as in the official code. None when unreadable.

    Example: `as_float("2π") == 2 * math.pi`, `as_float("12 cm") == 12.0`, `as_float("12cm") is None`
    """
    word = text if text.isdigit() else text.split(" ")[0]
    number, pi, _ = word.partition("π")
    try:
        return float(number) * (math.pi if pi else 1.0)
    except ValueError:
        return None


def close(number: float | None, truth: str) -> bool:
    """Whether a number is within 0.001 of the truth, a number as text."""
    return number is not None and abs(number - float(truth)) <= TOLERANCE


def official(answer: str, truth: str, answer_type: str) -> bool:
    """The official verdict on a short answer, taken exactly as it stands."""
    if answer_type == "float":
        return close(as_float(answer), truth)
    if answer_type == "multiple choice":
        return answer == truth if len(answer) == 1 else truth in answer[:_LEAD]
    return truth in answer


def vlmevalkit(answer: str, truth: str, answer_type: str) -> bool:
    """VLMEvalKit's verdict: a choice's only letter A-E in any case; for text, whether the truth contains the answer."""
    if answer_type == "float":
        return close(as_float(answer), truth)
    if answer_type != "multiple choice":
        return answer.lower() in truth.lower()
    if len(answer) == 1:
        return answer.upper() == truth
    found = [mark for mark in "ABCDE" if mark in answer.upper()]
    return found == [truth] if len(found) == 1 else truth in answer[:_LEAD].upper()


def _squashed(text: str) -> str:
    return re.sub(r"\s", "", text).casefold()


def lenient(answer: str, truth: str, answer_type: str) -> bool:
    """The verdict by value where the truth is a number, else the official one on the undressed answer.

    The one value that the answer states is read in any spelling, and a unit after it as officially passed over. The
    types `int` and `single answer`, whose truths are numbers such as 5.000000000000001, are numbers as well. Text may
    differ in white space and case.
    """
    if answer_type == "float" or (answer_type in ("int", "single answer") and is_number(truth)):
        return close(stated_value(answer), truth)
    plain, wanted = undress(answer), undress(truth)
    return official(plain, wanted, answer_type) or _squashed(plain) == _squashed(wanted)
