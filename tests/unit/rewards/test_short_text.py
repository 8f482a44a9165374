"""Short texts: normalised equality with the truth or an alias, and token F1."""

import pytest

from verl_axpo.rewards.short_text import MAX_CHARS, best_f1, is_correct, matches, words


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
    ],
)
def test_the_same_words(answer: str, truths: list[str]) -> None:
    assert matches(answer, truths)
    assert is_correct(answer, truths)


@pytest.mark.parametrize(
    ("answer", "truths"),
    [("", ["x"]), ("...", ["..."]), ("Eiffel", ["Eiffel Tower"]), ("5", ["-5"]), ("1998", ["1999"]), ("yes", ["no"]),
     ("x " * MAX_CHARS, ["x"])],
)  # fmt: skip
def test_other_words(answer: str, truths: list[str]) -> None:
    assert not matches(answer, truths)
    assert not is_correct(answer, truths)


@pytest.mark.parametrize(
    ("answer", "truths", "f1"),
    [
        # 2 common of 3 and 2: P = 2/3, R = 1, F1 = 2 * (2/3) / (5/3) = 0.8
        ("Barack Hussein Obama", ["Barack Obama"], 0.8),
        # 1 common of 1 and 2: P = 1, R = 1/2, F1 = 2/3
        ("Obama", ["Barack Obama"], 2 / 3),
        # 1 common of 2 and 2: F1 = 1/2
        ("Michelle Obama", ["Barack Obama"], 0.5),
        # the best of the aliases
        ("Obama", ["Barack Obama", "Obama"], 1.0),
        # order does not count
        ("Obama Barack", ["Barack Obama"], 1.0),
        # 3 common of 4 and 4, but another year: no near match
        ("12 March 1998 Paris", ["12 March 1999 Paris"], 0.0),
        # a number that only one side has
        ("Apollo 11", ["Apollo"], 0.0),
        # repeated words count once each: 1 common of 3 and 1: P = 1/3, R = 1, F1 = 1/2
        ("Paris Paris Paris", ["Paris"], 0.5),
        ("Rome", ["Paris"], 0.0),
    ],
)
def test_f1(answer: str, truths: list[str], f1: float) -> None:
    assert best_f1(answer, truths) == pytest.approx(f1)


def test_the_threshold_decides_what_is_near_enough() -> None:
    assert is_correct("Barack Hussein Obama", ["Barack Obama"], 0.8)
    assert not is_correct("Barack Hussein Obama", ["Barack Obama"], 0.81)
    assert is_correct("Obama", ["Barack Obama"], 0.66)


def test_a_hyphen_in_a_date_is_no_minus_sign() -> None:
    assert words("1998-03-12") == ["1998", "03", "12"]
    assert words("between -5 and 3.5") == ["between", "-5", "and", "3.5"]
