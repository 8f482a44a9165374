# ruff: noqa: RUF001  # full-width signs are tested
"""Thousands of answers made from true ones: a changed answer earns 0, a different spelling of the same answer earns 1.

truth -> changed(): one number, letter, sign, word or their order; another value; a sentence around it -> 0
truth -> dressed(): TeX, spaces, full-width signs, units, boxes, the option's text                      -> 1
"""

import random
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from verl_axpo.rewards.outcome import compute_score

CASES = 400  # truths of each kind; each makes about ten answers
CHATTER = [
    "not {}",
    "about {}",
    "{}, I think",
    "the answer is {}",
    "{} or something",
    "it is {}",
    "maybe {}",
    "{}?? {}",
    "no {}",
]
WIDE = str.maketrans(
    string.ascii_letters + string.digits,
    "".join(chr(ord(sign) + 0xFEE0) for sign in string.ascii_letters + string.digits),
)

Make = Callable[[random.Random], str]


async def score(answer: str, truth: str, kind: str, **extra_info: Any) -> float:
    text = f"hm</think>\n<answer>\\boxed{{{answer}}}</answer>"
    return (await compute_score("mine", text, truth, {"answer_type": kind, **extra_info}))["score"]


# ------------------------------ mathematics ------------------------------


def digits(rng: random.Random) -> str:
    return str(rng.randint(2, 999))


VALUES: dict[str, Make] = {
    "integer": digits,
    "large": lambda rng: str(rng.randint(10**6, 10**12)),
    "decimal": lambda rng: f"{rng.randint(0, 99)}.{rng.randint(1, 99):02d}",
    "long decimal": lambda rng: f"{rng.randint(1, 9)}.{rng.randint(1, 9)}{rng.randint(10**6, 10**7 - 1)}",
    "fraction": lambda rng: f"\\frac{{{rng.randint(1, 99)}}}{{{rng.randint(2, 99)}}}",
    "mixed number": lambda rng: f"{rng.randint(1, 99)} {rng.randint(1, 4)}/{rng.randint(5, 9)}",
    "root": lambda rng: f"{rng.randint(2, 9)}\\sqrt{{{rng.choice([2, 3, 5, 6, 7, 12])}}}",
    "power": lambda rng: f"{rng.randint(2, 9)}^{{{rng.randint(2, 30)}}}",
    "tiny": lambda rng: f"{rng.randint(2, 9)} \\times 10^{{-{rng.randint(5, 30)}}}",
    "multiple of pi": lambda rng: f"\\frac{{{rng.randint(2, 9)}\\pi}}{{{rng.randint(2, 9)}}}",
    "sum of roots": lambda rng: f"{rng.randint(2, 9)}+{rng.randint(2, 9)}\\sqrt{{{rng.choice([2, 3, 5])}}}",
}
FORMS: dict[str, Make] = {
    "polynomial": lambda rng: f"{rng.randint(2, 9)}x^2+{rng.randint(2, 9)}x+{rng.randint(1, 9)}",
    "factors": lambda rng: f"(x+{rng.randint(1, 4)})(x-{rng.randint(5, 9)})",
    "fraction of letters": lambda rng: f"\\frac{{{rng.randint(2, 9)}a}}{{b+{rng.randint(2, 9)}}}",
    "function": lambda rng: f"{rng.randint(2, 9)}\\sin {rng.randint(2, 9)}x",
    "tuple": lambda rng: f"({rng.randint(1, 49)},{rng.randint(50, 99)})",
    "interval": lambda rng: f"[{rng.randint(1, 49)},{rng.randint(50, 99)})",
    "set": lambda rng: f"\\{{{rng.randint(1, 49)},{rng.randint(50, 99)}\\}}",
    "list": lambda rng: f"{rng.randint(1, 49)}, {rng.randint(50, 99)}",
    "equation": lambda rng: f"y={rng.randint(2, 9)}x+{rng.randint(2, 9)}",
    "inequality": lambda rng: f"x<{rng.randint(2, 99)}",
    "matrix": lambda rng: (
        f"\\begin{{pmatrix}}{rng.randint(1, 9)}&{rng.randint(10, 19)}\\\\{rng.randint(2, 9)}&1\\end{{pmatrix}}"
    ),
    "base": lambda rng: f"{rng.randint(100, 999)}_{{{rng.randint(2, 9)}}}",
}
UNITS = ["cm", "kg", "m/s", "N·m", "mol/L", "^\\circ", "km^2", "厘米", "Pa", "K"]


def changed_mathematics(truth: str, rng: random.Random) -> Iterator[str]:
    at = rng.choice([index for index, sign in enumerate(truth) if sign.isdigit()])
    other = rng.choice([sign for sign in "123456789" if sign != truth[at]])
    yield truth[:at] + other + truth[at + 1 :]
    yield f"-({truth})" if truth[0] in "[(" else f"-{truth}"
    yield f"{truth}, {rng.randint(100, 999)}"
    yield f"{truth} or {rng.randint(100, 999)}"
    yield f"{truth}={rng.randint(100, 999)}"
    yield f"{rng.randint(100, 999)}={truth}"
    yield f"{rng.randint(100, 999)}\\\\{truth}"
    yield f"{truth}{rng.choice('xyz')}"
    yield f"{truth}+1-1"
    yield f"2\\cdot {truth}\\cdot\\frac12"
    yield rng.choice(CHATTER).format(truth, truth)
    for sign, other in (
        (",", ";x;"),
        ("[", "("),
        ("x", "y"),
        ("<", ">"),
        ("+", "-"),
        ("\\sin", "\\cos"),
        ("y=", "z="),
        ("_", ""),
    ):
        if sign in truth:
            yield truth.replace(sign, other)


def dressed_mathematics(truth: str, rng: random.Random) -> Iterator[str]:
    for form in (
        "${}$",
        "\\({}\\)",
        " {} ",
        "\\displaystyle {}",
        "{}.",
        "\\boxed{{{}}}",
        "\\left. {}\\right.",
        "$$ {} $$",
        "\\mathrm{{}}{}",
    ):
        yield form.format(truth)
    yield truth.replace("\\frac", rng.choice(["\\dfrac", "\\tfrac"]))
    yield truth.replace("\\times", rng.choice(["\\cdot", "×", "*"]))
    yield truth.replace(",", rng.choice([" , ", "\\,,\\,", "，"])).replace("(", "\\left(").replace(")", "\\right)")
    if "\\" not in truth:
        yield truth.translate(WIDE)


@pytest.mark.parametrize("kind", [*VALUES, *FORMS])
async def test_changed_mathematics_earns_0_and_dressed_earns_1(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(CASES // 4):
        truth = {**VALUES, **FORMS}[kind](rng)
        for answer in changed_mathematics(truth, rng):
            assert await score(answer, truth, "math") == 0, (answer, truth)
        for answer in dressed_mathematics(truth, rng):
            assert await score(answer, truth, "math") == 1, (answer, truth)


@pytest.mark.parametrize("kind", VALUES)
async def test_a_value_may_have_a_name_or_a_unit(kind: str) -> None:
    rng = random.Random(f"units/{kind}")
    for _ in range(CASES // 4):
        truth, unit = VALUES[kind](rng), rng.choice(UNITS)
        for answer in (f"x = {truth}", f"{truth} {unit}", f"x={truth}\\text{{ {unit}}}"):
            assert await score(answer, truth, "math") == 1, (answer, truth)
        assert await score(f"{truth} {unit}", f"{truth} W", "math") == 0


# ------------------------------ text ------------------------------

WORDS = [
    "yes",
    "no",
    "left",
    "right",
    "red",
    "blue",
    "Paris",
    "London",
    "Obama",
    "Lincoln",
    "north",
    "south",
    "table",
    "hat",
    "cat",
    "dog",
    "wearing",
    "sitting",
    "two",
    "three",
    "before",
    "after",
    "1998",
    "12",
    "7",
    "March",
    "Tower",
    "Coca-Cola",
    "U.S.A.",
    "J.K.",
    "O'Brien",
    "X-ray",
    "München",
    "北京",
    "Boeing",
    "above",
    "below",
    "man",
    "woman",
    "first",
    "last",
    "C++",
    "A+",
    "5%",
]


def changed_text(truth: list[str], rng: random.Random) -> Iterator[list[str]]:
    at = rng.randrange(len(truth))
    yield [*truth[:at], "not", *truth[at:]]
    yield [*truth[:at], rng.choice([word for word in WORDS if word not in truth]), *truth[at + 1 :]]
    yield [*truth[:at], *truth[at + 1 :]]
    yield [*truth, rng.choice(WORDS)]
    yield rng.choice(CHATTER).format(" ".join(truth), " ".join(truth)).split()
    if len(truth) > 1:
        one, two = rng.sample(range(len(truth)), 2)
        swapped = list(truth)
        swapped[one], swapped[two] = truth[two], truth[one]
        yield swapped
    yield [word.translate(str.maketrans("0123456789+", "1234567890-")) for word in truth]


def dressed_text(truth: str, rng: random.Random) -> Iterator[str]:
    for form in (
        "\\text{{{}}}",
        "**{}**",
        "{}.",
        "  {} ",
        '"{}"',
        "$\\mathrm{{{}}}$",
        "\\textbf{{{}}}",
        "\\boxed{{{}}}",
        "“{}”",
        "{}\n",
    ):
        yield form.format(truth)
    yield truth.upper()
    yield truth.casefold()
    yield truth.translate(WIDE)
    yield truth.replace("-", " ")
    yield truth.replace("U.S.A.", "USA").replace("J.K.", "J. K.").replace("O'Brien", "O’Brien")
    yield truth.replace(" ", "\n")


async def test_changed_text_earns_0_and_dressed_earns_1() -> None:
    rng = random.Random("text")
    for _ in range(CASES):
        words = rng.sample(WORDS, rng.randint(1, 5))
        truth = " ".join(words)
        for changed in changed_text(words, rng):
            if changed != words:
                assert await score(" ".join(changed), truth, "short_text") == 0, (changed, truth)
        for answer in dressed_text(truth, rng):
            assert await score(answer, truth, "short_text") == 1, (answer, truth)


# ------------------------------ choice ------------------------------


async def test_another_choice_earns_0_and_a_dressed_one_earns_1() -> None:
    rng = random.Random("choice")
    for _ in range(CASES // 16):
        options = [
            f"{word} {rng.randint(2, 99)}"
            for word in rng.sample(["red", "Vitamin A", "Both A and B", "I and II", "\\frac12", "cm"], 5)
        ]
        right, wrong = rng.sample("ABCDE", 2)
        text, other = (options[string.ascii_uppercase.index(letter)] for letter in (right, wrong))
        for answer in [
            wrong, f"not {right}", f"{right} or {wrong.lower()}", f"{right}{wrong}", f"{right}, {wrong}",
            f"anything but {right}", f"{right} is wrong",
            f"{right}. {other}", other, f"{right} {wrong}", f"{right}. not {text}", f"({right}) or ({wrong})",
            f"{text} or {other}", f"{right}+", f"-{right}",
            f"{right} and {wrong}", f"{right}. {text} and {other}", "F", "", f"{right}?", f"{wrong}. {text}",
        ]:  # fmt: skip
            assert await score(answer, right, "choice", options=options) == 0, (answer, right, options)
            assert await score(answer, text, "choice", options=options) == 0, (answer, text, options)
        for answer in [
            right, right.lower(), f"({right})", f"{right}.", f"**{right}**", f"\\text{{{right}}}", f"{right}. {text}",
            f"({right}) {text}", text, f"{right}: {text}",
            f"**{right}.** {text}", right.translate(WIDE), f"（{right}）", f"The answer is {right}", f"Option {right}",
            f"$\\mathrm{{{right}}}$", f"{right.lower()}) {text}",
        ]:  # fmt: skip
            assert await score(answer, right, "choice", options=options) == 1, (answer, right, options)
            assert await score(answer, text, "choice", options=options) == 1, (answer, text, options)


# ------------------------------ anything ------------------------------


@pytest.mark.parametrize("kind", ["math", "short_text", "choice", "exact"])
async def test_nothing_that_a_policy_writes_raises(kind: str) -> None:
    rng = random.Random(f"anything/{kind}")
    pieces = [
        *"0123456789xyAB()[]{}\\^_&=<>+-*/|!,.;:'\"$%°~ \n",
        "\\frac",
        "\\sqrt",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\pm",
        "\\text{",
        " cm",
        "or",
        "²",
        "⅓",
        "（",
    ]
    for _ in range(CASES * 2):
        answer = "".join(rng.choices(pieces, k=rng.randint(1, 20)))
        assert await score(answer, "B", kind) in (0, 1)
