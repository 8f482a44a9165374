"""Multiple choice: which letter an answer names, if it names a single one."""

import pytest

from verl_axpo.rewards.choice import MAX_CHARS, chosen_letter, is_chosen, options_in

COLOURS = ("red", "blue", "dark green", "a cat")
DRAWN = ("A", "B", "C", "D", "E")  # the options stand in the image


@pytest.mark.parametrize(
    "answer",
    [
        "B", "b", " B ", "B.", "B)", "B:", "(B)", "( b )", "[B]", "**B**", '"B"', "$B$", "\\(B\\)", "\\text{B}",
        "\\boxed{B}", "\\mathrm{(B)}", "b) blue", "B. Blue", "B: blue", "B - blue", "(B) blue", "option B",
        "Option (b)",
        "choice: B", "Answer: B", "answer is B", "The answer is B.", "the correct answer is (b)",
        "The answer is option B",
        "Therefore, the answer is B", "I choose B", "blue", "Blue.", "\\text{blue}", "B because it is blue",
    ],
)  # fmt: skip
def test_every_dress_of_one_letter(answer: str) -> None:
    assert chosen_letter(answer, COLOURS) == "B"
    assert is_chosen(answer, "B", COLOURS)
    assert is_chosen(answer, "blue", COLOURS)
    assert not is_chosen(answer, "A", COLOURS)


@pytest.mark.parametrize(
    "answer",
    ["", "A or B", "A and B", "A, B", "AB", "B or C", "(A)(B)", "b) red", "not B but C", "both", "E", "E. pink",
     "the blue one", "bananas", "1", "x" * MAX_CHARS + "B"],
)  # fmt: skip
def test_no_letter_or_two_is_no_choice(answer: str) -> None:
    assert chosen_letter(answer, COLOURS) is None
    assert not is_chosen(answer, "B", COLOURS)


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("a cat", COLOURS, "D"),  # the text of D, not the letter A
        ("A cat", COLOURS, "D"),
        ("A", COLOURS, "A"),
        ("I see A cat somewhere", COLOURS, None),
        ("dark green", COLOURS, "C"),
        ("green", COLOURS, None),  # half of an option's text
        ("red", ("red", "red"), None),  # two options with one text
        ("E", DRAWN, "E"),
        ("F", DRAWN, None),
        ("J", (), "J"),
        ("K", (), None),
        ("blue", (), None),
        ("(C) 12 cm", (), "C"),
        ("12 cm", ("10 cm", "12 cm"), "B"),
        ("5", ("3", "5", "7"), "B"),
        ("x", ("x", "y"), "A"),
    ],
)
def test_letters_and_texts_of_options(answer: str, options: tuple[str, ...], letter: str | None) -> None:
    assert chosen_letter(answer, options) == letter


def test_a_ground_truth_that_names_no_option_is_an_error_in_the_data() -> None:
    with pytest.raises(ValueError, match="got the ground truth 'pink' with 4 options, expected one letter"):
        is_chosen("B", "pink", COLOURS)


def test_an_instruction_on_the_options_line_is_not_part_of_the_last() -> None:
    listed = options_in("What color?\nOptions: A: red, B: blue, C: white. Please answer with the letter.")
    assert chosen_letter("C. white", listed) == chosen_letter("white", listed) == "C"
    assert options_in("(A) Thanks. (B) Mrs. Jones writes") == ("Thanks.", "Mrs. Jones writes")
    assert options_in("(A) Go. (B) No. Please wait") == ("Go.", "No. Please wait")
