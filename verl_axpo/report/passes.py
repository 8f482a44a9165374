"""Pass@k of one question, for every table of this package.

    n usable rollouts, c of them right, k -> pass_at() -> the chance that k of the n, drawn blindly, hold a right one

Rollouts that failed for no fault of the policy are not among the n. With n = k it says whether any is right, with
k = 1 the share that is right, and more rollouts than k make it more exact. Fewer than k say nothing about Pass@k: such
a question is left out, and whoever prints the number says how many were.
"""

from math import comb, nan


def pass_at(k: int, usable: int, right: int) -> float:
    """The unbiased estimate `1 - C(n - c, k) / C(n, k)`; NaN where fewer than `k` rollouts are usable.

    Args:
        k: tries of the stated number, at least 1.
        usable: n.
        right: c.

    Example: `pass_at(1, 4, 1) == 0.25`, `pass_at(4, 4, 1) == 1.0`, `pass_at(4, 8, 2) == 1 - 15 / 70`
    """
    return nan if usable < k else (comb(usable, k) - comb(usable - right, k)) / comb(usable, k)


def in_percent(lowest: float, highest: float, sign: str = "") -> str:
    """Percent with one decimal; two of them where they differ, and "-" where there is no number.

    Example: `in_percent(0.3, 0.3) == "30.0"`, `in_percent(0.3, 0.44) == "30.0 to 44.0"`
    """
    if lowest != lowest:
        return "-"
    first, last = (f"{100 * share:{sign}.1f}" for share in (lowest, highest))
    return first if first == last else f"{first} to {last}"
