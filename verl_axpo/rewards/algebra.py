r"""Sums and products in one form, without doing the question's arithmetic.

    number(), symbol(), plus(), times(), over(), power() -> Poly -> dump() -> equal texts: the same form

A value keeps one form: fractions, roots and powers of numbers are worked out, so 1/\sqrt2 is \sqrt2/2. Order does not
count. Nothing else is worked out: an operation that would have to combine two numbers, two like terms or two equal
factors raises `Unfinished`, and the reader keeps it as written. So "17*23" is not 391, nor "(x+1)^2" "x^2+2x+1".
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

Monomial = tuple[tuple[str, Fraction], ...]  # (base, exponent), sorted; digits are a prime under a root
Poly = dict[Monomial, Fraction]  # monomial -> coefficient; a single term is never a sum

MAX_BITS = 4000  # of a number that is computed; 10^{1000} has as many
MAX_PRIME = 1000  # roots are simplified for numbers up to this one
ONE: Monomial = ()


class Unfinished(Exception):
    """An operation that the answer leaves to be computed."""


class TooLarge(Exception):
    """A number that is too large to compute."""


def number(value: Fraction) -> Poly:
    """A rational number."""
    return {ONE: value}


def symbol(name: str) -> Poly:
    """A variable, a constant, or anything that equals only itself."""
    return {((name, Fraction(1)),): Fraction(1)}


def negative(poly: Poly) -> Poly:
    """Minus the poly."""
    return {monomial: -factor for monomial, factor in poly.items()}


def plus(terms: Sequence[Poly]) -> Poly:
    """The sum.

    Raises:
        Unfinished: two like terms; a unit makes no difference, so that "10-12 cm" is not -2.
    """
    total: Poly = {}
    seen: set[Monomial] = set()
    for term in terms:
        kinds = {tuple(power for power in monomial if power[0][0] != "@") for monomial in term}
        if kinds & seen:
            raise Unfinished
        seen |= kinds
        total.update(term)
    return total


def times(left: Poly, right: Poly) -> Poly:
    r"""The product; a number is multiplied into a sum of numbers, and 1/n into any sum, as `over` divides it.

    Raises:
        Unfinished: two roots of numbers, or two powers of one base. (`statements.product` sees two numbers: it knows
            2\sqrt{12} from 2*12.)
    """
    for scale, total in ((left, right), (right, left)):
        if list(scale) == [ONE] and len(total) > 1 and is_constant(total):
            return {monomial: factor * scale[ONE] for monomial, factor in total.items()}
        if list(scale) == [ONE] and _is_part(scale[ONE]) and not _cancels(total, 1 / scale[ONE]):
            return {monomial: factor * scale[ONE] for monomial, factor in total.items()}
    (ours, factor), (theirs, other) = _single(left), _single(right)
    has_roots = all(any(base.isdigit() for base, _ in monomial) for monomial in (ours, theirs))
    if has_roots or dict(ours).keys() & dict(theirs).keys():
        raise Unfinished
    return {_joined(ours, theirs): factor * other}


def over(above: Poly, below: Poly) -> Poly:
    """The fraction: one bar, without fractions above or below it.

    Raises:
        Unfinished: a fraction of fractions, or a factor that both have.
        ZeroDivisionError: nothing is divided by zero.
    """
    (_, divisor) = _single(below)
    if divisor.denominator > 1 or (any(factor.denominator > 1 for factor in above.values()) and abs(divisor) != 1):
        raise Unfinished
    if list(below) == [ONE] and not _cancels(above, divisor):
        return {monomial: factor / divisor for monomial, factor in above.items()}
    (ours, factor), (theirs, _) = _single(above), _single(below)
    if any(base in dict(ours) and not base.isdigit() for base, _ in theirs):
        raise Unfinished
    scale, inverse = _roots({base: -exponent for base, exponent in theirs})
    scaled, joined = _roots(_exponents(ours, inverse))
    return {joined: factor / divisor * scale * scaled}


def _is_part(scale: Fraction) -> bool:
    return abs(scale.numerator) == 1 and scale.denominator > 1


def _cancels(above: Poly, divisor: Fraction) -> bool:
    """Whether a sum with variables has a factor in common with what it is divided by, or is of fractions itself."""
    if len(above) == 1 or is_constant(above):
        return False
    numerators = [factor.numerator for factor in above.values()]
    return math.gcd(divisor.numerator, *numerators) > 1 or any(factor.denominator > 1 for factor in above.values())


def power(base: Poly, exponent: Poly) -> Poly:
    """The power; a power of numbers is computed.

    Raises:
        TooLarge: it has more than `MAX_BITS` bits.
        ZeroDivisionError: zero to a negative power.
    """
    if list(exponent) != [ONE]:
        monomial, factor = _single(exponent)
        sign = -1 if factor < 0 else 1
        name = f"({dump(base)})^({dump({monomial: abs(factor)} if len(exponent) == 1 else exponent)})"
        return {((name, Fraction(sign if len(exponent) == 1 else 1)),): Fraction(1)}
    wanted = exponent[ONE]
    if list(base) == [ONE]:
        return _number_power(base[ONE], wanted)
    if len(base) == 1:
        ((monomial, factor),) = base.items()
        if factor == 1 and len(monomial) == 1 and monomial[0][1] == 1:
            return {((monomial[0][0], wanted),): Fraction(1)}
    return {((f"({dump(base)})", wanted),): Fraction(1)}


def is_constant(poly: Poly) -> bool:
    r"""Whether it has only numbers, roots of numbers, \pi and e."""
    return all(base.isdigit() or base in ("\\pi", "e") for monomial in poly for base, _ in monomial)


def approximate(poly: Poly) -> float:
    """A constant as a float; infinite if it is not a constant."""
    values = {"\\pi": math.pi, "e": math.e}
    try:
        return math.fsum(
            float(factor)
            * math.prod((values.get(base) or float(base)) ** float(exponent) for base, exponent in monomial)
            for monomial, factor in poly.items()
        )
    except OverflowError:
        return math.inf


def mapped(poly: Poly, change: Callable[[str, Fraction], tuple[Fraction, dict[str, Fraction]]]) -> Poly:
    """Each power of a base replaced by a factor and other powers; like terms are added."""
    total: Poly = {}
    for monomial, factor in poly.items():
        exponents: dict[str, Fraction] = {}
        for base, exponent in monomial:
            scale, powers = change(base, exponent)
            factor *= scale
            for name, value in powers.items():
                exponents[name] = exponents.get(name, Fraction(0)) + value
        key = tuple(sorted((name, value) for name, value in exponents.items() if value))
        total[key] = total.get(key, Fraction(0)) + factor
    return total


def dump(poly: Poly) -> str:
    """The form as text; equal texts are equal forms."""
    terms = (  # hexadecimal: Python refuses to print long decimals
        "*".join(
            [
                f"{factor.numerator:x}/{factor.denominator:x}",
                *(base if exponent == 1 else f"{base}^{exponent}" for base, exponent in monomial),
            ]
        )
        for monomial, factor in poly.items()
    )
    return "+".join(sorted(terms))


def _single(poly: Poly) -> tuple[Monomial, Fraction]:
    """The single term; a sum becomes one factor with the sign of its first term."""
    if len(poly) == 1:
        return next(iter(poly.items()))
    sign = 1 if poly[min(poly)] > 0 else -1
    name = dump(poly if sign > 0 else negative(poly))
    return ((f"({name})", Fraction(1)),), Fraction(sign)


def _exponents(*monomials: Monomial) -> dict[str, Fraction]:
    total: dict[str, Fraction] = {}
    for monomial in monomials:
        for base, exponent in monomial:
            total[base] = total.get(base, Fraction(0)) + exponent
    return total


def _joined(*monomials: Monomial) -> Monomial:
    return tuple(sorted(_exponents(*monomials).items()))


def _roots(exponents: dict[str, Fraction]) -> tuple[Fraction, Monomial]:
    """Whole powers of numbers taken out as a factor; the exponents that are left lie between 0 and 1."""
    factor, rest = Fraction(1), {}
    for base, exponent in exponents.items():
        if base.isdigit():
            factor *= _whole_power(Fraction(int(base)), math.floor(exponent))
            exponent -= math.floor(exponent)
        rest[base] = exponent
    return factor, tuple(sorted((base, exponent) for base, exponent in rest.items() if exponent))


def _number_power(base: Fraction, exponent: Fraction) -> Poly:
    if exponent.denominator == 1:
        return number(_whole_power(base, exponent.numerator))
    is_odd_root = exponent.denominator % 2 == 1
    if base <= 0 and not (is_odd_root and base):
        return symbol(f"({base})^{exponent}") if base else number(base)
    sign = -1 if base < 0 and exponent.numerator % 2 else 1
    primes = [(p, count * exponent) for p, count in _factors(abs(base.numerator))]
    primes += [(p, -count * exponent) for p, count in _factors(base.denominator)]
    factor, monomial = _roots({str(p): value for p, value in primes})
    return {monomial: sign * factor}


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and bits * abs(exponent) > MAX_BITS:
        raise TooLarge
    return base**exponent


@lru_cache(maxsize=256)
def _factors(value: int) -> list[tuple[int, int]]:
    """Primes up to `MAX_PRIME` with their powers; what is left counts as one prime, or as the square of one."""
    found = []
    for p in range(2, MAX_PRIME):
        count = 0
        while value % p == 0:
            value, count = value // p, count + 1
        if count:
            found.append((p, count))
        if value == 1:
            return found
    root = math.isqrt(value)
    return [*found, (root, 2) if root * root == value else (value, 1)]
