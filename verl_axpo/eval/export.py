"""Benchmarks as rows for verl's validation, and a row's way back to the question that its reward scores.

    [Question] -> row() -> FILE.parquet = data.val_files -> RLHFDataset -> verl's rollouts -> data_source, extra_info
                        -> FILE.images/                     verl_axpo.eval.reward  <-  question_of()  <-|

The columns are those of our RL data (`verl_axpo.data.rows`), so that both can stand in one list of validation files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.data.images import ImageStore
from verl_axpo.data.rows import rl_schema
from verl_axpo.eval import benchmarks
from verl_axpo.eval.registry import Registry, check_images
from verl_axpo.eval.types import Question
from verl_axpo.images import plain_file

PREFIX = "benchmark/"  # of a row's data_source; the benchmark's name follows


def write(
    path: Path,
    questions: Iterable[Sequence[Question]],
    tools: Sequence[prompts.ToolPrompt],
    registry: Registry = benchmarks,
    *,
    embed: bool = False,
) -> int:
    """Write benchmarks into one parquet file, whole or not at all.

    Args:
        path: ends in `.parquet`, or verl would not read it.
        questions: of each benchmark; an iterator keeps the images of one benchmark in memory at a time.
        tools: in the order of the run's tool config.
        registry: describes the benchmarks.
        embed: images inside the file, instead of paths into a folder that is named after it.

    Returns:
        the number of rows.

    Raises:
        ValueError: another ending, a benchmark without a scorer, a question with too few or too many images, or an
            image that the store refuses.
    """
    if path.suffix != ".parquet":
        raise ValueError(f"out: got {path}, expected a name that ends in .parquet")
    store = None if embed else ImageStore(path.with_suffix(".images"))
    everything = (question for group in questions for question in group)
    # The seed of a validation request depends on the index: no two rows of a file share it
    rows = (row(question, index, tools, store, registry) for index, question in enumerate(everything))
    return parquet.write(path, rows, rl_schema(embed))


def row(
    question: Question,
    index: int,
    tools: Sequence[prompts.ToolPrompt],
    store: ImageStore | None,
    registry: Registry = benchmarks,
) -> parquet.Row:
    """One question: the system turn of these tools, the user turn that `verl-axpo eval run` sends.

    `extra_info.metadata` holds, as JSON, what the other columns do not say of the question. Its images go into `store`
    or, without one, into the row.

    Raises:
        ValueError: a benchmark without a scorer, a number of images that is not the prompt's.
    """
    check_images(question)
    rest = {"prompt": question.prompt, "options": question.options, "metadata": question.metadata}
    return {
        "data_source": PREFIX + question.benchmark,
        "prompt": prompts.prompt_messages(question.prompt, tools),
        "images": [_cell(image, store) for image in question.images],
        "ability": registry.get(question.benchmark).group,
        "reward_model": {"style": "rule", "ground_truth": question.ground_truth},
        "extra_info": {
            "index": index,
            "split": "test",
            "id": question.uid,
            "question": question.prompt.replace(prompts.IMAGE, "").strip(),
            "answer_type": question.answer_type,
            "aliases": list(question.metadata.get("aliases", ())),
            "metadata": orjson.dumps(rest).decode(),
        },
    }


def _cell(image: bytes, store: ImageStore | None) -> parquet.Row:
    if store is None:
        return {"bytes": plain_file(image).data}
    return {"image": str(store.path(store.add(image).sha256).resolve())}


def question_of(data_source: str, ground_truth: str, extra_info: Mapping[str, Any]) -> Question:
    """The question that a row was made of, without its images: no scorer looks at them.

    Raises:
        ValueError: not a row of `row`.
    """
    try:
        rest = orjson.loads(extra_info["metadata"])
        metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in rest["metadata"].items()}
        return Question(
            benchmark=data_source.removeprefix(PREFIX),
            uid=extra_info["id"],
            prompt=rest["prompt"],
            ground_truth=ground_truth,
            answer_type=extra_info["answer_type"],
            options=tuple(rest["options"]),
            metadata=metadata,
        )
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(
            f"{data_source}: got extra_info {sorted(extra_info)}, expected that of a row of `verl-axpo eval export` "
            f"({error!r}); export the benchmark again"
        ) from error
