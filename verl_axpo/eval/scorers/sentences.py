r"""What a sentence says, and what it names only to deny it.

what stands before a name, what stands after it -> is_denied()    "not B", "all except E", "B is wrong"
answer, option -> each place of the option's text -> is_said()    as something said, not as a piece of an expression

"it is red" says "red" and "so x = 7" says 7; `\sqrt{154}` does not say 154, "10-3" not 10, "1, 2 and 3" not "2 and 3",
"it is not red" not "red".
"""

import re

from verl_axpo.eval.scorers.tidying import undress

REACH = 80  # characters in which a denial stands
_NAMING = (  # words between a "not" and what it denies: "I would not say that the answer is B"
    r"(?:(?:the|an?|any|be|is|it|it['\u2019]?s|that|this|either|both|of|for|to|option|answer|choice|letter|solution|case|"
    r"correct|right|true|best|likely|choose|pick|select|say|think|believe|go|with)s?[\s:]+)*"
)
_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|no|cannot|except|excluding|without|exclud(?:e|es|ed)|eliminat(?:e|es|ed|ing)|"
    r"reject(?:s|ed|ing)?|rul(?:e|es|ed|ing)\s+out|none\s+of|instead\s+of|(?:other|rather)\s+than|different\s+from|"
    r"(?:apart|aside)\s+from|(?:any|every|all|each)\w*(?:\s+\w+){0,2}\s+but)|n['\u2019]t)"
    rf"\s+{_NAMING}[(\[{{*\"'$]*$|(?:[\u2260\u00ac]|!=|\\n(?:eq?|eg)|\\lnot|\bnon-)\s*[(\[{{]*$",
    re.IGNORECASE,
)
_VERB = (
    r"(?:is|are|was|were|am|be|been|has|have|had|does|do|did|would|could|should|can|must|might|may|will|seems?|looks?)"
)
_WRONG = r"(?:wrong|incorrect|false|invalid|impossible|excluded|eliminated|rejected|ruled\s+out)\b"
_RIGHT = (
    r"(?:correct|right|true|valid|possible|it|fit|match|work|"
    r"(?:an?\s+|the\s+)?(?:\w+\s+)?(?:answer|option|choice|one))\b"
)
_AFTER = re.compile(
    rf"[)\]}}*\"'$]*\s+(?:(?:{_VERB}|both|all|also|clearly|definitely|certainly|therefore|to)\s+)*"
    rf"(?:{_WRONG}|(?:not|never|cannot|(?:{_VERB}|ca|wo)?n['\u2019]t)(?:\s+be)?(?:\s+{_RIGHT}|\s*(?:[.,;!]|$)))",
    re.IGNORECASE,
)


def is_denied(before: str, after: str) -> bool:
    """Whether the words around a name say that it is not meant.

    Example: `is_denied("all except ", "")`, `is_denied("", " is wrong")`, `not is_denied("not sure, maybe ", "")`
    """
    return bool(_BEFORE.search(before[-REACH:]) or _AFTER.match(after[:REACH]))


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


def folded(text: str) -> str:
    """Undressed, lower case, single spaces, without a closing full stop."""
    return " ".join(undress(text).casefold().split()).rstrip(".")


def is_said(answer: str, option: str) -> bool:
    r"""Whether the option's text stands in the answer on its own, and is not denied there.

    Example: `is_said("the answer is red", "red")`, `not is_said(r"\frac{1}{2}", "1")`
    """
    sentence, wanted = folded(answer), folded(option)
    if not wanted:
        return False
    goes_on_before = _WORD_GOES_ON_BEFORE if _OPENS_WITH_WORD.match(wanted) else _MATHS_BEFORE
    goes_on_after = _WORD_GOES_ON_AFTER if _ENDS_WITH_WORD.search(wanted) else _MATHS_AFTER
    for place in re.finditer(re.escape(wanted), sentence):
        before, after = sentence[: place.start()], sentence[place.end() :]
        if before and after and before[-1] + after[0] in ("()", "[]"):  # "minus (-)"
            before, after = before[:-1], after[1:]
        goes_on = goes_on_before.search(before) or goes_on_after.match(after)
        if not goes_on and not is_denied(before, after):
            return True
    return False
