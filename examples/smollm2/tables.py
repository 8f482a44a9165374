"""Problems as parquet: rl_row() for verl's RLHFDataset and ours, sft_row() for `verl_axpo.integration.sft_dataset`."""

import json
import random
from pathlib import Path

from examples.smollm2.problems import Problem, demonstrate
from verl_axpo import prompts
from verl_axpo.data.parquet import Row
from verl_axpo.tools.described import described

SOURCE = "smollm2/arithmetic"
TOOL_CONFIG = Path(__file__).with_name("tools.yaml")
TOOLS = described(TOOL_CONFIG)


def rl_row(index: int, problem: Problem, split: str) -> Row:
    """One question for GRPO or AXPO."""
    return {
        "data_source": SOURCE,
        "prompt": prompts.prompt_messages(problem.question, TOOLS),
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {"index": index, "split": split, "question": problem.question, "answer_type": "math"},
    }


def sft_row(problem: Problem, rng: random.Random) -> Row:
    """One demonstration, with the schemas of its tools."""
    turns = demonstrate(problem, rng)
    return {
        "messages": [*prompts.prompt_messages(problem.question, TOOLS), *turns],
        "tools": json.dumps(prompts.tool_schemas(TOOLS)),
    }
