"""Whether every row of a run can be graded, before anything is sampled.

verl's config -> parquet files: data_source, extra_info.answer_type -> answer_type_of() -> fine, or ValueError
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from verl_axpo.integration.training_rows import DATASET, FILES, listed

# The second scores a benchmark's rows by other rules
OURS, WITH_BENCHMARKS = OUR_REWARDS = ("pkg://verl_axpo.rewards.outcome", "pkg://verl_axpo.eval.reward")
_FUNCTION = "reward.custom_reward_function"


def check_rows(config: Any) -> None:
    """Check the rows of `data.train_files` and `data.val_files` against the settings of the reward, if it is ours.

    Files that are not here (a remote path), are no parquet or are read by a dataset of the user's own are left to the
    reward, which checks each row.

    Raises:
        ValueError: rows that only a judge can grade and no judge, or rows without a known answer type.
    """
    function = OmegaConf.select(config, f"{_FUNCTION}.path")
    if function not in OUR_REWARDS:
        return
    if OmegaConf.select(config, "data.custom_cls.path") not in (None, DATASET):
        return
    from verl_axpo.rewards.config import RewardConfig  # imports all graders; other callers do not need them
    from verl_axpo.rewards.graders import answer_type_of

    kwargs = OmegaConf.select(config, f"{_FUNCTION}.reward_kwargs")
    kwargs = {} if kwargs is None else OmegaConf.to_container(kwargs, resolve=True)
    if function == WITH_BENCHMARKS:
        kwargs.pop("registry", None)  # the module of your own benchmarks
    settings = RewardConfig.from_mapping(kwargs)
    for path in _files(config):
        kinds: Counter[str] = Counter()
        for (source, kind), numbers in _rows(path).items():
            if function == WITH_BENCHMARKS and _is_benchmark(source):
                continue
            try:
                kinds[answer_type_of(source, {"answer_type": kind}, settings)] += len(numbers)
            except ValueError as error:
                raise ValueError(f"{path}, row {numbers[0]} ({len(numbers)} like it): {error}") from None
        if kinds["judge"] and settings.judge is None:
            raise ValueError(
                f"{path}: only a judge can grade {kinds['judge']} of its {kinds.total()} rows, and none is "
                f"configured; set {_FUNCTION}.reward_kwargs.judge.base_url and .model (docs/rewards.md), or make "
                "other rows (`verl-axpo data ingest` without --judge-above-words)"
            )


def _is_benchmark(source: str) -> bool:
    from verl_axpo.eval.export import PREFIX  # imports all benchmarks, which a run without them does not need

    return source.startswith(PREFIX)


def _files(config: Any) -> Iterator[Path]:
    trainer = OmegaConf.select(config, "trainer") or {}
    validates = trainer.get("val_before_train", True) or trainer.get("test_freq", -1) > 0
    for key in FILES if validates else FILES[:1]:
        paths = listed(OmegaConf.select(config, key))
        yield from (path for path in paths if path.suffix == ".parquet" and path.is_file())


def _rows(path: Path) -> dict[tuple[str, str | None], list[int]]:
    """The numbers of the rows of each data source and answer type."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    leaves = {file.schema.column(at).path for at in range(len(file.schema))}
    wanted = [name for name in ("data_source", "extra_info.answer_type") if name in leaves]
    batches = (batch.to_pylist() for batch in file.iter_batches(columns=wanted))
    numbers: dict[tuple[str, str | None], list[int]] = {}
    for number, row in enumerate(row for batch in batches for row in batch):
        kind = (row.get("extra_info") or {}).get("answer_type")
        numbers.setdefault((str(row.get("data_source", "")), kind), []).append(number)
    return numbers
