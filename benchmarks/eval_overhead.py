"""The cost of the evaluation runner: seconds of a run divided by seconds of generating the same tokens alone.

    python benchmarks/eval_overhead.py EVALUATION --base-url http://localhost:8000/v1 --concurrency 128

EVALUATION is the folder of one uninterrupted `verl-axpo eval run` on the same server with the same concurrency. The
benchmark sends every assistant turn of it again as a plain completion, with as many prompt tokens, generated tokens and
requests at a time. The prompts are random tokens; they repeat where the real ones did (a question's prompt, a rollout's
earlier turns), so that the prefix cache helps both sides equally. Empty the cache before (vLLM: restart the server).
The plain completions have no images, and none waits for the turn before it. The share of the rollouts' time that tools
took is subtracted from the run's time.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openai

from verl_axpo.eval.store import Store
from verl_axpo.eval.types import RolloutRecord

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
    wall = max(rollout.finished for rollout in rollouts) - min(rollout.started for rollout in rollouts)
    total = sum(rollout.finished - rollout.started for rollout in rollouts)
    tools = sum(call.seconds for rollout in rollouts for turn in rollout.turns for call in turn.calls)
    return wall, wall * (1 - tools / total)


async def replay(requests: Sequence[Request], base_url: str, model: str, concurrency: int) -> float:
    """Send them all, `concurrency` at a time; returns the wall seconds."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=3600)
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            await client.completions.create(
                model=model,
                prompt=list(request.prompt),
                max_tokens=request.tokens,
                extra_body={"min_tokens": request.tokens, "ignore_eos": True},
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
    rollouts = [rollout for rollout in Store(options.evaluation).load().rollouts() if rollout.turns]
    if not rollouts:
        raise SystemExit(f"{options.evaluation}: no rollouts there; run `verl-axpo eval run --out` first")
    requests = [request for rollout in rollouts for request in requests_of(rollout)]
    raw = asyncio.run(replay(requests, options.base_url, options.model, options.concurrency))
    wall, without_tools = run_seconds(rollouts)
    tokens = sum(request.tokens for request in requests)
    print(f"{len(rollouts)} rollouts, {len(requests)} turns, {tokens} generated tokens")
    print(f"evaluation {wall:.1f} s, {without_tools:.1f} s without tools; raw generation {raw:.1f} s")
    print(f"ratio without tools {without_tools / raw:.2f}, per rollout {without_tools / len(rollouts):.3f} s")


if __name__ == "__main__":
    main()
