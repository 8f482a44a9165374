"""The Thinking-Acting Gap on `verl_axpo.core` alone: a tabular policy learns to call a tool, or forgets it.

    policy -> B groups of N rollouts -> explore (AXPO's step) -> row_advantages -> policy gradient

Whether to call is one habit for all questions; what to call is one of 24 arguments, another right one for each topic,
chosen 15 % of the time at first. Answering without a call is right 35 % of the time: at first the better bet, so GRPO
unlearns the call before it has learnt the arguments.

    python examples/thinking_acting_gap.py [--seeds 12]    curves of the arms, ten seconds a seed
    python examples/thinking_acting_gap.py --map           when does AXPO help? minutes

The map has Pass@1 after training for a grid of first success rates, of answers and of calls, under GRPO with as many
samples as AXPO may take (N=10) and under AXPO. Its borders are what `verl-axpo report` measures a run against.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product

import matplotlib.pyplot as plt
import numpy as np

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import explore
from verl_axpo.core.types import Candidate, Rollout, continuations_of

QUESTIONS, TOPICS, ARGUMENTS, STEPS = 16, 8, 24, 300  # B; 2 questions per topic; argument 0 is the right one; updates
TOOL_USE, RIGHT_ARGUMENT = 0.29, 0.15  # of the initial policy
LEARNING_RATE = 0.4  # of plain gradient ascent, small enough that a step is near on-policy


@dataclass(frozen=True)
class Arm:
    config: AxpoConfig
    rollouts: int = 8
    answer_success: float = 0.35
    call_success: float = RIGHT_ARGUMENT  # at first


GRPO, AXPO = AxpoConfig(budget=0), AxpoConfig()
ARMS = {
    "GRPO": Arm(GRPO),
    "GRPO, rollouts x2": Arm(GRPO, rollouts=16),
    "AXPO (+25 %)": Arm(AXPO),
    "AXPO, no prefix credit": Arm(AxpoConfig(prefix_credit=False)),
    "AXPO, merged groups": Arm(AxpoConfig(advantage_group="merged")),
    **{f"GRPO, answer right {share:.0%}": Arm(GRPO, answer_success=share) for share in (0.6, 0.1)},
    **{f"AXPO, answer right {share:.0%}": Arm(AXPO, answer_success=share) for share in (0.6, 0.1)},
}


class Policy:
    """Two tokens per rollout: `gate`, whether to call the tool (the prefix), and the argument (its continuation)."""

    def __init__(self, call_success: float) -> None:
        wrong = (1 - call_success) / (ARGUMENTS - 1)
        self.gate = float(np.log(TOOL_USE / (1 - TOOL_USE)))
        self.calls = np.log(np.tile([call_success] + [wrong] * (ARGUMENTS - 1), (TOPICS, 1)))

    def probabilities(self) -> tuple[float, np.ndarray]:
        """Of calling the tool, and (TOPICS, ARGUMENTS) of each argument."""
        weights = np.exp(self.calls)
        return 1 / (1 + float(np.exp(-self.gate))), weights / weights.sum(axis=1, keepdims=True)

    def update(self, rows: list[Rollout], argument_of: dict[tuple[str, int], int], arm: Arm) -> None:
        """Ascend the mean of A * log pi over the ordinary rollouts, AXPO's rows added, each row on its own tokens."""
        step_R = LEARNING_RATE / (QUESTIONS * arm.rollouts) * row_advantages(rows, arm.config).numpy()
        use, probabilities = self.probabilities()
        topics = np.array([int(row.uid) % TOPICS for row in rows])
        arguments = np.array([argument_of[row.uid, row.session] for row in rows])
        split, sources = arm.config.splits_rollouts, continuations_of(rows).keys()
        has_prefix = np.array([row.source is None or not split for row in rows])
        has_call = (arguments >= 0) & ~np.array([(row.uid, row.session) in sources and split for row in rows])
        self.gate += float(step_R @ (has_prefix * ((arguments >= 0) - use)))
        np.add.at(self.calls, topics, -(step_R * has_call)[:, None] * probabilities[topics])
        np.add.at(self.calls, (topics, arguments), step_R * has_call)


async def train_step(policy: Policy, arm: Arm, rng: np.random.Generator) -> None:
    """Roll out, explore under one budget for all questions, update."""
    use, probabilities = policy.probabilities()
    argument_of: dict[tuple[str, int], int] = {}  # -1: answered at once
    ranked: dict[str, tuple[Candidate, ...]] = {}
    shares: asyncio.Future[dict[str, tuple[Candidate, ...]]] = asyncio.get_running_loop().create_future()

    def sample(uid: str, size: int, use: float, source: int | None = None) -> tuple[Rollout, ...]:
        sessions = range(len(argument_of), len(argument_of) + size)  # sessions need only be distinct
        sure = probabilities[int(uid) % TOPICS]
        arguments = np.where(rng.random(size) < use, rng.choice(ARGUMENTS, size, p=sure), -1)
        right = np.where(arguments < 0, rng.random(size) < arm.answer_success, arguments == 0)
        argument_of.update({(uid, session): a for session, a in zip(sessions, arguments.tolist(), strict=True)})
        return tuple(
            Rollout(
                uid=uid,
                session=session,
                reward=float(r),
                uses_tool=bool(a >= 0),
                confidence=float(sure[a]),
                source=source,
            )
            for session, a, r in zip(sessions, arguments, right, strict=True)
        )

    async def share(uid: str, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        ranked[uid] = candidates
        if len(ranked) == QUESTIONS:  # the barrier: the last question settles for all
            shares.set_result(allocate(ranked, max_prefixes(QUESTIONS, arm.rollouts, arm.config)))
        return (await shares)[uid]

    async def resample(source: Candidate) -> tuple[Rollout, ...]:
        return sample(source.uid, arm.config.num_continuations, use=1.0, source=source.session)

    async def question(uid: str) -> list[Rollout]:
        group = sample(uid, arm.rollouts, use)
        return [*group, *await explore(group, arm.config, allocate=partial(share, uid), resample=resample)]

    groups = await asyncio.gather(*(question(str(number)) for number in range(QUESTIONS)))
    policy.update(list(chain.from_iterable(groups)), argument_of, arm)


def train(arm: Arm, seed: int, steps: int = STEPS) -> np.ndarray:
    """(steps, 2): tool use and Pass@1 of the policy before each update."""
    policy, rng, history = Policy(arm.call_success), np.random.default_rng(seed), np.empty((steps, 2))
    for step in range(steps):
        use, probabilities = policy.probabilities()
        history[step] = use, use * probabilities[:, 0].mean() + (1 - use) * arm.answer_success
        asyncio.run(train_step(policy, arm, rng))
    return history


def trained(arms: Sequence[Arm], seeds: int) -> np.ndarray:
    """(arms, seeds, STEPS, 2): every arm with every seed, on all cores."""
    with ProcessPoolExecutor() as pool:
        runs = list(pool.map(train, *zip(*product(arms, range(seeds)), strict=True), chunksize=4))
    return np.array(runs).reshape(len(arms), seeds, STEPS, 2)


def draw_curves(seeds: int, path: str) -> None:
    """Tool use and Pass@1 of `ARMS` over the steps."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 6), sharex=True, sharey=True, layout="constrained")
    print(f"tool use and Pass@1, mean of {seeds} seeds [lowest and highest], at steps 150 and {STEPS}")
    for (name, arm), curves in zip(ARMS.items(), trained(list(ARMS.values()), seeds), strict=True):
        mean, low, high = curves.mean(0), curves.min(0), curves.max(0)
        print(f"{name:24}", *(f"{mean[at].round(2)} {low[at].round(2)}-{high[at].round(2)}  " for at in (150, -1)))
        for row, label in enumerate(["tool use", "Pass@1"]):
            panel = axes[row, [0.35, 0.6, 0.1].index(arm.answer_success)]
            panel.plot(mean[:, row], label=name)
            panel.fill_between(range(STEPS), low[:, row], high[:, row], alpha=0.2)
            panel.set(ylabel=label, ylim=(0, 1), title=f"answering at once is right {arm.answer_success:.0%}")
            panel.legend(fontsize="small")
    figure.supxlabel(f"step; mean of {seeds} seeds, shaded from the lowest to the highest")
    figure.savefig(path, dpi=110)


# ------------------------------ the map ------------------------------

ANSWERS, CALLS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)  # first success rates
MAPPED = {"GRPO, N=10": Arm(GRPO, rollouts=10), "AXPO, N=8 (+25 %)": Arm(AXPO)}
LEARNT = 0.5  # tool use after training from which a policy has learnt the tool; it starts at TOOL_USE


def border(use: Sequence[float]) -> float | None:
    """The call success from which the tool is learnt, between two of `CALLS`; None where it never is.

    Args:
        use: tool use after training for each of CALLS.
    """
    learnt = [share > LEARNT for share in use]
    if not learnt[-1]:
        return None
    first = len(learnt) - learnt[::-1].index(False) if False in learnt else 0
    if first == 0:
        return CALLS[0]
    (low, high), (below, above) = (use[first - 1], use[first]), (CALLS[first - 1], CALLS[first])
    return float(below + (above - below) * (LEARNT - low) / (high - low))


def draw_map(seeds: int, path: str) -> None:
    """Pass@1 after training over the grid, each arm's border, and its ratio of call to answer success as JSON."""
    cells = list(product(MAPPED.values(), ANSWERS, CALLS))
    arms = [replace(arm, answer_success=answer, call_success=call) for arm, answer, call in cells]
    ends = trained(arms, seeds)[:, :, -1].mean(axis=1).reshape(len(MAPPED), len(ANSWERS), len(CALLS), 2)
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    gain = ends[1, :, :, 1] - ends[0, :, :, 1]
    panels = [(name, ends[at, :, :, 1], "viridis", (0, 1)) for at, name in enumerate(MAPPED)]
    panels.append(("AXPO minus GRPO", gain, "RdBu_r", (-0.7, 0.7)))
    for axis, (name, values, colours, limits) in zip(axes, panels, strict=True):
        axis.imshow(values.T, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        for column, row in product(range(len(ANSWERS)), range(len(CALLS))):
            axis.text(column, row, f"{100 * values[column, row]:.0f}", ha="center", va="center", color="white"
                      if limits[0] == 0 and values[column, row] < 0.6 else "black", fontsize=8)  # fmt: skip
        axis.set(title=name, xlabel="answering at once is right, %", ylabel="a tool call is right at first, %")
        axis.set_xticks(range(len(ANSWERS)), [f"{100 * share:.0f}" for share in ANSWERS])
        axis.set_yticks(range(len(CALLS)), [f"{100 * share:.0f}" for share in CALLS])
    ratios: dict[str, list[float | None]] = {}
    for at, (name, colour) in enumerate(zip(MAPPED, ("black", "red"), strict=True)):
        calls = [border(ends[at, column, :, 0].tolist()) for column in range(len(ANSWERS))]
        ratios[name] = [call and round(call / answer, 2) for call, answer in zip(calls, ANSWERS, strict=True)]
        places = [None if call is None else (call - CALLS[0]) / (CALLS[1] - CALLS[0]) for call in calls]
        for axis in axes:
            axis.plot(range(len(ANSWERS)), places, "o-", color=colour, label=f"border of {name}")
    axes[2].legend(fontsize="small", loc="upper left")
    figure.suptitle(f"Pass@1 after {STEPS} updates, %; mean of {seeds} seeds; above its border an arm learns the tool")
    figure.savefig(path, dpi=110)
    for name, grid in zip([*MAPPED, "gain"], [*ends[..., 1], gain], strict=True):
        print(name, "\n", (100 * grid.T[::-1]).round(0), sep="")
    print(json.dumps({"answers": ANSWERS, "border: call success / answer success": ratios}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, help="default 1, with --map 3")
    parser.add_argument("--map", action="store_true", help="draw the map instead of the curves")
    parser.add_argument("--plot", help="default thinking_acting_gap.png, or thinking_acting_map.png")
    options = parser.parse_args()
    if options.map:
        draw_map(options.seeds or 3, options.plot or "thinking_acting_map.png")
    else:
        draw_curves(options.seeds or 1, options.plot or "thinking_acting_gap.png")


if __name__ == "__main__":
    main()
