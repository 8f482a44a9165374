"""The time of AXPO's advantages and of verl's GRPO estimator on the same batch: rewards (R, T) -> advantages (R, T).

Both sum the token rewards, normalise per question and spread the result over the response mask; AXPO also builds its
rows and credits the resampled prefixes. Run: python benchmarks/advantage_speed.py [--rows 10000] [--tokens 8192].
Exits with 1 if AXPO takes more than 1.5 times as long.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout

ROLLOUTS, CONTINUATIONS = 8, 4  # N and K of the paper
TARGET = 1.5  # at most this many times verl's seconds


def batch(num_rows: int) -> list[Rollout]:
    """Questions of N rollouts under the paper's full budget: r * N / K = half a prefix per question."""
    rows: list[Rollout] = []
    for question in range(num_rows):
        selected = question % 2 == 0
        uid = str(question)
        rows += [Rollout(uid=uid, session=n, reward=float(n > 5), uses_tool=True) for n in range(ROLLOUTS)]
        if selected:
            rows += [
                Rollout(uid=uid, session=ROLLOUTS + k, reward=float(k == 0), uses_tool=True, source=0)
                for k in range(CONTINUATIONS)
            ]
        if len(rows) >= num_rows:
            return rows[:num_rows]
    return rows


def axpo(rewards_RT: torch.Tensor, mask_RT: torch.Tensor, facts: list[Rollout]) -> torch.Tensor:
    """As the estimator does it: rows from the summed rewards, then the mask."""
    rewards = rewards_RT.sum(dim=-1).tolist()
    rows = [replace(row, reward=reward) for row, reward in zip(facts, rewards, strict=True)]
    return row_advantages(rows, AxpoConfig()).unsqueeze(-1) * mask_RT


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=8_192)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    facts = batch(options.rows)
    mask_RT = torch.ones(options.rows, options.tokens, dtype=torch.int64)
    rewards_RT = torch.zeros(options.rows, options.tokens)
    rewards_RT[:, -1] = torch.tensor([row.reward for row in facts])
    index = np.array([row.uid for row in facts], dtype=object)
    runs = {
        "verl GRPO": lambda: compute_grpo_outcome_advantage(rewards_RT, mask_RT, index),
        "AXPO": lambda: axpo(rewards_RT, mask_RT, facts),
    }
    # Alternating, so that a busy machine slows both
    times = [{name: seconds(run) for name, run in runs.items()} for _ in range(options.repeats + 1)][1:]
    medians = {name: statistics.median(seconds[name] for seconds in times) for name in runs}
    ratio = medians["AXPO"] / medians["verl GRPO"]
    print(f"{options.rows} rows x {options.tokens} tokens, median of {options.repeats} runs:", medians)
    print(f"AXPO / verl GRPO = {ratio:.2f} (at most {TARGET})")
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
