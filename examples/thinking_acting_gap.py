"""The Thinking-Acting Gap on `verl_axpo.core` alone: a tabular policy learns to call a tool, or forgets it.

    policy -> B groups of N rollouts -> explore (AXPO's step) -> row_advantages -> policy gradient

Whether to call is one habit for all questions; what to call is one of 24 arguments, another right one for each topic,
chosen 15 % of the time at first. Answering without a call is right 35 % of the time: at first the better bet, so GRPO
unlearns the call before it has learnt the arguments. Run: python examples/thinking_acting_gap.py [--seeds 12]
"""

import argparse
import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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

    def __init__(self) -> None:
        wrong = (1 - RIGHT_ARGUMENT) / (ARGUMENTS - 1)
        self.gate = float(np.log(TOOL_USE / (1 - TOOL_USE)))
        self.calls = np.log(np.tile([RIGHT_ARGUMENT] + [wrong] * (ARGUMENTS - 1), (TOPICS, 1)))

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


def train(name: str, seed: int, steps: int = STEPS) -> np.ndarray:
    """(steps, 2): tool use and Pass@1 of the policy before each update."""
    policy, rng, history = Policy(), np.random.default_rng(seed), np.empty((steps, 2))
    for step in range(steps):
        use, probabilities = policy.probabilities()
        history[step] = use, use * probabilities[:, 0].mean() + (1 - use) * ARMS[name].answer_success
        asyncio.run(train_step(policy, ARMS[name], rng))
    return history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--plot", default="thinking_acting_gap.png")
    options = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        runs = list(pool.map(train, *zip(*product(ARMS, range(options.seeds)), strict=True)))
    figure, axes = plt.subplots(2, 3, figsize=(13, 6), sharex=True, sharey=True, layout="constrained")
    print(f"tool use and Pass@1, mean of {options.seeds} seeds [lowest and highest], at steps 150 and {STEPS}")
    for (name, arm), curves in zip(ARMS.items(), np.array(runs).reshape(len(ARMS), -1, STEPS, 2), strict=True):
        mean, low, high = curves.mean(0), curves.min(0), curves.max(0)
        print(f"{name:24}", *(f"{mean[at].round(2)} {low[at].round(2)}-{high[at].round(2)}  " for at in (150, -1)))
        for row, label in enumerate(["tool use", "Pass@1"]):
            panel = axes[row, [0.35, 0.6, 0.1].index(arm.answer_success)]
            panel.plot(mean[:, row], label=name)
            panel.fill_between(range(STEPS), low[:, row], high[:, row], alpha=0.2)
            panel.set(ylabel=label, ylim=(0, 1), title=f"answering at once is right {arm.answer_success:.0%}")
            panel.legend(fontsize="small")
    figure.supxlabel(f"step; mean of {options.seeds} seeds, shaded from the lowest to the highest")
    figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
