"""Whether a sentence names something only to deny it: "not B", "all except E", "B is wrong".

what stands before, what stands after -> is_denied()
"""

import re

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
