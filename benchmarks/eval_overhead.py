"""What the evaluation runner costs beside raw generation: seconds of a run over seconds of the same tokens alone.

    python benchmarks/eval_overhead.py EVALUATION --base-url http://localhost:8000/v1 --concurrency 128

EVALUATION is the folder of one uninterrupted `verl-axpo eval run` on the same server with the same concurrency. Every
assistant turn in it is sent again as a plain completion: as many prompt tokens, as many generated ones, as many at a
time, none waiting for another. The prompts are random tokens that share what the real ones shared (a question's prompt,
a rollout's earlier turns), so that the prefix cache helps both alike; reset it in between (vLLM: restart the server).
Not in the raw side: images, and waiting for a rollout's own earlier turn. The time that rollouts spent in tools is
taken off the run's as its share of the rollouts' time.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openai

from verl_axpo.eval.records import RolloutRecord
from verl_axpo.eval.store import Store

TOKEN_IDS = range(100, 400)  # valid in any vocabulary, no special token in Qwen's


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One turn as a plain completion."""

    prompt: Sequence[int]
    tokens: int


def requests_of(rollout: RolloutRecord) -> Iterator[Request]:
    """The rollout's turns: each prompt continues the one before, the first is the question's."""
    question = random.Random(f"{rollout.benchmark}/{rollout.uid}")
    own = random.Random(f"{rollout.benchmark}/{rollout.uid}/{rollout.rollout}")
    prompt: list[int] = []
    for turn in rollout.turns:
        source = own if prompt else question
        prompt = [*prompt, *source.choices(TOKEN_IDS, k=max(0, turn.prompt_tokens - len(prompt)))]
        yield Request(prompt=prompt, tokens=turn.completion_tokens)


def run_seconds(rollouts: Sequence[RolloutRecord]) -> tuple[float, float]:
    """(wall seconds of the run, of these outside tools)."""
    wall = max(one.finished for one in rollouts) - min(one.started for one in rollouts)
    total = sum(one.finished - one.started for one in rollouts)
    tools = sum(call.seconds for one in rollouts for turn in one.turns for call in turn.calls)
    return wall, wall * (1 - tools / total)


async def replay(requests: Sequence[Request], base_url: str, model: str, concurrency: int) -> float:
    """Send them all, `concurrency` at a time; returns the wall seconds."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=3600)
    waiting = iter(requests)

    async def work() -> None:
        for one in waiting:
            await client.completions.create(
                model=model,
                prompt=list(one.prompt),
                max_tokens=one.tokens,
                extra_body={"min_tokens": one.tokens, "ignore_eos": True},
            )

    started = time.monotonic()
    try:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    finally:
        await client.close()
    return time.monotonic() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, default=128)
    options = parser.parse_args(arguments)
    rollouts = [one for one in Store(options.evaluation).load().rollouts() if one.turns]
    if not rollouts:
        raise SystemExit(f"{options.evaluation}: no rollouts there; run `verl-axpo eval run --out` first")
    requests = [request for one in rollouts for request in requests_of(one)]
    raw = asyncio.run(replay(requests, options.base_url, options.model, options.concurrency))
    wall, without_tools = run_seconds(rollouts)
    tokens = sum(one.tokens for one in requests)
    print(f"{len(rollouts)} rollouts, {len(requests)} turns, {tokens} generated tokens")
    print(f"evaluation {wall:.1f} s, {without_tools:.1f} s without tools; raw generation {raw:.1f} s")
    print(f"ratio without tools {without_tools / raw:.2f}, per rollout {without_tools / len(rollouts):.3f} s")


if __name__ == "__main__":
    main()
