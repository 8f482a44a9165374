"""Short answers as text: normalisation, exact match, token F1; dates and aliases."""

import pytest

from verl_axpo.eval.scorers import text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("  A   cat\n", "cat"),
        ("U.S.", "us"),
        ("2024-05-01", "20240501"),
        ("Theory", "theory"),  # no article inside a word
        ("Joan Miró", "joan miró"),
        ("a", ""),
        ("", ""),
    ],
)
def test_texts_are_normalised(given: str, expected: str) -> None:
    assert text.normalise(given) == expected


@pytest.mark.parametrize(
    ("answer", "truths", "expected"),
    [
        ("Paris", ["paris"], True),
        ("the Paris!", ["Paris"], True),
        ("Paris, France", ["Paris"], False),
        ("Miró", ["Joan Miró", "Miró"], True),
        ("A", ["a"], True),  # an answer that is just an article stays
        ("A", ["B"], False),
        ("a", ["the"], False),
        ("2024-05-01", ["2024-05-01"], True),
        ("May 1, 2024", ["2024-05-01"], False),  # left to the judge
        ("yes", ["no"], False),
        ("%", ["%"], True),  # signs that the normalisation would drop
        ("$", ["%"], False),
    ],
)
def test_normalised_texts_match_exactly(answer: str, truths: list[str], expected: bool) -> None:
    assert text.exact_match(answer, truths) is expected


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("red car", "red car", 1.0),
        ("The red car.", "red car", 1.0),
        ("red", "red car", 2 / 3),  # precision 1, recall 1/2
        ("red bus", "red car", 0.5),
        ("red red", "red", 2 / 3),  # a repetition is a wrong word: precision 1/2
        ("blue", "red car", 0.0),
        ("", "red", 0.0),
        ("the", "a", 1.0),  # both are empty once normalised
        ("May 1 2024", "2024-05-01", 0.0),  # the date is one token, 20240501
        ("May 2024", "May 1, 2024", 0.8),  # precision 1, recall 2/3
    ],
)
def test_token_f1_counts_shared_words(answer: str, truth: str, expected: float) -> None:
    assert text.token_f1(answer, truth) == pytest.approx(expected, abs=1e-12)


def test_best_f1_is_over_the_aliases() -> None:
    # "miro" against "joan miro": 2/3; against "miro": 1.
    assert text.best_f1("Miro", ["Joan Miro", "Miro"]) == 1.0
    assert text.best_f1("Miro", ["Joan Miro", "Picasso"]) == pytest.approx(2 / 3)
