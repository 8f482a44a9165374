"""Which option an answer names: letters in every form, option texts, and answers that name several."""

import time

import pytest

from verl_axpo.eval.scorers import choice
from verl_axpo.rewards.choice import options_in

COLOURS = ("red", "light blue", "blue", "a cat")
LETTERED = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # The letter alone.
        ("B", "B"),
        ("b", "B"),
        (" B ", "B"),
        ("(B)", "B"),
        ("[B]", "B"),
        ("{B}", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("(b).", "B"),
        ("$B$", "B"),
        (r"\text{B}", "B"),
        (r"$\mathrm{(B)}$", "B"),
        (r"\boxed{B}", "B"),
        (r"\boxed{A} or rather \boxed{B}", "B"),
        ("**B**", "B"),
        # The letter and its text.
        ("B. light blue", "B"),
        ("(B) light blue", "B"),
        ("B: light blue", "B"),
        ("**(B)** light blue", "B"),
        ("(B) red", "B"),  # the letter is what was chosen
        # Announced.
        ("The answer is B", "B"),
        ("The answer is b", "B"),
        ("the correct answer is: (B)", "B"),
        ("Answer: B", "B"),
        ("Option B", "B"),
        ("The answer is **B** because of the hat", "B"),
        ("I would choose B", "B"),
        # The text alone.
        ("light blue", "B"),
        ("Light Blue.", "B"),
        ("red", "A"),
        ("a cat", "D"),
        ("It is red", "A"),
        ("A red car", "A"),  # "A" is an article, "red" the option
        ("A cat", "D"),
        # Not unique, or nothing.
        ("A or B", None),
        ("A, B", None),
        ("(A) or (B)", None),
        ("A. red, B. light blue", None),
        ("red and blue", None),
        ("it is light blue", None),  # holds "blue" too
        ("green", None),
        ("E", None),
        ("infrared", None),  # no word "red"
        ("", None),
        ("not sure", None),
    ],
)
def test_the_chosen_letter_is_read(answer: str, expected: str | None) -> None:
    assert choice.letter(answer, "ABCD", COLOURS) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *("The answer is A or B", "(A), (B), and (C)", "The answer is (A), (B), and (C)", "A and B", "both A and C"),
        *("A/B", "A & B", "A B", "A-C", "A to C", "B or c", "(B) or c", "(a) or (b)", "the answer is a or b"),
        *("The answer is either A or B", "The answer could be A or B", "A or B, but not C", "Answer: A, B", "B? No, C"),
    ],
)
def test_several_letters_in_one_breath_are_no_answer(answer: str) -> None:
    assert choice.letter(answer, "ABCD", COLOURS) is None


@pytest.mark.parametrize(
    "answer",
    [
        *("not A", "not (A)", "not **A**", "Not the letter A", "not option A", "The answer is not A", "It is not A."),
        *("It isn't A", "It can\u2019t be A", "I would not choose A", "I don't think the answer is A", "never A"),
        *("All except A", "everything except for A", "anything but A", "all of them but A", "any option but A"),
        *("other than A", "without A", "excluding A", "I eliminated A", "\u2260 A", r"\neq A", "\u00acA", "non-A"),
        *("A is wrong", "(A) is incorrect", "A is not the answer", "A isn't right", "A isn't.", "A can't be right"),
        *("A has been ruled out", "A would be false", "A is excluded", "A and B are both wrong", "A does not fit"),
        *("neither A nor B", "Neither A, B, nor C", "none of A, B or C", "not A or B", "It's not the case that A"),
        # The same for the option's text.
        *(
            "not red",
            "It is not red",
            "anything but red",
            "red is wrong",
            "It isn't red.",
            "neither red nor a cat",
        ),
    ],
)
def test_what_is_denied_is_not_chosen(answer: str) -> None:
    assert choice.letter(answer, "ABCD", COLOURS) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The answer is B, not A", "B"),
        ("B, not A", "B"),
        ("Not A but B", "B"),
        ("not A, so B", "B"),
        ("B rather than A", "B"),
        ("A is incorrect; B is correct", "B"),
        ("The answer is B because A is wrong", "B"),
        ("The answer is B.\nIt is not A.", "B"),
        ("Neither A nor B, so C", "C"),
        ("It is not red but light blue", None),  # says "blue" as well
        ("It is not a cat but red", "A"),
        ("nothing but B", "B"),
        ("Not sure, maybe B", "B"),
        ("I have no doubt that it is B", "B"),
        ("B is not only right", "B"),
        ("B is not symmetric", "B"),
        ("B. not red", "B"),  # the option's text
        ("(B) Not visible", "B"),
        ("Option A is red and option C blue; the answer is C", "C"),
        ("Answer: A, because B is too small", "A"),
    ],
)
def test_what_is_said_next_to_a_denial_counts(answer: str, expected: str | None) -> None:
    assert choice.letter(answer, "ABCD", COLOURS) == expected


@pytest.mark.parametrize("piece", ["A ", "A,", "((((A", "A is is ", "not red ", "[(", "every any ", "answer is "])
def test_a_long_answer_is_read_at_once(piece: str) -> None:
    text = (piece * 1000)[: choice.MAX_CHARACTERS]
    started = time.perf_counter()
    choice.letter(text, "ABCD", COLOURS)
    assert time.perf_counter() - started < 1.0  # some 50 ms on an idle machine


@pytest.mark.parametrize(
    ("answer", "expected"), [("C", "C"), ("(c)", "C"), ("figure C", "C"), ("E", None), ("x", None)]
)
def test_letter_of_options_that_are_only_letters(answer: str, expected: str | None) -> None:
    assert choice.letter(answer, "ABCD", LETTERED) == expected


def test_a_number_inside_another_number_is_no_option() -> None:
    assert choice.letter("1.5", "AB", ("5", "1.5")) == "B"
    assert choice.letter("about 1.5 m", "AB", ("5", "7")) is None
    assert choice.letter("about 5.5 m", "AB", ("5", "7")) is None
    assert choice.letter("it is -5", "AB", ("5", "7")) is None
    assert choice.letter("it is 5.", "AB", ("5", "7")) == "A"


NUMBERS = ("154", "100", "90")  # MathVision 164
HALVES = ("1/4", "1/2", "3/4", "1", "5/4")  # MathVision 2589
COSINES = (r"$\cos \beta$", r"$\cos ^{2} \beta$", r"$\frac{1}{\cos ^{2} \beta}$")  # of MathVision 187
PAIRS = ("1 and 2", "2 and 3", "4 and 5")
SIGNS = ("+", "-", "*", "/")


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        # A piece of an expression is not the option.
        (r"\frac{1}{2}", HALVES, None),
        ("1/2 + x", HALVES, None),
        ("-1/2", HALVES, None),
        (r"\dfrac{1}{\cos ^{2} \beta}", COSINES, None),
        (r"2 \cos ^{2} \beta", COSINES, None),
        (r"1+\cos ^{2} \beta", COSINES, None),
        (r"\sqrt{154}", NUMBERS, None),
        (r"\sqrt 154", NUMBERS, None),
        (r"\frac{1}{154}", NUMBERS, None),
        ("154^2", NUMBERS, None),
        ("(154)^2", NUMBERS, None),
        ("2(154)", NUMBERS, None),
        ("f(154)", NUMBERS, None),
        ("154 + 1", NUMBERS, None),
        ("154 - 1", NUMBERS, None),
        ("154 = n", NUMBERS, None),
        ("154:1", NUMBERS, None),
        ("10-3", ("10", "13", "7", "5"), None),
        (r"\frac{red}{2}", COLOURS, None),
        # Nor is an item of a list.
        ("154 or 155", NUMBERS, None),
        ("150 to 154", NUMBERS, None),
        ("1, 2 and 3", PAIRS, None),
        # What is said is.
        ("It is 1/2.", HALVES, "B"),  # and not the 1 in it
        ("x = 5/4", HALVES, "E"),
        (r"the ratio is $\cos ^{2} \beta$.", COSINES, "B"),
        (r"it is $\frac{1}{\cos ^{2} \beta}$", COSINES, "C"),
        ("so there are 154 of them", NUMBERS, "A"),
        ("154 cm", NUMBERS, "A"),
        (r"154\,\text{cm}", NUMBERS, "A"),
        ("It is **154**.", NUMBERS, "A"),
        (r"It is \(154\).", NUMBERS, "A"),
        ("It is (154)", NUMBERS, "A"),
        (r"x \approx 154", NUMBERS, "A"),
        ("154 (all of them)", NUMBERS, "A"),
        ("154 - all of them", NUMBERS, "A"),
        ("all of them - 154", NUMBERS, "A"),
        ("10 - 3 = 7", ("10", "13", "7", "5"), "C"),  # the value, as MATH-V takes it
        (r"\sqrt{154} is less than 100", NUMBERS, "B"),  # one place is enough, and one option
        ("the numbers 4 and 5", PAIRS, "C"),
        ("minus (-)", SIGNS, "B"),
        ("the operator is +", SIGNS, "A"),
        ("2 red cars", COLOURS, "A"),
        ("Red (the left car)", COLOURS, "A"),
        ("red - like a rose", COLOURS, "A"),
        ("colour = red", COLOURS, "A"),
        ("infra-red", COLOURS, None),
    ],
)
def test_an_options_text_counts_where_it_is_said(answer: str, options: tuple[str, ...], expected: str | None) -> None:
    assert choice.letter(answer, "ABCDE"[: len(options)], options) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Larger? Choices: (A) yes (B) no", ("yes", "no")),
        ("Colour?\n(A) red\n(B) blue\nAnswer with the option's letter.", ("red", "blue")),
        ("Is f(x) even? choices: (A) odd (B) even (C) neither", ("odd", "even", "neither")),
        ("Smallest?\nA. Group 1\nB. Group 2", ("Group 1", "Group 2")),
        ("A and B?\nA: [2, 8]\nB: [1]\n", ("[2, 8]", "[1]")),
        ("See (B) in the picture.", ()),
        ("See B. in the picture.", ()),
        ("No options.", ()),
    ],
)
def test_options_inside_a_question(question: str, expected: tuple[str, ...]) -> None:
    assert options_in(question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("b", None),  # case counts, and "b" is no option's text
        ("(B)", "B"),
        ("B. light blue", "B"),
        ("The answer is B", "B"),
        ("I pick B for one two three four five reasons", None),  # not among the last five words
        ("The correct answer is **B** for one two three four five", "B"),
        ("A or B", None),
        ("red", "A"),
        ("Red", "A"),
        ("blue", "C"),
        ("light blue", None),  # holds two options
        ("red " * 12, None),  # 48 characters > 2 * (3 + 10 + 4 + 5)
        ("Z", "Z"),
        ("Cannot determine the answer: A", "Z"),
        ("", None),
    ],
)
def test_the_letter_by_the_rules_of_vlmevalkit(answer: str, expected: str | None) -> None:
    assert choice.vlmevalkit(answer, COLOURS) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", True),
        (" B\n", True),
        ("(B) blue", True),
        ("B. blue", True),
        ("b", False),
        ("B) blue", False),
        ("blue", False),
    ],
)
def test_the_letter_by_the_rules_of_mini_o3(answer: str, expected: bool) -> None:
    assert choice.mini_o3(answer, "B") is expected
