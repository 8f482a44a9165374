"""Where a run stands on the map of `examples/thinking_acting_gap.py --map`: will it need AXPO?

first steps' outcomes -> success of tool calls / success of direct answers -> below, between or above the two borders

The map is of a policy in a table. It says which side of a border is which, not where the border of a real model lies.
"""

from collections.abc import Sequence
from math import nan

from verl_axpo.report.runs import Run
from verl_axpo.report.stats import Estimate
from verl_axpo.report.table import Rows, Table

FIRST_STEPS = 3  # one step of 16 questions says little, and later ones are of a policy that has learnt
# Success of calls / of answers at first, from which the tool is learnt: means over the columns of the map from 20 % of
# right answers on. GRPO has N=10 there, as many samples as AXPO may take.
GRPO_BORDER, AXPO_BORDER = 0.69, 0.33


def verdict(ratio: float) -> str:
    """What the map says of such a start.

    Example: `verdict(0.8) == "GRPO learns the tool too"`
    """
    if ratio != ratio:
        return "no rollouts of both kinds"
    if ratio >= GRPO_BORDER:
        return "GRPO learns the tool too"
    if ratio >= AXPO_BORDER:
        return "AXPO learns the tool, GRPO gives it up"
    return "neither learns the tool: better calls first, by SFT"


def start(run: Run) -> tuple[float, float]:
    """Success of tool-using rollouts and of the others, over the first steps; NaN where there are none."""
    steps = sorted(step for step in run.metrics if step > 0)[:FIRST_STEPS]

    def share(kind: str) -> float:
        right, wrong = (
            sum(run.metrics[step].get(f"axpo/outcome/{kind}_{word}", 0.0) for step in steps)
            for word in ("correct", "wrong")
        )
        return right / (right + wrong) if right + wrong else nan

    return share("tool"), share("no_tool")


def standing_table(runs: Sequence[Run]) -> Table:
    """A row per run that measured both."""
    rows: Rows = []
    for run in runs:
        call, answer = start(run)
        ratio = call / answer if answer else nan
        if ratio == ratio:
            shares = {"calls right %": Estimate.of(call), "answers right %": Estimate.of(answer)}
            rows.append({"run": run.name, **shares, "ratio": ratio, "on the map": verdict(ratio)})
    return Table(name="standing", rows=rows)
