"""Problems and trajectories as rows of verl's datasets.

Problem           -> rl_row()  -> RLHFDataset         (verl/utils/dataset/rl_dataset.py)
Problem + Rollout -> sft_row() -> SftDataset          (verl_axpo/integration/sft_dataset.py)

System turn and tool schemas come from `verl_axpo.prompts`, for both and for evaluation.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from verl_axpo import prompts
from verl_axpo.data.images import ImageStore
from verl_axpo.data.parquet import Row
from verl_axpo.data.problem import Problem, miscounted
from verl_axpo.data.rollouts import Rollout, name_of
from verl_axpo.prompts import IMAGE, ToolPrompt

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_EMBEDDED = pa.list_(pa.struct([("bytes", pa.binary())]))
_REFERENCED = pa.list_(pa.struct([("image", pa.string())]))


def rl_schema(embed: bool) -> Any:
    """Columns of the RL parquet."""
    return pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", _MESSAGES),
            ("images", _EMBEDDED if embed else _REFERENCED),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
            (
                "extra_info",
                pa.struct(
                    [
                        ("index", pa.int64()),
                        ("split", pa.string()),
                        ("id", pa.string()),
                        ("question", pa.string()),
                        ("answer_type", pa.string()),
                        ("aliases", pa.list_(pa.string())),
                        ("options", pa.list_(pa.string())),
                        ("metadata", pa.string()),
                    ]
                ),
            ),
        ]
    )


def sft_schema(embed: bool) -> Any:
    """Columns of the SFT parquet.

    `tools` is JSON text: as nested columns, tools with different parameters would each get the others' as nulls, and
    the rendered prompt would be unlike the rollout's. `verl_axpo.integration.sft_dataset` decodes it.
    """
    images = _EMBEDDED if embed else _REFERENCED
    return pa.schema([("messages", _MESSAGES), ("tools", pa.string()), ("images", images)])


def image_cell(store: ImageStore, sha256: str, embed: bool, maker: str) -> Row:
    """An image as both datasets take it: its bytes, or where it lies on this machine; raises like `ImageStore.read`."""
    data = store.read(sha256, maker)  # a path is checked too: training would meet a damaged file hours later
    return {"bytes": data} if embed else {"image": str(store.path(sha256, maker).resolve())}


def ingest_of(problem: Problem) -> str:
    """The command that stores the problem's images."""
    return f"ingest {problem.source}"


def rl_row(
    problem: Problem, index: int, split: str, tools: Sequence[ToolPrompt], store: ImageStore, embed: bool
) -> Row:
    """One question for GRPO or AXPO; the reward finds `answer_type`, `aliases` and `options` in `extra_info`."""
    return {
        "data_source": problem.source,
        "prompt": prompts.prompt_messages(problem.question, tools),
        "images": [image_cell(store, image, embed, ingest_of(problem)) for image in problem.images],
        "ability": str(problem.metadata.get("category") or problem.source),
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {
            "index": index,
            "split": split,
            "id": problem.id,
            "question": problem.question.replace(IMAGE, "").strip(),
            "answer_type": problem.answer_type,
            "aliases": list(problem.aliases),
            "options": list(problem.options),
            "metadata": orjson.dumps(problem.metadata).decode(),
        },
    }


def sft_row(problem: Problem, rollout: Rollout, tools: Sequence[ToolPrompt], store: ImageStore, embed: bool) -> Row:
    """One demonstration: prompt, then the teacher's turns and the tools' answers as they were.

    Raises:
        ValueError: a trajectory without turns, or whose placeholders and images differ in number.
    """
    turns = [turn.model_dump() for turn in rollout.turns]
    if not turns or turns[-1]["role"] != "assistant":
        found = [turn["role"] for turn in turns]
        raise ValueError(f"{name_of(rollout.key)}: got turns {found}, expected some that end with the assistant's")
    if wrong := miscounted([turn["content"] for turn in turns], len(rollout.images)):
        raise ValueError(f"{name_of(rollout.key)}: got in its turns {wrong}")
    makers = {**dict.fromkeys(rollout.images, "collect"), **dict.fromkeys(problem.images, ingest_of(problem))}
    return {
        "messages": [*prompts.prompt_messages(problem.question, tools), *turns],
        "tools": orjson.dumps(prompts.tool_schemas(tools)).decode(),
        "images": [image_cell(store, image, embed, makers[image]) for image in (*problem.images, *rollout.images)],
    }
