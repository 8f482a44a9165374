# ruff: noqa: RUF001  # signs that look like others are what this file is about
r"""Plain mathematical text as tokens, one name for each sign; units are told from variables here.

"1\tfrac12 × 10 kN·m" -> tokens() -> ["3/2", "*", "10", "@kN", "*", "@m"], or Unreadable: a word stands in it
"""

import re
from collections.abc import Iterator, Sequence

from verl_axpo.rewards.units import meaning

_FUNCTION_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min gcd lcm det"
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega infty emptyset ell hbar"
)
FUNCTIONS = frozenset(f"\\{name}" for name in _FUNCTION_NAMES.split())
GREEK = frozenset(f"\\{name}" for name in _GREEK_NAMES.split())
ATOMS = FUNCTIONS | {"(", "[", "{", "\\{", "\\frac", "\\sqrt", "\\angle", "\\triangle"}

_NAMING = FUNCTIONS | {"\\angle", "\\triangle"}  # what follows is no unit: "\\angle C"

_NAMES = (  # each sign's other names
    r"* × · ⋅ ∙ \times \cdot; \div ÷; \le ≤ \leq \leqslant; \ge ≥ \geq \geqslant; \ne ≠ \neq;"
    r"\infty ∞ infinity; \cup ∪; \cap ∩; \pm ±; \binom \dbinom \tbinom; \sqrt √ sqrt; \in ∈; \approx ≈;"
    r"\equiv ≡; \to → \rightarrow; \angle ∠; \triangle △; \emptyset ∅ \varnothing; \or or; \and and;"
    r"\frac \dfrac \tfrac \cfrac; < \lt; > \gt; ° \degree; \{ \lbrace; \} \rbrace; | \lvert \rvert \vert; \alpha α;"
    r"\beta β; \gamma γ; \delta δ; \theta θ; \lambda λ; \pi π; \rho ρ; \sigma σ; \tau τ; \phi φ; \omega ω; \Delta Δ"
)
_SIGNS = {name: sign for sign, *names in map(str.split, _NAMES.split(";")) for name in names}
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\^\s*\{?\s*\\circ\s*\}?", "°"),
        (r"°\s+(?=[CF]\b)", "°"),
        (r"(?<=[\d\s}])([kmMGμ]?)\s*\\Omega\s*$", r" \1Ω"),
        (r"\\mu\s*(?=[mgsLAFN](?![a-zA-Z]))", "μ"),
        (r"(?<=\d)(?=[VWNJΩ]$)", " "),  # "12V"
        (r"(?<=\d)\s*([kcdm]?m)([23])(?!\w)", r" \1^\2"),  # "5 cm2"
        (r"√\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}"),
        (r"\bper\s?cent\b", "%"),
        (r"\bper\b", "/"),
        (r"\b(?:square|sq\.?)\s+([a-zA-Z]+)|\b([a-zA-Z]+)\s+squared\b", r"\1\2^2"),
        (r"\bcubic\s+([a-zA-Z]+)|\b([a-zA-Z]+)\s+cubed\b", r"\1\2^3"),
        (r"平方([千厘分毫公]?[米里])", r"\1^2"),
        (r"立方([千厘分毫]?米)", r"\1^3"),
        (r"(?<=[\w})])\s*~", " "),
        (r">=", "≥"),
        (r"<=", "≤"),
        (r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])", "^"),
    )
]
_TOKEN = re.compile(
    r"""(?P<gap>\s*)(?:
      (?P<row>\\\\(?:\[\d+[a-z]{2}\])?)
    | \\begin\s*\{(?P<begin>[a-zA-Z]+)\*?\}(?:\s*\{[lcr|\s]*\})?
    | (?P<end>\\end)\s*\{[a-zA-Z]+\*?\}
    | \\mathbb\s*\{?\s*(?P<field>[A-Z])\s*\}?
    | (?P<mantissa>(?<![\d.])\d(?:\.\d+)?)(?:[eE](?P<e>[+-]?\d{1,3})(?!\d)
      |\s*(?:\\times|\\cdot|[*x×·])\s*10\s*\^\s*(?:\{\s*(?P<ten>[+-]?\d{1,3})\s*\}|(?P<bare>[+-]?\d{1,3})(?!\d)))
    | (?P<grouped>(?<![\d.,])\d{1,3}(?:(?:,\d{3})+|(?:[ ]\d{3})+)(?![\d])(?:\.\d+)?)
    | (?P<whole>\d+)(?:\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)(?!\d)
      |\s*\\[dt]?frac\s*(?:\{\s*(?P<top2>\d+)\s*\}\s*\{\s*(?P<bottom2>\d+)\s*\}|(?P<top3>\d)\s*(?P<bottom3>\d)(?!\d)))
    | (?P<number>\d+(?:\.\d+)?|\.\d+)
    | (?P<command>\\[a-zA-Z]+|\\[{}|])
    | (?P<run>[a-zA-ZμΩÅ]+|[\u4e00-\u9fff]+) | (?P<degree>°[CF]?(?![a-zA-Z])) | (?P<sign>\S))
    """,
    re.VERBOSE,
)
_MATRICES = ("matrix", "pmatrix", "bmatrix", "smallmatrix", "array")
_ITEM_ENDS = frozenset(("", ",", ";", "\\\\", "\\or", "\\and", ")", "]", "}", "\\}", "&", "\\end"))
_IN_UNITS = frozenset(("*", "/", "^", "{", "}", "(", ")", "-"))
_CURRENCIES = frozenset("$€£¥")
MAX_UNIT_TOKENS = 40  # of one unit; longer ones make the time quadratic
_MIN_WORD = 3  # letters; a longer run is a word, not a product of variables
_BRACED = re.compile(r"\{ (\S+) \}")


class Unreadable(Exception):
    """No mathematics, or none that is known here."""


def source(tokens: Sequence[str]) -> str:
    r"""The tokens as text, without braces around a single one: "x_{1}" and "x_1" are the same."""
    return _BRACED.sub(r"\1", " ".join(tokens))


def tokens(text: str) -> list[str]:
    r"""All tokens of a plain text.

    Raises:
        Unreadable: a word that is no function and no unit.
    """
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    found = [(token, bool(match["gap"])) for match in _TOKEN.finditer(text) for token in _named(match)]
    return list(_spelled(found))


def _named(match: re.Match[str]) -> Iterator[str]:
    if match["row"]:
        yield "\\\\"
    elif match["begin"]:
        yield "\\begin" + ("matrix" if match["begin"] in _MATRICES else match["begin"])
    elif match["field"]:
        yield "mathbb" + match["field"]
    elif match["mantissa"]:
        yield f"{match['mantissa']}e{int(match['e'] or match['ten'] or match['bare'])}"
    elif match["whole"]:
        yield from _mixed(
            match["whole"], *filter(None, match.group("top", "bottom", "top2", "bottom2", "top3", "bottom3"))
        )
    elif match["grouped"]:
        yield re.sub("[, ]", "", match["grouped"])
    else:
        token = match["end"] or match[0].strip()
        yield _SIGNS.get(token, token)


def _mixed(whole: str, top: str, bottom: str) -> Iterator[str]:
    """A whole number and a fraction after it; only a proper fraction makes a mixed number."""
    if 0 < int(top) < int(bottom):
        yield f"{int(whole) * int(bottom) + int(top)}/{bottom}"
    else:
        yield from (whole, "\\frac", "{", top, "}", "{", bottom, "}")


def _spelled(found: Sequence[tuple[str, bool]]) -> Iterator[str]:
    """Runs of letters as units, functions, names or variables."""
    names = [token for token, _ in found]
    units_until, has_letters = 0, False
    for at, (token, gap) in enumerate(found):
        before = names[at - 1] if at else ""
        if token in _ITEM_ENDS or token == "=":
            has_letters = False
        if token in _CURRENCIES and at + 1 < len(names) and names[at + 1][0].isdigit():
            continue
        if at < units_until or (token[0] in "°%" and before):
            yield token if token in _IN_UNITS or token.isdigit() else f"@{token}"
        elif _is_run(token):
            if (
                before
                and (before[-1].isalnum() or before in (")", "}", "]"))
                and before not in _NAMING
                and _may_be_unit(token, gap, before, has_letters)
            ):
                units_until = _end_of_units(names, at)
            if at < units_until:
                yield f"@{token}"
                continue
            has_letters = True
            yield from _letters(token)
        else:
            yield token
        if before in _CURRENCIES and token[0].isdigit():
            yield f"@{before}"


def _is_run(token: str) -> bool:
    return token.isalpha() and not token.startswith("mathbb")


def _may_be_unit(token: str, gap: bool, before: str, has_letters: bool) -> bool:
    """`5 m` is a length; `5m`, `x m` are products. A counted thing stands apart from its number."""
    known = meaning(token)
    if known is None:
        return False
    is_counted = known[1].keys() == {token.lower().removesuffix("s")} and len(token) >= _MIN_WORD
    if (len(token) == 1 and token.isascii()) or is_counted:
        return gap and not has_letters
    return gap or not before.isalpha()


def _end_of_units(names: Sequence[str], start: int) -> int:
    """Where the units end that begin at `start`; `start` itself unless nothing but units stands there to the end."""
    depth = 0
    end = min(len(names), start + MAX_UNIT_TOKENS)
    for at in range(start, end):
        token = names[at]
        if token in _ITEM_ENDS and not (token in ")}" and depth):
            return at
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(token, 0)
        is_exponent = token.isdigit() and names[at - 1] in ("^", "{", "-")
        if not (
            token in _IN_UNITS or is_exponent or ((_is_run(token) or token[0] == "°") and meaning(token) is not None)
        ):
            return start
    return end if end == len(names) else start


def _letters(run: str) -> Iterator[str]:
    if run in _SIGNS:
        yield _SIGNS[run]
    elif f"\\{run.lower()}" in FUNCTIONS:
        yield f"\\{run.lower()}"
    elif f"\\{run}" in GREEK:
        yield f"\\{run}"
    elif run.isupper() and run.isascii():
        yield run  # AB is one segment, and BA another text
    elif len(run) < _MIN_WORD and run.isascii():
        yield from run
    else:
        raise Unreadable(run)
