"""Short text: a name, a date, a few words, with aliases.

    answer, truths -> words() -> equal to one of them? -> else token F1 >= threshold, with the same numbers -> correct

Normalisation and F1 are SQuAD's (arXiv 1606.05250): case, punctuation, articles and white space do not count. One rule
is added: two texts whose numbers differ are never a near match, for "12 March 1998" shares most words with 1999's.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from verl_axpo.rewards.answer import unboxed

F1_THRESHOLD = 0.8  # four of five words; at 0.67 one of two names would do
MAX_CHARS = 2000  # of an answer

_ARTICLES = frozenset(("a", "an", "the"))
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_APOSTROPHE = re.compile(r"['\u2019]")
_WORDS = re.compile(r"(?:(?<!\S)-)?\d+(?:\.\d+)?|[^\W_\d]+")  # a minus sign, not the hyphen of a date


def is_correct(answer: str, truths: Sequence[str], f1_threshold: float = F1_THRESHOLD) -> bool:
    """Whether `answer` equals one of `truths` after normalisation, or is close enough to one by token F1.

    Args:
        answer: what the policy says.
        truths: the reference and its aliases.
        f1_threshold: in (0, 1]; 1 asks for the same words, in any order.
    """
    return matches(answer, truths) or best_f1(answer, truths) >= f1_threshold


def matches(answer: str, truths: Sequence[str]) -> bool:
    """Normalised exact match with any of `truths`; an answer without a word matches nothing."""
    ours = words(answer)
    return bool(ours) and any(ours == words(truth) for truth in truths)


def best_f1(answer: str, truths: Sequence[str]) -> float:
    """The highest token F1 over `truths`, in [0, 1]; 0 where the numbers differ."""
    ours = words(answer)
    return max((_f1(ours, words(truth)) for truth in truths), default=0.0)


def words(text: str) -> list[str]:
    """Normalised tokens: words and numbers, lower case, without articles and punctuation."""
    if len(text) > MAX_CHARS:
        return []
    plain = unicodedata.normalize("NFKC", unboxed(text)).casefold()
    plain = _APOSTROPHE.sub("", _THOUSANDS.sub("", plain))
    found: list[str] = _WORDS.findall(plain)
    return [word for word in found if word not in _ARTICLES] or found


def _f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    common = (Counter(ours) & Counter(theirs)).total()
    if not common or _numbers(ours) != _numbers(theirs):
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def _numbers(tokens: Sequence[str]) -> Counter[str]:
    return Counter(token for token in tokens if token[-1].isdigit())
