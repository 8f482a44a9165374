"""Shared scoring parts: what the benchmarks' official evaluations do, as small pure functions.

    final answer -> undress() -> letter() | is_equal() | token_f1() ... -> verdict and the named conventions

wrapping.py    takes the wrapping off an answer: dollars, \\text{}, bold, a last \\boxed{}
choice.py      which option an answer names: our rule, VLMEvalKit's, Mini-o3's
numeric.py     the value of a number or of a LaTeX expression, without ever evaluating a huge power
mathematics.py equality of mathematical answers as MATH-V and VLMEvalKit define it; several answers at once
dynamath.py    DynaMath's three rules: float, multiple choice, text
text.py        normalised exact match and token F1
judging.py     the judge's interface, and "rule first, judge second"

The rules are restated from the official code that docs/evaluation.md lists; every difference from it is named there.
"""
