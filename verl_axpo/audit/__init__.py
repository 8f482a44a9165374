"""Is a trace what AXPO would have done? Trace -> recomputed from its rewards and tokens alone -> every difference.

    row.py      a row's tokens, in memory for a moment -> the facts that the step's rules need
    tokens.py   rules on one row: masks, turns, prefix and span, confidence, calls
    steps.py    rules on rows next to each other: groups, times, copies, where calls open
    decisions.py, advantages.py, metrics.py   rules on what was decided: budget, ranking, allocation, learning signal
    run.py      rules on the steps of a run next to each other

`verl-axpo audit DIR` prints the result and fails on any difference. Only one row's tokens are in memory at a time.
"""

from verl_axpo.audit.run import Audit, Difference, audit, audit_step

__all__ = ["Audit", "Difference", "audit", "audit_step"]
