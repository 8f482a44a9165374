"""Scoring through the registry: which rule each benchmark uses, its conventions by name, judges where they belong."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from verl_axpo.errors import InfraFailure
from verl_axpo.eval import benchmarks
from verl_axpo.eval.types import Question, Score
from verl_axpo.rewards.choice import options_in


@dataclass
class Verdict:
    correct: bool
    reason: str = "same meaning"


@dataclass
class Judge:
    """Remembers what it was asked; fails where it has nothing to say."""

    says: bool | None
    asked: str = ""

    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        self.asked = f"{question} | {reference} | {answer}"
        if self.says is None:
            raise InfraFailure("HTTP 503")
        return Verdict(self.says)


_LOADED: dict[str, list[Question]] = {}


def question(data: dict[str, Path], name: str, place: int) -> Question:
    if name not in _LOADED:
        _LOADED[name] = benchmarks.load(name, data[name], check_count=False)
    return _LOADED[name][place]


def score(asked: Question, answer: str | None, judge: Judge | None = None) -> Score:
    return asyncio.run(benchmarks.score(asked, answer, judge))


@pytest.mark.parametrize(
    ("name", "place", "answer", "correct", "values"),
    [
        # MathVision: letter C, its text "1"; letters drawn in the image; a number at 2 decimals.
        ("mathvision", 0, "C", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 0, "1.00", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 0, r"\text{(c)}", True, {"official": 1, "without_unit": 1, "vlmevalkit": 0}),
        ("mathvision", 0, "C. the whole", True, {"official": 0, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 0, "B", False, {"official": 0, "without_unit": 0, "vlmevalkit": 0}),
        ("mathvision", 0, "B or C", False, {"official": 0, "without_unit": 0, "vlmevalkit": 0}),
        ("mathvision", 1, "(B)", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 1, "E", False, {"official": 0, "without_unit": 0, "vlmevalkit": 0}),
        ("mathvision", 2, r"2\cdot 3.14", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 2, "6.283", True, {"official": 1, "without_unit": 1, "vlmevalkit": 0}),
        ("mathvision", 2, "6.29", False, {"official": 0, "without_unit": 0, "vlmevalkit": 0}),
        # A unit is wrong by every convention, and counted; degrees and \dfrac are read by VLMEvalKit.
        ("mathvision", 2, r"6.28 \text{ cm}^2", False, {"official": 0, "without_unit": 1, "vlmevalkit": 0}),
        ("mathvision", 2, r"6.28^\circ", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        ("mathvision", 2, r"\dfrac{628}{100}", True, {"official": 1, "without_unit": 1, "vlmevalkit": 1}),
        # DynaMath: 3.1416 as a float; choice B; text "blue"; an int.
        ("dynamath", 0, "3.142", True, {"official": 1, "vlmevalkit": 1}),
        ("dynamath", 0, r"\pi", True, {"official": 0, "vlmevalkit": 0}),
        ("dynamath", 0, "3.14", False, {"official": 0, "vlmevalkit": 0}),
        ("dynamath", 1, "B", True, {"official": 1, "vlmevalkit": 1}),
        ("dynamath", 1, "no", True, {"official": 0, "vlmevalkit": 0}),
        ("dynamath", 1, "The answer is B", True, {"official": 0, "vlmevalkit": 0}),
        ("dynamath", 1, "B or A", False, {"official": 1, "vlmevalkit": 1}),  # they look at the first 3 characters
        ("dynamath", 2, "a blue disc", True, {"official": 1, "vlmevalkit": 0}),
        ("dynamath", 2, "Blue", True, {"official": 0, "vlmevalkit": 1}),
        ("dynamath", 3, "5", True, {"official": 0, "vlmevalkit": 1}),
        # V* and HR-Bench: A is red.
        ("vstar", 0, "A", True, {"vlmevalkit": 1, "mini_o3": 1}),
        ("vstar", 0, "red", True, {"vlmevalkit": 1, "mini_o3": 0}),
        ("vstar", 0, "(a)", True, {"vlmevalkit": 0, "mini_o3": 0}),
        ("vstar", 0, "B", False, {"vlmevalkit": 0, "mini_o3": 0}),
        ("vstar", 0, "it is small", False, {"vlmevalkit": 0, "mini_o3": 0}),
        ("hrbench_4k", 0, "A. red", True, {"vlmevalkit": 1, "mini_o3": 1}),
        ("hrbench_8k", 1, "4", False, {"vlmevalkit": 0, "mini_o3": 0}),
        # Short text, no judge.
        ("visualprobe", 0, "Exit.", True, {"exact_match": 1, "f1": 1, "f1_aliases": 1}),
        ("hr_mmsearch", 0, "The Paris", True, {"exact_match": 1, "f1": 1, "f1_aliases": 1}),
        ("mmsearch", 0, "Miró", True, {"exact_match": 1, "f1": 2 / 3, "f1_aliases": 1, "official": 1}),
        ("mmsearch", 1, "1851-05-01", True, {"exact_match": 1, "f1": 1, "f1_aliases": 1, "official": 1}),
        ("mmsearch", 1, "May 1, 1851", False, {"exact_match": 0, "f1": 0, "f1_aliases": 0, "official": 0}),
        ("mmsearch", 2, "Invalid question", True, {"exact_match": 1, "f1": 1, "f1_aliases": 1, "official": 1}),
        # Several parts: 4 and 4+5=9.
        ("math_vr", 1, "(1) 4 (2) 9", True, {"exact_match": 1}),
        ("math_vr", 1, "4, 8", False, {"exact_match": 0}),
        ("math_vr", 1, "9", False, {"exact_match": 0}),
    ],
)
def test_each_benchmarks_rule_scores_without_a_judge(
    data: dict[str, Path], name: str, place: int, answer: str, correct: bool, values: dict[str, float]
) -> None:
    found = score(question(data, name, place), answer)
    assert (found.correct, found.by) == (correct, "rule")
    assert dict(found.values) == pytest.approx(values)


@pytest.mark.parametrize("name", benchmarks.names())
@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_wrong_and_no_judge_is_asked(data: dict[str, Path], name: str, answer: str | None) -> None:
    asked, judge = question(data, name, 0), Judge(True)
    found = score(asked, answer, judge)
    assert (found.correct, found.by, found.reason, judge.asked) == (False, "rule", "no final answer", "")
    assert set(found.values) == set(score(asked, asked.ground_truth).values)
    assert not any(found.values.values())


@pytest.mark.parametrize("name", ["visualprobe", "hr_mmsearch", "mmsearch", "math_vr"])
def test_the_judge_is_asked_where_the_text_differs(data: dict[str, Path], name: str) -> None:
    asked = question(data, name, 1)
    for says in (True, False, None):
        judge = Judge(says)
        found = score(asked, "something else", judge)
        assert (found.correct, found.by) == (says, "nobody" if says is None else "judge")
        assert judge.asked.startswith(str(asked.metadata["question"]))
        assert judge.asked.endswith(f"{asked.ground_truth} | something else")


@pytest.mark.parametrize(
    ("answer", "truth"),
    [("x=5, y=2", "x=1, y=2"), ("AB=5, BC=6, S=7", "AB=3, BC=4, S=7"), ("x<=3", "x>=3"), ("y=2, x=5", "x=5, y=2")],
)
def test_the_judge_is_asked_where_a_part_differs_or_nobody_can_tell_parts(
    data: dict[str, Path], answer: str, truth: str
) -> None:
    asked = replace(question(data, "math_vr", 1), ground_truth=truth)
    for says in (True, False):
        found = score(asked, answer, Judge(says))
        assert (found.correct, found.by, dict(found.values)) == (says, "judge", {"exact_match": 0})
    assert (score(asked, answer).correct, score(asked, truth, Judge(False)).correct) == (False, True)


@pytest.mark.parametrize("name", benchmarks.names())
def test_a_benchmark_says_whether_its_grading_asks_a_judge(data: dict[str, Path], name: str) -> None:
    question(data, name, 0)
    for asked in _LOADED[name]:
        judge = Judge(False)
        score(asked, "something else", judge)
        assert benchmarks.judged(asked) is bool(judge.asked)


def test_the_judge_is_told_the_aliases(data: dict[str, Path]) -> None:
    judge = Judge(True)
    score(question(data, "mmsearch", 0), "the Catalan painter Miró", judge)
    assert "Joan Miró (also accepted: Miró; Joan Miro)" in judge.asked


@pytest.mark.parametrize("name", ["mathvision", "dynamath", "vstar", "hrbench_4k"])
def test_mathematics_and_choices_are_left_to_the_rule(data: dict[str, Path], name: str) -> None:
    judge = Judge(True)
    found = score(question(data, name, 0), "quite another thing", judge)
    assert (found.correct, found.by, judge.asked) == (False, "rule", "")


def test_another_options_text_is_wrong_though_its_value_is_the_right_ones(data: dict[str, Path]) -> None:
    # 5-2-1 and 5-1-2 are both 2 as arithmetic; MATH-V compares by value and only with the right option.
    asked = replace(question(data, "mathvision", 0), options=("5-2-1", "5-1-2", "2"), ground_truth="A")
    assert [score(asked, text).correct for text in ("5-2-1", "5-1-2", "2")] == [True, False, False]
    assert [score(asked, text).values["official"] for text in ("5-2-1", "5-1-2", "2")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "truth", "answer", "correct", "official"),
    [
        # An option inside an expression is not chosen; MATH-V's comparison decides. Rows 2589, 187 and 164.
        (("1/4", "1/2", "3/4", "1", "5/4"), "B", r"\frac{1}{2}", True, 1),
        (("1/4", "1/2", "3/4", "1", "5/4"), "D", r"\frac{1}{2}", False, 0),
        (
            (r"$\cos ^{2} \beta$", r"$\frac{1}{\cos ^{2} \beta}$"),
            "B",
            r"\dfrac{1}{\cos ^{2} \beta}",
            True,
            0,  # the truth's dollars stay
        ),
        (("154", "100", "90", "88", "60"), "A", r"\sqrt{154}", False, 0),
        (("154", "100", "90", "88", "60"), "A", r"\frac{1}{154}", False, 0),
        # In a sentence our reading wins: MATH-V does not read the first, and takes the second by value (-5, as B's).
        (("154", "100", "90", "88", "60"), "A", "there are 154 of them", True, 0),
        (("5-3-2-1-4", "5-2-3-1-4"), "B", "The answer is 5-3-2-1-4.", False, 1),
    ],
)
def test_an_option_inside_an_expression(
    data: dict[str, Path], options: tuple[str, ...], truth: str, answer: str, correct: bool, official: float
) -> None:
    found = score(replace(question(data, "mathvision", 0), options=options, ground_truth=truth), answer)
    assert (found.correct, found.values["official"]) == (correct, official)


@pytest.mark.parametrize("answer", ["It is not C.", "All except C.", "Anything but C.", "A or B or C.", "C is wrong."])
def test_a_denied_letter_is_wrong_whatever_the_official_code_reads(data: dict[str, Path], answer: str) -> None:
    for name in ("mathvision", "dynamath", "vstar"):
        asked = question(data, name, 1 if name == "dynamath" else 0)
        truth = asked.ground_truth
        assert not score(asked, answer.replace("C", truth)).correct


def test_a_sixth_option_can_be_right(data: dict[str, Path]) -> None:
    months = "(A) January (B) February (C) March (D) April (E) May (F) June"
    text = f"Which month? Choices: {months}"
    options = options_in(text)
    asked = replace(question(data, "dynamath", 1), ground_truth="F", options=options)
    for answer in ("F", "(F)", "F. June", "The answer is F", "June"):
        assert score(asked, answer).correct
    for answer in ("E", "E or F", "not F", "May"):
        assert not score(asked, answer).correct
    assert score(replace(asked, options=()), "F").correct


def test_the_official_f1_is_the_best_over_the_aliases(data: dict[str, Path]) -> None:
    values = score(question(data, "mmsearch", 0), "Mir\u00f3").values
    # "mir\u00f3" is an alias; against the first answer, "joan mir\u00f3", it has recall 1/2 and precision 1
    assert (values["official"], values["f1"]) == pytest.approx((1.0, 2 / 3))


def test_a_free_answers_unit_is_wrong_and_counted(data: dict[str, Path]) -> None:
    asked = replace(question(data, "mathvision", 2), ground_truth="3")
    for answer in (r"3 \text{ cm}^2", "3 cm", r"x = 3\,\text{m}", "3 square meters"):
        found = score(asked, answer)
        assert (found.correct, found.values["without_unit"]) == (False, 1.0)
    assert score(asked, "4 cm").values["without_unit"] == 0.0
