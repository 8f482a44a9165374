"""Short answers as text: normalised exact match and token F1, as search benchmarks compute them.

"The Eiffel Tower." -> normalise() -> "eiffel tower" -> exact_match() | token_f1()
"""

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str, *, keep_lone_a: bool = False) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces (SQuAD's normalisation, as MMSearch uses it).

    Args:
        text: any answer.
        keep_lone_a: an answer that is just "a" stays (SenseNova-MARS, where it may be an option's letter).
    """
    plain = text.lower().translate(_PUNCTUATION)
    if keep_lone_a and plain.strip() == "a":
        return "a"
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(answer: str, truths: Iterable[str]) -> bool:
    """Whether the answer equals one of the truths after normalisation (SenseNova-MARS, `em_check`).

    An answer that is nothing but signs ("%") has to be the truth as it stands.
    """
    plain = normalise(answer, keep_lone_a=True)
    if not plain:
        return answer.strip() in (truth.strip() for truth in truths)
    return any(plain == normalise(truth, keep_lone_a=True) for truth in truths)


def token_f1(answer: str, truth: str) -> float:
    """MMSearch's F1 in [0, 1] over normalised words, repetitions counted; two empty texts agree.

    Example: `token_f1("red car", "the red bus") == 0.5`: one of 2 words is right, one of 2 is found.
    """
    ours, theirs = normalise(answer).split(), normalise(truth).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def best_f1(answer: str, truths: Iterable[str]) -> float:
    """The best `token_f1` over several truths."""
    return max(token_f1(answer, truth) for truth in truths)
