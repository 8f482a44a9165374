"""Shared scoring parts: what the benchmarks' official evaluations do, as small pure functions.

    final answer -> undress() -> letter() | is_equal() | token_f1() ... -> verdict and the named conventions

wrapping.py    takes the wrapping off an answer: dollars, \\text{}, bold, a last \\boxed{}
choice.py      which option an answer names: our rule, VLMEvalKit's, Mini-o3's
denial.py      whether a sentence names something only to deny it
containment.py whether a sentence says an option's text, and not a larger expression
numeric.py     the value of a number or of a LaTeX expression, in bounded time
tidying.py     what an answer states, in one spelling
mathematics.py equality of mathematical answers as MATH-V and VLMEvalKit define it; several answers at once
relations.py   what a mathematical answer states: chains, several statements, inequalities
dynamath.py    DynaMath's three rules: float, multiple choice, text
text.py        normalised exact match and token F1
judging.py     the judge's interface, and "rule first, judge second"

The rules are restated from the official code that docs/evaluation.md lists; every difference from it is named there.
"""

VERSION = 3  # raise when results change
