"""How long a picture's features hold up the event loop of a rollout worker: as verl computes them, and in a thread.

a picture of SIDE x SIDE pixels -> `_compute_multi_modal_inputs` in the loop, or after `features_ahead`
a beat every 5 ms               -> the longest time between two beats

python benchmarks/image_features.py --model outputs/tiny_axpo_fast/sft/checkpoint --side 1448
"""

import argparse
import asyncio
import time
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.integration.features import FeatureCache, FeaturesWorker, token_ids

BEAT_S = 0.005
PIXELS = {"shortest_edge": 256**2, "longest_edge": 4096**2}  # what the processor leaves as it is


def worker_of(model: str) -> Any:
    """What of a rollout worker computes features."""
    worker = FeaturesWorker.__new__(FeaturesWorker)
    worker.processor, worker.mm_processor_kwargs = AutoProcessor.from_pretrained(model), None
    worker.processor.image_processor.size = PIXELS
    worker.tokenizer, worker.features = worker.processor.tokenizer, FeatureCache()
    return worker


def row_of(worker: Any, side: int) -> AgentLoopOutput:
    """A row with a picture of noise."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))
    grid = worker.processor.image_processor([picture], return_tensors="pt")["image_grid_thw"]
    count = int(grid.prod()) // worker.processor.image_processor.merge_size**2
    begin, end = worker.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
    prompt = [begin, *[worker.processor.image_token_id] * count, end]
    return AgentLoopOutput(
        prompt_ids=prompt, response_ids=[end], response_mask=[1], multi_modal_data={"images": [picture]}, metrics={}
    )


async def longest_block(worker: Any, row: AgentLoopOutput, *, ahead: bool) -> float:
    """Seconds."""
    beats = [time.monotonic()]

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            beats.append(time.monotonic())

    beating = asyncio.ensure_future(beat())
    await asyncio.sleep(10 * BEAT_S)
    async with worker.features_ahead(row) if ahead else nullcontext():
        worker._compute_multi_modal_inputs(row, token_ids(row))
    await asyncio.sleep(10 * BEAT_S)
    beating.cancel()
    return max(later - earlier for earlier, later in pairwise(beats)) - BEAT_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with the processor of a Qwen3-VL")
    parser.add_argument("--side", type=int, default=1448)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # as in Ray's actors
    worker = worker_of(chosen.model)
    row = row_of(worker, chosen.side)
    for name, ahead in (("in the event loop", False), ("in a thread", True)):
        found = [asyncio.run(longest_block(worker, row, ahead=ahead)) for _ in range(chosen.repeats)]
        print(f"{name}: longest block {min(found):.3f} to {max(found):.3f} s in {chosen.repeats} runs")


if __name__ == "__main__":
    main()
