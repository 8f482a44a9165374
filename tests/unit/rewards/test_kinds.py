# ruff: noqa: RUF001  # full-width signs are tested
r"""Which answers earn 1 and which 0, kind by kind, through the function that verl calls.

Each line is `(answer, truth)`. A kind's wrong answers must earn 0 and its right ones 1 (rules: docs/rewards.md).
"""

import string
from collections.abc import Sequence
from typing import Any

import pytest

from verl_axpo.rewards.outcome import compute_score

Pairs = Sequence[tuple[str, str]]


async def score(answer: str, truth: str, kind: str, **extra_info: Any) -> float:
    """The reward of this final answer."""
    text = f"hm</think>\n<answer>\\boxed{{{answer}}}</answer>"
    return (await compute_score("mine", text, truth, {"answer_type": kind, **extra_info}))["score"]


MATH_WRONG: dict[str, Pairs] = {
    "mixed numbers": [
        ("11/2", "1 1/2"), ("1 1/2", "11/2"), ("23/4", "2 3/4"), ("2 3/4", "23/4"), ("12", "1 2"), ("1  2", "12"),
        ("1 2", "12"),
        ("1 000 0", "10000"), ("1 1/2", "1/2"), ("3 1/2", "3/2"), ("1\\frac{1}{2}", "\\frac{11}{2}"),
    ],
    "the question's own expression": [
        ("17\\times 23", "391"), ("17*23", "391"), ("17\\cdot23", "391"), ("3+4", "7"), ("100-37", "63"),
        ("12\\div 4", "3"), ("\\frac{17\\times23}{1}", "391"), ("\\frac12+\\frac13", "\\frac56"), ("5!", "120"),
        ("x^2-5x+6", "(x-2)(x-3)"), ("(x-2)(x-3)", "x^2-5x+6"), ("(x+1)^2", "x^2+2x+1"), ("2(x+1)", "2x+2"),
        ("\\frac{x^2-1}{x-1}", "x+1"), ("x+x", "2x"), ("x\\cdot x", "x^2"), ("\\frac{x^3}{x}", "x^2"),
        ("\\int_0^1 x^2 dx", "1/3"), ("\\sum_{k=1}^{10} k", "55"), ("\\lim_{x\\to 0}\\frac{\\sin x}{x}", "1"),
        ("\\binom{5}{2}", "10"), ("\\frac{d}{dx} x^2", "2x"), ("\\prod_{k=1}^{4} k", "24"), ("\\log_2 8", "3"),
        ("\\sin 30^\\circ", "\\frac12"), ("\\sqrt{50}-\\sqrt{8}", "3\\sqrt2"), ("\\sqrt2\\cdot\\sqrt8", "4"),
        ("\\sqrt2\\cdot\\sqrt3", "\\sqrt6"), ("C(5,2)", "10"), ("\\frac{8!}{6!}", "56"), ("50\\%\\times 80", "40"),
        ("(2\\sqrt3)^2", "12"), ("\\sqrt{3^2+4^2}", "5"), ("x=17\\times 23", "391"), ("2^{3+4}", "128"),
        ("\\cos\\frac{\\pi}{3}", "\\frac12"), ("10% of 50", "5"),
        ("23\\times 10^2", "2300"), ("2^3\\cdot 5", "40"), ("|{-5}|", "5"), ("\\gcd(12,18)", "6"), ("7 \\bmod 4", "3"),
        ("\\lfloor 3.7\\rfloor", "3"), ("(2+3)^2", "25"), ("\\sqrt{9+16}", "5"), ("2x=10", "10"), ("1011_2", "11"),
        ("\\frac{2x+6}{2}", "x+3"), ("\\frac12(2x+6)", "x+3"), ("3(2x+1)", "6x+3"),
        ("\\frac{6x^2-3x}{3}", "2x^2-x"), ("7\\times\\sqrt{36}", "42"), ("24/2/3", "4"),
        ("\\sqrt{16}\\times\\sqrt{9}", "12"), ("64^{1/2}\\cdot 27^{1/3}", "24"),
        ("\\frac{1/2}{3/4}", "\\frac23"), ("\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", "-2"),
    ],
    "statements of several values": [
        ("6=5", "5"), ("5=6", "5"), ("x=6\\\\x=5", "5"), ("6\\equiv 5", "5"), ("x\\equiv 5", "5"), ("x=6=5", "5"),
        ("x=2+3=5", "5"), ("x=4, x=5", "5"), ("6 \\to 5", "5"), ("6 \\Rightarrow 5", "5"), ("6\\ne 5", "5"),
        ("x\\ne 5", "5"), ("x=5", "y=5"), ("4;5", "5"), ("6 \\approx 5", "5"), ("-x=5", "5"), ("x^2=5", "5"),
        ("5 \\text{ or } 6", "5"), ("6\n5", "5"), ("\\boxed{6}\\boxed{5}", "5"), ("1\\pm 2", "3"), ("x\\in 5", "5"),
    ],
    "bases and primes": [
        ("1011_3", "1011_2"), ("f(x)", "f'(x)"), ("f'(x)", "f(x)"), ("f''(x)", "f'(x)"), ("f^{\\prime}", "f"),
        ("a_1", "a_2"), ("x_{1}", "x"), ("12_8", "12"), ("f^{-1}(x)", "f(x)"),
    ],
    "tiny and large values": [
        ("10^{-21}", "10^{-20}"), ("\\frac{1}{20!}", "\\frac{1}{19!}"), ("10^{-21}", "0"), ("0", "10^{-20}"),
        ("0.00000002", "0.00000001"), ("1.0e-20", "1.1e-20"), ("10^{20}+1", "10^{20}"), ("10^{21}", "10^{20}"),
        ("123456789012345678901", "123456789012345678902"), ("2^{100}", "1267650600228229401496703205377"),
        ("1.234567\\times10^{-8}", "1.234568\\times10^{-8}"), ("0.000001", "0.0000014"),
        ("10^{10^{10}}", "10^{10^{9}}"), ("0.3333", "\\frac13"), ("3.1415", "\\pi"),
    ],
    "signs and relations": [
        ("\N{MINUS SIGN}5", "5"), ("<5", ">5"), ("<5", "5"), ("\\le 5", "<5"), ("x<5", "x>5"), ("x<5", "x\\le 5"),
        ("\\pm 5", "5"), ("5", "\\pm 5"), ("-\\infty", "\\infty"), ("\N{EN DASH}5", "5"), ("a-b", "b-a"),
        ("x=y", "x\\ne y"), ("\\frac{a}{b}", "\\frac{b}{a}"), ("a^b", "b^a"), ("\\sim 5", "-5"), ("~5", "5"),
        ("5...", "5"), ("-2", "10-12 cm"), ("13", "①③"), ("0.333…", "0.333"),
    ],
    "order that says something": [
        ("(2,1)", "(1,2)"), ("ba-a", "ab-b"), ("\\vec b\\times\\vec a", "\\vec a\\times\\vec b"), ("BA", "AB"),
        ("\\angle CAB", "\\angle ABC"), ("\\overrightarrow{BA}", "\\overrightarrow{AB}"), ("[2,1]", "[1,2]"),
        ("BCA", "ABC"), ("f(g(x))", "g(f(x))"),
        ("\\mathbf{b}\\times\\mathbf{a}", "\\mathbf{a}\\times\\mathbf{b}"),
        ("6:8", "3:4"), ("4:3", "3:4"), ("\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}",
         "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"), ("\\begin{pmatrix}12&3\\end{pmatrix}",
         "\\begin{pmatrix}1&23\\end{pmatrix}"), ("(1,2)", "[1,2]"), ("(1,2)", "\\{1,2\\}"), ("B12", "12B"),
        ("\\begin{cases}x=1\\\\y=2\\end{cases}", "\\begin{cases}x=2\\\\y=1\\end{cases}"),
    ],
    "words around a number": [
        ("not 5", "5"), ("5 or so", "5"), ("5 million", "5"), ("5 dozen", "5"), ("5 hundredths", "5"), ("5 not", "5"),
        ("5 wrong", "5"), ("about 5", "5"), ("5 or more", "5"), ("no 5", "5"), ("5 times", "5"), ("5 万", "5"),
        ("the answer is 5", "5"), ("5 minus", "5"), ("5 plus", "5"), ("5 thousands", "5"), ("不是5", "5"),
    ],
    "units": [
        ("5 m", "5 cm"), ("5 K", "5 Pa"), ("5 nm", "5 N·m"), ("5 m/s", "5 s/m"), ("5 mol/L", "5 g/L"),
        ("5 cm^2", "5 cm"),
        ("5 厘米", "5 米"), ("5 apples", "5 pears"), ("6 K", "5"), ("5%", "5 cm"), ("5 mW", "5 MW"), ("5 Nm", "5 nm"),
        ("5 mM", "5 mm"), ("2\\pi", "2"),
        ("5a", "5"), ("5x", "5"), ("5 €", "5 $"), ("5 °C", "5 °F"), ("180^\\circ-\\beta", "180-\\alpha"),
    ],
}  # fmt: skip

MATH_WRONG |= {
    "and is not or": [
        ("x<1 and x>2", "x<1 or x>2"), ("x>1 or x<2", "x>1 and x<2"), ("x\\le 1 and x\\ge 2", "x\\le 1 or x\\ge 2"),
    ],
    "signs of a truth that no rule reads": [
        ("[1,2]", "]1,2["), ("(1,2)", "]1,2["), ("5", "5‰"), ("5", "5‱"), ("5", "5*"), ("5", "5-"), ("5", "5:"),
        ("5", "5?"), ("5", "5…"), ("5", "₅"), ("5", '5"'), ("1 2", "1 ? 2"),
    ],
    "a tilde in front": [("~p", "p"), ("p", "~p"), ("~x+1", "x+1")],
    "stars of a power": [("2**3+5**2", "23+52"), ("x**2", "2x"), ("2**3**", "23"), ("x**2", "x*2")],
}  # fmt: skip

MATH_RIGHT: dict[str, Pairs] = {
    "a sum over a number": [
        ("\\frac{1}{2}(a+b)", "\\frac{a+b}{2}"), ("\\frac12(180-\\alpha)", "\\frac{180-\\alpha}{2}"),
        ("\\frac13(2x+1)", "\\frac{2x+1}{3}"), ("y=1.5x-2.5", "y=\\frac{3x-5}{2}"), ("0.6-0.8i", "\\frac{3-4i}{5}"),
        ("90^\\circ-\\frac{\\alpha}{2}", "\\frac{180^\\circ-\\alpha}{2}"), ("y=\\frac34x+3", "y=\\frac{3x+12}{4}"),
        ("x+3", "\\frac{x+3}{1}"),
        ("\\frac{2\\sqrt3+4}{2}", "\\sqrt3+2"), ("\\frac{1+\\sqrt5}{2}", "\\frac12+\\frac{\\sqrt5}{2}"),
    ],
    "angles and functions are named": [
        ("\\angle 1 = 50^\\circ", "50°"), ("∠2=50°", "50"), ("∠C", "\\angle C"), ("\\angle{C}", "\\angle C"),
        ("\\sin(A)", "\\sin A"),
    ],
    "kilo-ohms": [
        ("6\\,\\text{k}\\Omega", "6"), ("6\\,\\text{k}\\Omega", "6 kΩ"), ("6k\\Omega", "6kΩ"),
        ("6\\,\\mathrm{k}\\Omega", "6000 Ω"), ("100 \\Omega", "100"),
    ],
    "relations and powers as on a keyboard": [
        ("x>=3", "x\\ge 3"), ("x >= 3", "[3,\\infty)"), ("x<=3", "(-\\infty,3]"), ("x**2", "x^2"),
        ("x**2+y**2", "x^2+y^2"), ("2**(x+1)", "2^{x+1}"), ("5 cm squared", "5 cm^2"), ("5 m cubed", "5"),
        ("1<=x<=2", "[1,2]"), ("\\fbox{3}", "3"), ("\\{\\}", "\\emptyset"), ("\\dbinom{n}{2}", "\\binom{n}{2}"),
        ("x<1 or x>2", "x<1, x>2"), ("12\\mathrm{~cm}", "12"), ("5~cm", "5"),
    ],
    "mixed numbers": [
        ("10 000", "10000"), ("10\\,000", "10000"), ("3/2", "1 1/2"), ("1 1/2", "3/2"), ("1\\frac12", "1.5"),
        ("10{,}000", "10,000"), ("1 234 567", "1234567"), ("-1 1/2", "-3/2"), ("1½", "1.5"), ("2\\tfrac{3}{4}", "11/4"),
        ("1 1/2 cm", "1.5"),
    ],
    "values in several forms": [
        ("\\frac{3}{6}", "1/2"), ("0.5", "\\frac12"), ("\\sqrt{8}", "2\\sqrt2"),
        ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}"),
        ("2^{10}", "1024"), ("10^{-3}", "0.001"), ("3\\times 10^5", "300000"), ("\\frac{\\pi}{2}", "0.5\\pi"),
        ("2\\pi", "6.283185"), ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"), ("8^{1/3}", "2"),
        ("\\frac{1+\\sqrt5}{2}", "(\\sqrt5+1)/2"),
        ("\\frac12+\\frac{\\sqrt5}{2}", "\\frac{1+\\sqrt5}{2}"), ("2+\\sqrt3", "\\sqrt3+2"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("\\sqrt{\\frac34}", "\\frac{\\sqrt3}{2}"), ("3\\pi\\sqrt2", "3\\sqrt{2}\\pi"), ("4i+3", "3+4i"),
        ("e^{2}", "7.389056"),
        ("10^{-20}", "0.00000000000000000001"), ("0.333333", "1/3"), ("50\\%", "0.5"), ("1.5e3", "1500"),
    ],
    "expressions in the same form": [
        ("6-5x+x^2", "x^2-5x+6"), ("(x-3)(x-2)", "(x-2)(x-3)"), ("\\frac{x}{2}", "0.5x"), ("2x/3", "\\frac{2x}{3}"),
        ("\\frac{2}{3}x", "\\frac{2x}{3}"), ("y=2x+1", "2x+1"), ("2x+1", "y = 1+2x"), ("\\frac{x+1}{2}", "(x+1)/2"),
        ("x^{-1}", "\\frac1x"), ("ab^2", "b^2a"), ("\\sqrt{x}", "x^{1/2}"), ("e^{-x}", "\\frac{1}{e^x}"),
        ("-(x+1)", "-x-1"),
        ("\\sin (x)", "\\sin x"), ("2\\sin x\\cos x", "2\\cos x\\sin x"), ("f'(x)", "f^{\\prime}(x)"),
        ("\\int_0^1 x\\,dx", "\\int_{0}^{1}x dx"),
        ("2^3\\cdot 5", "5\\times 2^3"), ("x = 5", "5"), ("5", "x=5"), ("y=x", "x=y"), ("\\log_{2}3", "\\log_2 3"),
        ("|x|", "\\left|x\\right|"),
        ("1011_{2}", "1011_2"),
    ],
    "matrices, vectors and cases": [
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"),
        ("\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        ("\\begin{pmatrix}1/2\\\\0\\end{pmatrix}", "\\begin{pmatrix}\\frac12\\\\ 0\\end{pmatrix}"),
        ("\\left[\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right]", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"),
        ("\\begin{cases}x=1\\\\y=2\\end{cases}", "\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}"),
        ("f(x)=\\begin{cases}x&x>0\\\\-x&x\\le 0\\end{cases}", "\\begin{cases}x & x>0\\\\ -x & x\\leq 0\\end{cases}"),
        ("(1,\\frac{1}{2})", "\\left( 1 , 0.5 \\right)"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\ 2\\\\\\end{bmatrix}"),
    ],
    "a unit on one side": [
        ("5 K", "5"), ("5 Pa", "5"), ("5 mol/L", "5"), ("5 nm", "5"), ("5 N·m", "5"), ("5 厘米", "5"), ("5", "5 K"),
        ("5\\,\\mathrm{N\\cdot m}", "5"), ("5 kg m/s^2", "5"), ("5\\text{ m/s}^2", "5"), ("5 km/h", "5"), ("5 mA", "5"),
        ("5 kPa", "5"), ("5 μm", "5"), ("5 °C", "5"), ("5℃", "5"), ("5 kΩ", "5"), ("5 平方米", "5"), ("5 元", "5"),
        ("5 个", "5"),
        ("5 eV", "5"), ("5 J/(kg·K)", "5"), ("5 apples", "5"), ("5 people", "5"), ("\\$5", "5"), ("5 W/m^2", "5"),
        ("180^\\circ-\\alpha", "180-\\alpha"), ("180-\\alpha", "180^{\\circ}-\\alpha"), ("90°+2x", "90+2x"),
        ("2\\sqrt3 cm", "2\\sqrt3"),
        ("x = 5\\text{ cm}", "5"), ("5 square units", "5"), ("5 sq ft", "5"), ("5 ft.", "5"), ("5 g/cm^3", "5"),
        ("5 C", "5"), ("5 Nm", "5"), ("5 cm2", "5"), ("5 ㎡", "5"), ("12V", "12"), ("5 J/(kg·°C)", "5"), ("5 Å", "5"),
        ("5千米/小时", "5"),
        ("5 m s⁻²", "5"), ("100 \\Omega", "100"), ("5 \\mu m", "5"), ("50\\,\\mathrm{kg\\cdot m^{-3}}", "50"),
    ],
    "one quantity in two units": [
        ("1.2 m", "120 cm"), ("5 kPa", "5000 Pa"), ("18 km/h", "5 m/s"), ("1 N", "1 kg m/s^2"), ("5 厘米", "5 cm"),
        ("5 N·m", "5 N m"), ("5 mol/L", "5 mol·L^{-1}"), ("1 L", "1000 cm^3"), ("60 s", "1 min"),
    ],
    "full-width and typographic signs": [
        ("x²", "x^2"), ("10⁸", "10^8"), ("（1，2）", "(1,2)"), ("⅓", "\\frac13"), ("２５", "25"), ("10⁻³", "0.001"),
        ("x₁", "x_1"),
        ("\N{MINUS SIGN}5", "-5"), ("3．5", "3.5"), ("50％", "50%"), ("x＝5", "5"), ("≤5", "\\le 5"),
        ("2√3", "\\sqrt{12}"),
        ("√(3)", "\\sqrt3"), ("½x", "\\frac{x}{2}"), ("[1，2）", "[1,2)"), ("3∶4", "3:4"), ("{1，2}", "\\{1,2\\}"),
    ],
    "lists, sets and intervals": [
        ("2, 1", "1, 2"), ("x=1 or x=2", "1,2"), ("1 and 2", "1, 2"), ("\\pm 2", "-2,2"), ("x=\\pm 2", "x=2, x=-2"),
        ("1\\pm\\sqrt2", "1+\\sqrt2, 1-\\sqrt2"), ("x>3", "(3,\\infty)"), ("3<x\\le 5", "(3,5]"),
        ("x\\ge 3", "3\\le x"),
        ("(2,\\infty)\\cup(-\\infty,1)", "(-\\infty,1)\\cup(2,\\infty)"), ("3:4", "\\frac34"), ("<5", "x<5"),
        ("x \\in (1,2)", "(1,2)"),
    ],
    "two boxes": [
        ("\\boxed{1}, \\boxed{2}", "\\boxed{1}, \\boxed{2}"), ("1, 2", "\\boxed{1} and \\boxed{2}"),
    ],
    "words": [("\\text{Monday}", "monday"), ("\\text{No solution}", "no solution")],
}  # fmt: skip

TEXT_WRONG: dict[str, Pairs] = {
    "words without order or sense": [
        ("on the right side of the table", "on the left side of the table"),
        ("is not wearing a hat", "is wearing a hat"),
        ("Yes, there are cats on the sofa", "No, there are cats on the sofa"),
        ("from Paris to London", "from London to Paris"),
        ("1998-03-12", "1998-12-03"), ("the man in the red coat", "the man in the blue coat"),
        ("Obama Barack", "Barack Obama"),
        ("Barack Hussein Obama", "Barack Obama"), ("two of the three cats", "three of the two cats"),
        ("Paris or Rome", "Paris"),
        ("not Paris", "Paris"), ("Paris, I think", "Paris"), ("12 March 1999", "12 March 1998"),
        ("March 3, 2021", "March 5, 2021"),
        ("12/03/1998", "03/12/1998"), ("3-1", "4-2"), ("1-2", "2-1"), ("21", "2-1"), ("1.5", "15"), ("3:30", "330"),
    ],
    "labels are no articles": [
        ("C", "A, C"), ("vitamin", "Vitamin A"), ("A", "A, C"), ("CA", "A, C"), ("Vitamin", "Vitamin D"),
        ("C, A", "A, C"),
        ("negative", "A negative"), ("hepatitis", "Hepatitis A"), ("team", "A-team"),
    ],
    "signs": [
        ("A+", "A-"), ("A", "A+"), ("C#", "C++"), ("C", "C++"), ("<5", ">5"), ("5", "<5"), ("5", "\N{MINUS SIGN}5"),
        ("\N{MINUS SIGN}5", "5"), ("O-", "O+"), ("50", "50%"), ("$5", "€5"), ("1/2", "12"), ("5", "±5"),
        ("NaCl", "Na+Cl-"),
        ("x²", "x"), ("-x", "x"), ("now here", "nowhere"), ("5!", "5"), ("2*3", "23"), ("5'6", "56"),
        ("10^8", "108"), ("10⁸", "108"),
    ],
}  # fmt: skip

TEXT_WRONG |= {
    "primes": [("5'", '5"'), ("5″", "5′"), ("5''", "5'"), ("6'2'", "6'2\""), ("5", "5'"), ("5'", "5")],
    "small signs": [
        ("5‰", "5"), ("5‰", "5%"), ("O2", "O2-"), ("O2-", "O2+"), ("A*", "A"),
        ("A search", "A* search"), ("a b", "a*b"),
    ],
    "taken back by a question mark": [("yes?", "yes"), ("Paris ?", "Paris"), ('"Paris?"', "Paris"), ("Rome?.", "Rome")],
}  # fmt: skip

TEXT_RIGHT: dict[str, Pairs] = {
    "quotes, primes and stars": [
        ("6' 2\"", "6'2\""), ("6′2″", "6'2\""), ("6'2''", "6'2\""), ('"Boeing 747"', "Boeing 747"),
        ("'Boeing 747'", "Boeing 747"), ("1990's", "1990s"), ("*Paris*", "Paris"), ("* Paris", "Paris"),
        ("A*", "A*"), ("Who am I", "Who am I?"), ("Who am I?", "Who am I?"),
    ],
    "spelling": [
        ("\\text{Paris}", "Paris"), ("\\textbf{Paris}", "Paris"), ("$\\mathrm{Paris}$", "Paris"), ("USA", "U.S.A."),
        ("U.S.A", "USA"),
        ("JK Rowling", "J.K. Rowling"), ("J. K. Rowling", "J.K. Rowling"), ("March 5 2021", "March 5, 2021"),
        ("AC", "A, C"), ("A and C", "A and C"),
        ("The Boeing 747", "Boeing 747"), ("Coca Cola", "Coca-Cola"), ("x ray", "X-ray"), ("A dog", "dog"),
        ("an apple", "apple"),
        ("\N{MINUS SIGN}5", "-5"), ("Ｐａｒｉｓ", "Paris"), ("Levi\u2019s", "Levi's"), ("Rock \\& Roll", "Rock & Roll"),
        ("**Paris**", "Paris"),
        ("Dr Dre", "Dr. Dre"), ("Washington DC", "Washington, D.C."), ("3 p.m.", "3 pm"), ("1,234", "1234"),
        ("2\N{EN DASH}1", "2-1"), ("F16", "F-16"), ("北京。", "北京"),
        ("New\\ York", "New York"),
    ],
    "dates": [
        ("5 March 2021", "March 5, 2021"), ("2021-03-05", "March 5, 2021"), ("March 5th, 2021", "5 March 2021"),
        ("Mar 5, 2021", "2021-03-05"),
        ("the 5th of March 2021", "March 5, 2021"), ("2021年3月5日", "2021-03-05"), ("2021 March 5", "March 5, 2021"),
        ("2021/03/05", "2021-03-05"), ("2021-3-5", "2021-03-05"),
    ],
}  # fmt: skip

OPTIONS = ["Vitamin A", "Vitamin C", "Vitamin D", "Both A and B", "\\frac{1}{2}"]
ROMAN = ["I only", "I and II only", "Point D is closest", "None of the above"]

CHOICE_WRONG: dict[str, Pairs] = {
    "a second letter after a text": [("B. blue, C", "B"), ("B) red / d", "B"), ("(B) red & C.", "B"), ("B. x; A", "B")],
    "an option's text taken back": [("Vitamin C?", "B"), ("B. Vitamin C?", "B"), ("not Vitamin C", "B")],
    "negations, hedges and two letters": [
        ("not B", "B"), ("anything but B", "B"), ("B is wrong", "B"), ("B or c", "B"), ("B or C", "B"), ("B, c", "B"),
        ("b and d", "B"),
        ("Not (B)", "B"), ("all except B", "B"), ("B?", "B"), ("B is not correct", "B"), ("neither B", "B"),
        ("probably B", "B"), ("BC", "B"),
        ("B) or c", "B"), ("B. or c", "B"), ("B. C.", "B"), ("B. wrong", "B"), ("B: no, C", "B"), ("B/C", "B"),
        ("the answer isn't B", "B"),
        ("B. not this", "B"), ("B because A is wrong, or C", "B"), ("A B", "B"), ("(A)(B)", "B"), ("-B", "B"),
        ("B'", "B"), ("B+", "B"),
    ],
}  # fmt: skip


def cases(table: dict[str, Pairs]) -> list[Any]:
    """One test for each pair, named after its kind."""
    return [
        pytest.param(*pair, id=f"{kind}-{string.ascii_letters[index // 26]}{index % 26}")
        for kind, pairs in table.items()
        for index, pair in enumerate(pairs)
    ]


@pytest.mark.parametrize(("answer", "truth"), cases(MATH_WRONG))
async def test_wrong_mathematics_earns_0(answer: str, truth: str) -> None:
    assert await score(answer, truth, "math") == 0


@pytest.mark.parametrize(("answer", "truth"), cases(MATH_RIGHT))
async def test_right_mathematics_earns_1(answer: str, truth: str) -> None:
    assert await score(answer, truth, "math") == 1


@pytest.mark.parametrize(("answer", "truth"), cases(TEXT_WRONG))
async def test_wrong_text_earns_0(answer: str, truth: str) -> None:
    assert await score(answer, truth, "short_text") == 0
    assert await score(answer, "something else", "short_text", aliases=[truth]) == 0


@pytest.mark.parametrize(("answer", "truth"), cases(TEXT_RIGHT))
async def test_right_text_earns_1(answer: str, truth: str) -> None:
    assert await score(answer, truth, "short_text") == 1
    assert await score(answer, "something else", "short_text", aliases=[truth]) == 1


@pytest.mark.parametrize(("answer", "truth"), cases(CHOICE_WRONG))
async def test_a_choice_that_is_none_earns_0(answer: str, truth: str) -> None:
    assert await score(answer, truth, "choice") == 0
    assert await score(answer, truth, "choice", options=OPTIONS) == 0


@pytest.mark.parametrize(
    ("answer", "truth", "options"),
    [
        ("B. Vitamin C", "B", OPTIONS), ("D. Both A and B", "D", OPTIONS), ("C. Point D is closest", "C", ROMAN),
        ("B. I and II only", "B", ROMAN), ("(D) Both A and B", "D", OPTIONS), ("B) vitamin c", "B", OPTIONS), ("B",
        "B", OPTIONS),
        ("Vitamin C", "B", OPTIONS), ("\\text{Vitamin C}", "B", OPTIONS), ("Both A and B", "D",
        OPTIONS), ("I and II only", "B", ROMAN),
        ("1/2", "E", OPTIONS), ("E. 0.5", "E", OPTIONS), ("B", "Vitamin C", OPTIONS), ("None of the above", "D",
        ROMAN), ("B．", "B", OPTIONS),
        ("（B）", "B", OPTIONS), ("**B.** Vitamin C", "B", OPTIONS), ("ｂ", "B", OPTIONS), ("The answer is B", "B",
        OPTIONS), ("Option B", "B", OPTIONS),
    ],
)  # fmt: skip
async def test_a_letter_with_or_without_its_own_option_earns_1(answer: str, truth: str, options: list[str]) -> None:
    assert await score(answer, truth, "choice", options=options) == 1
    other = "A" if truth != "A" else "B"
    assert await score(answer, other, "choice", options=options) == 0


@pytest.mark.parametrize("answer", ["B. Vitamin C", "B. I and II only", "B) Both A and C", "(B) Point D is closest"])
async def test_a_letter_with_its_option_earns_1_where_the_options_are_not_known(answer: str) -> None:
    assert await score(answer, "B", "choice") == 1
    assert await score(answer, "C", "choice") == 0


@pytest.mark.parametrize(
    "answer", ["B. Vitamin A", "B. Vitamin", "B. Vitamin C and A", "Vitamin", "B. not Vitamin C", "A or Vitamin C", "F"]
)
async def test_a_letter_with_another_text_earns_0(answer: str) -> None:
    assert await score(answer, "B", "choice", options=OPTIONS) == 0
