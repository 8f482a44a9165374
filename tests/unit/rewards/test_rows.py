"""Rows that the reward could not grade are refused before anything is sampled."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig, OmegaConf

from verl_axpo.rewards.rows import OURS, WITH_BENCHMARKS, check_rows

JUDGE = {"judge": {"base_url": "http://judge:8000/v1", "model": "j"}}


def config(folder: Path, *rows: tuple[str, str | None], path: str = OURS, **kwargs: Any) -> DictConfig:
    """The config of a run over rows of (data source, answer type); its validation file does not exist here."""
    table = [{"data_source": source, "prompt": "?", "extra_info": {"answer_type": kind}} for source, kind in rows]
    pq.write_table(pa.Table.from_pylist(table), folder / "train.parquet")
    return OmegaConf.create(
        {
            "data": {"train_files": [str(folder / "train.parquet")], "val_files": "hdfs://elsewhere/val.parquet"},
            "reward": {"custom_reward_function": {"path": path, "reward_kwargs": kwargs or None}},
        }
    )


def test_rows_for_a_judge_need_one(tmp_path: Path) -> None:
    rows = [("s", "judge"), ("s", "math"), ("s", "judge")]
    with pytest.raises(
        ValueError, match=r"train.parquet: only a judge can grade 2 of its 3 rows, and none is configured"
    ):
        check_rows(config(tmp_path, *rows))
    check_rows(config(tmp_path, *rows, **JUDGE))
    check_rows(config(tmp_path, *rows, path="my_reward.py"))  # which reads its rows itself


def test_a_source_that_is_judged_by_the_settings_needs_one_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only a judge can grade 1 of its 1 rows"):
        check_rows(config(tmp_path, ("mine/train", None), answer_types={"mine": "judge"}))
    check_rows(config(tmp_path, ("fvqa", None), ("tiny/search", None)))


def test_a_benchmarks_rows_are_scored_by_its_own_rules(tmp_path: Path) -> None:
    rows = [("benchmark/math_vr", "judge"), ("s", "math")]
    check_rows(config(tmp_path, *rows, path=WITH_BENCHMARKS))
    with pytest.raises(ValueError, match="only a judge can grade 1 of its 2 rows"):
        check_rows(config(tmp_path, *rows))
    with pytest.raises(ValueError, match="only a judge can grade 1 of its 1 rows"):
        check_rows(config(tmp_path, ("benchmark/math_vr", "judge"), ("s", "judge"), path=WITH_BENCHMARKS))


def test_rows_of_no_known_type_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"train.parquet, row 1 \(2 like it\): .*a row of data_source 'mine' has no answer type"
    ):
        check_rows(config(tmp_path, ("s", "math"), ("mine", None), ("mine", None)))
    with pytest.raises(ValueError, match=r"got answer_type 'essay' for 'mine'"):
        check_rows(config(tmp_path, ("mine", "essay")))
