"""Problems as parquet, in the very columns that verl's datasets read.

Example -> rl_row()  -> RLHFDataset         (verl/utils/dataset/rl_dataset.py)
        -> sft_row() -> SftDataset          (verl_axpo/integration/sft_dataset.py)
rows    -> verl_axpo.data.parquet.write() -> one file, images inside as PNG
"""

import io
import json

from PIL import Image

from examples.tiny_world.world import Example
from verl_axpo import prompts
from verl_axpo.data.parquet import Row
from verl_axpo.tools.paper_tools import paper_tools


def png(image: Image.Image) -> dict[str, bytes]:
    """An image as both datasets take it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return {"bytes": buffer.getvalue()}


def rl_row(example: Example) -> Row:
    """One question for GRPO or AXPO; `extra_info` holds what the trace shows with it."""
    problem = example.problem
    return {
        "data_source": f"tiny/{example.family.NAME}",
        "prompt": prompts.prompt_messages(problem.question, paper_tools(example.tools)),
        "images": [png(image) for image in problem.images],
        "ability": example.family.NAME,
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {
            "index": example.index,
            "split": example.split,
            "question": problem.question.replace("<image>", ""),
            "facts": json.dumps(problem.facts),
        },
    }


def sft_row(example: Example) -> Row:
    """One demonstration, for `verl_axpo.integration.sft_dataset`. The tool schemas travel with it: without them the
    rollout's prompts are unlike any trained on."""
    problem, shown = example.problem, example.demonstration()
    return {
        "messages": [*prompts.prompt_messages(problem.question, paper_tools(example.tools)), *shown.turns],
        "tools": json.dumps(prompts.tool_schemas(paper_tools(example.tools))),
        "images": [png(image) for image in (*problem.images, *shown.images)],
    }
