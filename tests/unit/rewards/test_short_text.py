"""Short texts: the same words as the truth or an alias."""

import pytest

from verl_axpo.rewards.answer import MAX_CHARS
from verl_axpo.rewards.short_text import as_date, matches, words


@pytest.mark.parametrize(
    ("answer", "truths"),
    [
        ("Eiffel Tower", ["the Eiffel Tower"]),
        ("THE EIFFEL TOWER!", ["Eiffel tower"]),
        ("  eiffel\ttower ", ["Eiffel Tower"]),
        ("\\boxed{Eiffel Tower}", ["Eiffel Tower"]),
        ("NYC", ["New York City", "NYC", "New York"]),
        ("1,234", ["1234"]),
        ("O'Brien", ["OBrien"]),
        ("Levi\u2019s", ["Levi's"]),
        ("Saint-Denis", ["Saint Denis"]),
        ("ﬁlm", ["film"]),  # a ligature
        ("STRASSE", ["Straße"]),
        ("東京", ["東京"]),
        ("The", ["the"]),  # nothing but an article is itself
        ("-5", ["-5"]),
        ("N30^\\circ E", ["N30°E"]),
        ("90^{\\circ} \\text{ clockwise}", ["90° clockwise"]),
        ("38^\\circ 30'", ["38°30'"]),
        ("\\triangle ABC", ["△ABC"]),
        ("AB \\parallel CD", ["AB∥CD"]),
        ("$A \\to B$", ["A→B"]),
        ("A \\to B \\to C", ["A→B→C"]),
        ("$\\beta$ particle", ["β particle", "x"]),
        ("$\\beta$ particle", ["beta particle"]),
        ("β-carotene", ["beta-carotene"]),
        ("90\\degree", ["90°"]),
        ("90 degree", ["90^\\circ"]),
        ("x \\geqslant 3", ["x ≥ 3"]),
        ("\\texttt{Hello}", ["Hello"]),
    ],
)
def test_the_same_words_match(answer: str, truths: list[str]) -> None:
    assert matches(answer, truths)


@pytest.mark.parametrize(
    ("answer", "truths"),
    [("", ["x"]), ("...", ["..."]), ("Eiffel", ["Eiffel Tower"]), ("5", ["-5"]), ("1998", ["1999"]), ("yes", ["no"]),
     ("Obama", ["Barack Obama"]), ("Obama Barack", ["Barack Obama"]), ("12 1998", ["121998"]),
     ("A \\to B", ["A B"]), ("2 \\cdot 3", ["2 3"]), ("ABC~DEF", ["ABC DEF"]), ("\\beta", ["\\alpha"]),
     ("x " * MAX_CHARS, ["x"])],
)  # fmt: skip
def test_other_words_do_not_match(answer: str, truths: list[str]) -> None:
    assert not matches(answer, truths)


def test_a_hyphen_in_a_date_is_no_minus_sign() -> None:
    assert words("1998-03-12") == ["1998", "03", "12"]
    assert words("between -5 and 3.5") == ["between", "-", "5", "and", "3.5"]


@pytest.mark.parametrize("text", ["12/03/1998", "March 2021", "5 6 7", "2021-13-05", "31 February 2021", "the 5th"])
def test_a_date_that_leaves_something_open_is_compared_as_words(text: str) -> None:
    assert as_date(words(text)) is None
