"""Shared scoring parts: what the benchmarks' official evaluations do, as small pure functions.

    final answer -> undress() -> letter() | is_equal() | token_f1() ... -> verdict and the named conventions

tidying.py     what an answer states, in one spelling; the spelling is the rewards' own
choice.py      which option an answer names: our rule, VLMEvalKit's, Mini-o3's
sentences.py   what a sentence says or denies, and not only contains
numeric.py     the value of a number or of a LaTeX expression, in bounded time
relations.py   what a mathematical answer states: chains, several statements, inequalities
mathematics.py equality of mathematical answers as MATH-V and VLMEvalKit define it; several answers at once
dynamath.py    DynaMath's three rules: float, multiple choice, text
text.py        normalised exact match and token F1
judging.py     the judge's interface, and "rule first, judge second"

The rules are restated from the official code that docs/evaluation.md lists; every difference from it is named there.
"""

VERSION = 3  # raise when results change
