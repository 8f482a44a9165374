"""Mistakes planted into the recipes: each is caught before anything starts, with what was got and what to change."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.recipes.conftest import Check
from verl_axpo.preflight.check import Report

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def told(reports: list[Report]) -> list[tuple[str, str]]:
    """(what was found, what to change) of every red line."""
    return [(f"{one.name}: {one.found}", one.fix) for report in reports for one in report.findings if not one.ok]


def only(reports: list[Report]) -> tuple[str, str]:
    lines = told(reports)
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("data.train_batch_sizes=64", "'train_batch_sizes' is not in struct", "did you mean data.train_batch_size"),
        ("+algorithm.axpo.bugdet=0.5", "unknown keys ['bugdet']", "change the keys that the message names"),
        ("data.train_batch_size=250", "250 questions do not divide into mini-batches of 64", "a divisor of 250"),
        (f"{_ACTOR}.clip_ratio_low=-0.2", "-0.2 and 0.4", "clip_ratio_low=0.2"),
        (f"{_ACTOR}.clip_ratio_high=-0.4", "0.2 and -0.4", "clip_ratio_high=0.4"),
        (f"{_ACTOR}.kl_loss_coef=-0.001", "-0.001 rewards distance", "kl_loss_coef=0.001"),
        (f"{_ACTOR}.optim.lr=0", "actor.optim.lr: 0.0", "a number above 0"),
        (f"{_ACTOR}.loss_agg_mode=mean", "Invalid loss_agg_mode: mean", "change the keys"),
        (f"{_ROLLOUT}.pipeline_model_parallel_size=2", "not implemented", "change the keys"),
        ("+actor_rollout_ref.model.paht=x", "actor_rollout_ref.model.paht", "change the keys"),
        (f"{_ROLLOUT}.multi_turn.tool_config_path=/nowhere.yaml", "/nowhere.yaml is not there", "existing tool config"),
        ("reward.custom_reward_function.name=score", "has no score", "name a module, and what it has"),
        ("algorithm.filter_groups.enable=True", "it drops the all-wrong groups", "change the keys"),
        ("trainer.v1.trainer_mode=separate_async", "trainer_mode: got 'separate_async'", "change the keys"),
        ("data.train_files=/nowhere/rl.parquet", "/nowhere/rl.parquet is not there", "set data.train_files"),
        # 0.9 * 79 + 12 bytes * 8.77e9 / 8 + 4 GiB
        (f"{_ROLLOUT}.gpu_memory_utilization=0.9", "about 87.3 of 79 GiB", "gpu_memory_utilization, or set"),
        # (0.27 * 79 - 4) GiB less 2 bytes * 8.77e9, over 147,456 bytes a token
        (f"{_ROLLOUT}.gpu_memory_utilization=0.27", "room for 7,281 tokens", "raise actor_rollout_ref.rollout.gpu"),
    ],
)
def test_a_planted_mistake_is_the_one_that_is_told(check: Check, override: str, found: str, fix: str) -> None:
    got_found, got_fix = only(check("run_qwen3vl8b_grpo", override))
    assert found in got_found
    assert fix in got_fix


def test_a_group_of_one_is_told_by_our_rule_and_by_the_plugin(check: Check) -> None:
    lines = told(check("run_qwen3vl2b_grpo", f"{_ROLLOUT}.n=1"))
    assert any("a group of one has no peers" in found and "n=8" in fix for found, fix in lines)
    assert any("a group of one has no peers; set" in found for found, _ in lines if "validate_config" in found)


def test_all_problems_are_told_at_once(check: Check) -> None:
    lines = told(
        check("run_qwen3vl8b_axpo", "data.max_response_length=30000", f"{_ROLLOUT}.tensor_model_parallel_size=3")
    )
    expected = {
        "prompt 8192 + response 30000 = 38192 tokens, longer than the model's window of 16384": "to at most 8192",
        "32768, a row may have 38192 tokens": "or more: a row is never split",
        "3 does not divide 8 GPUs": "a divisor of 8",
        "3 does not divide 32 attention and 8 key-value heads": "a divisor of 8",
    }
    for found, fix in expected.items():
        assert any(found in line and fix in advice for line, advice in lines), (found, lines)


def test_a_window_beyond_the_model_also_has_no_room_for_its_keys_and_values(check: Check) -> None:
    lines = told(check("run_qwen3vl8b_grpo", f"{_ROLLOUT}.max_model_len=300000"))
    assert [found.split(": ", 1)[1] for found, _ in lines] == [
        "300000, the model reads 262144 tokens",
        "room for 254,643 tokens of keys and values, one rollout may have 300,000",
    ]


def test_8b_does_not_fit_on_one_gpu(check: Check) -> None:
    # 16 bytes x 8.77e9 parameters alone are 130.6 GiB
    lines = told(check("run_qwen3vl8b_grpo", GPUS="1", OFFLOAD="True", SEARCH_KEY=""))
    assert not any("memory, update" in found for found, _ in lines)  # the recipe keeps them in host memory
    lines = told(check("run_qwen3vl8b_grpo", f"{_ACTOR}.fsdp_config.offload_policy=False", GPUS="1"))
    assert len(lines) == 1
    assert lines[0][0].startswith("memory, update: about 1")
    assert "use more GPUs (GPUS=8)" in lines[0][1]


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("data.train_batch_size=100", "100 rows on 8 GPUs", "a multiple of 8"),
        ("data.max_length=400000", "400000, the model reads 262144 tokens", "at most 262144"),
        ("data.custom_cls.name=Dataset", "has no Dataset", "name a module, and what it has"),
        ("optim.lr=-1e-5", "optim.lr: -1e-05", "a number above 0"),
        ("optim.lr_scheduler_type=linear", "assert self.lr_scheduler_type in", "change the keys"),
        ("model.path=Qwen/Qwen9", "got 'Qwen/Qwen9'", "hub id or folder of a Qwen3-VL"),
        ("data.max_token_len_per_gpu=65536", "GiB on each GPU", "lower data.max_token_len_per_gpu"),
    ],
)
def test_a_mistake_in_sft(check: Check, override: str, found: str, fix: str) -> None:
    lines = told(check("run_qwen3vl8b_sft", override))
    assert any(found in line and fix in advice for line, advice in lines), lines


def test_what_another_recipe_makes_must_be_there_at_the_start(check: Check) -> None:
    lines = told(check("run_qwen3vl2b_axpo", starting=True))
    missing = [found.partition(" is not there, and no stage before makes it")[0] for found, _ in lines]
    assert [line.rpartition("/")[2] for line in missing] == ["checkpoint", "train.parquet", "val.parquet"]


def write(path: Path, **columns: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_training_files_are_looked_into(check: Check, tmp_path: Path) -> None:
    whole = write(tmp_path / "rl.parquet", prompt=["a"] * 600, data_source=["tiny"] * 600, reward_model=["c"] * 600)
    report = next(one for one in check("run_qwen3vl2b_axpo", RL_FILE=str(whole)) if one.stage.name == "axpo")
    assert report.ok, [one for one in report.findings if not one.ok]
    assert report.sizes is not None
    assert (report.sizes.rows, report.sizes.counted, report.sizes.steps) == (600, True, 2)  # 600 // 256

    columns = write(tmp_path / "columns.parquet", question=["a"])
    found, _ = next(one for one in told(check("run_qwen3vl2b_axpo", RL_FILE=str(columns))) if "no column" in one[0])
    assert "has no column ['prompt', 'data_source', 'reward_model'], only ['question']" in found

    short = tmp_path / "short.parquet"
    short.write_bytes(whole.read_bytes()[:-10])
    found, _ = next(one for one in told(check("run_qwen3vl2b_axpo", RL_FILE=str(short))) if "not a whole" in one[0])
    assert f"{short} is not a whole parquet file" in found

    few = write(tmp_path / "few.parquet", prompt=["a"] * 9, data_source=["tiny"] * 9, reward_model=["c"] * 9)
    assert only(check("run_qwen3vl2b_axpo", RL_FILE=str(few)))[0].endswith("9 rows make no batch of 256")
