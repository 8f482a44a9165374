"""Mistakes planted into a command of verl: each is found before anything starts, with what to change."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_axpo import cli
from verl_axpo.check import check, parse
from verl_axpo.check.command import compose
from verl_axpo.check.machine import check_gpus, read_gpus

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@pytest.fixture
def rl(tmp_path: Path) -> list[str]:
    """A command without mistakes."""
    rows = {
        "prompt": [[{"role": "user", "content": "a"}]] * 600,
        "data_source": ["tiny"] * 600,
        "reward_model": ["c"] * 600,
    }
    pq.write_table(pa.table(rows), tmp_path / "rl.parquet")
    files = [f"data.{split}_files={tmp_path}/rl.parquet" for split in ("train", "val")]
    model = f"actor_rollout_ref.model.path={tmp_path}/made/model"
    return ["python", "-m", "verl.trainer.main_ppo", "--config-name", "qwen3vl_rl", model, *files]


def told(argv: list[str], tmp_path: Path) -> list[tuple[str, str]]:
    """(what was found, what to change) of every red line."""
    findings = check(argv, [tmp_path / "made"], machine=False)
    return [(f"{finding.name}: {finding.found}", finding.fix) for finding in findings if not finding.ok]


def test_a_sound_command_has_nothing_to_change(rl: list[str], tmp_path: Path) -> None:
    assert told(rl, tmp_path) == []


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("data.train_batch_sizes=64", "'train_batch_sizes' is not in struct", "did you mean data.train_batch_size"),
        ("+algorithm.axpo.bugdet=0.5", "unknown keys ['bugdet']", ""),
        ("data.train_batch_size=50", "50 questions do not fill a mini-batch of 64", "ppo_mini_batch_size to 1 to 50"),
        (f"{_ACTOR}.clip_ratio_low=-0.2", "clip_ratio_low: -0.2", "a number above 0"),
        (f"{_ACTOR}.kl_loss_coef=-0.001", "-0.001 rewards distance", "0 or more"),
        (f"{_ACTOR}.optim.lr=0", "actor.optim.lr: 0", "a number above 0"),
        (f"{_ACTOR}.loss_agg_mode=mean", "Invalid loss_agg_mode: mean", "change the keys"),
        (f"{_ROLLOUT}.pipeline_model_parallel_size=2", "not implemented", "change the keys"),
        (f"{_ROLLOUT}.multi_turn.tool_config_path=/nowhere.yaml", "/nowhere.yaml", ""),
        ("algorithm.filter_groups.enable=True", "it drops the all-wrong groups", "filter_groups.enable=False"),
        ("data.train_files=/nowhere/rl.parquet", "data.train_files=/nowhere/rl.parquet: no such file", "existing path"),
        ("data.max_response_length=16384", "prompt and response may have 24576", "24576"),
    ],
)
def test_a_planted_mistake_is_reported(rl: list[str], tmp_path: Path, override: str, found: str, fix: str) -> None:
    lines = told([*rl, override], tmp_path)
    assert any(found in line and fix in advice for line, advice in lines), lines


def test_a_mistake_is_reported_once(rl: list[str], tmp_path: Path) -> None:
    """By the plugin's rules, which verl's validation would repeat."""
    broken = [*rl, "data.train_files=/nowhere/rl.parquet", "algorithm.filter_groups.enable=True"]
    assert len(told(broken, tmp_path)) == 2
    assert len(told([*broken, "algorithm.adv_estimator=grpo"], tmp_path)) == 1  # the file is missing for GRPO too


def test_all_mistakes_are_reported_at_once(rl: list[str], tmp_path: Path) -> None:
    lines = told([*rl, "data.max_response_length=30000", f"{_ACTOR}.optim.lr=0"], tmp_path)
    for part in ("max_model_len: 16384", "ppo_max_token_len_per_gpu: 32768", "optim.lr: 0"):
        assert any(part in line for line, _ in lines), (part, lines)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("optim.lr=-1e-5", "optim.lr: -1e-05"),
        ("optim.lr_scheduler_type=linear", "assert self.lr_scheduler_type in"),
        ("data.max_token_len_per_gpu=8192", "a row may have 16384"),
    ],
)
def test_a_mistake_in_sft_is_reported(tmp_path: Path, override: str, found: str) -> None:
    made = f"data.train_files={tmp_path}/made/sft.parquet"
    argv = ["torchrun", "-m", "verl.trainer.sft_trainer", "--config-name=qwen3vl_sft", "model.path=Q/Q", made]
    assert told(argv, tmp_path) == []
    assert any(found in line for line, _ in told([*argv, override], tmp_path))


def test_training_files_are_looked_into(rl: list[str], tmp_path: Path) -> None:
    whole, short, columns = (tmp_path / f"{name}.parquet" for name in ("rl", "short", "columns"))
    short.write_bytes(whole.read_bytes()[:-10])
    pq.write_table(pa.table({"question": ["a"]}), columns)
    for file, found in ((short, "not a whole parquet file"), (columns, "no column 'prompt', 'data_source'")):
        assert any(found in line for line, _ in told([*rl, f"data.train_files={file}"], tmp_path))


def test_a_command_that_is_no_training_has_its_program_looked_up(tmp_path: Path) -> None:
    assert told(["env", "A=1", "bash", "-c", "true"], tmp_path) == []
    assert told(["no-such-program"], tmp_path)[0][0] == "command: no-such-program is not found"


def test_names_and_overrides_are_read_as_verl_reads_them() -> None:
    command = parse(["torchrun", "-m", "verl.trainer.sft_trainer", "optim.lr=1", "--config-name", "tiny_sft"])
    assert command is not None
    assert (command.kind, command.config_name, command.overrides) == ("sft", "tiny_sft", ("optim.lr=1",))
    assert parse(["verl-axpo", "eval", "run"]) is None


def test_a_config_folder_of_ones_own_is_read_too(tmp_path: Path) -> None:
    """verl's own tool example starts in this way."""
    own = {"hydra": {"searchpath": ["pkg://verl.trainer.config"]}, "defaults": ["ppo_trainer", "_self_"]}
    (tmp_path / "mine.yaml").write_text(json.dumps(own | {"data": {"train_batch_size": 12}}))
    command = parse(["python", "-m", "verl.trainer.main_ppo", f"--config-path={tmp_path}", "--config-name=mine"])
    assert command is not None
    assert compose(command).data.train_batch_size == 12


def test_ranks_that_share_a_row_share_its_tokens(rl: list[str], tmp_path: Path) -> None:
    actor = "actor_rollout_ref.actor"
    argv = [*rl, f"{actor}.ulysses_sequence_parallel_size=4", f"{actor}.ppo_max_token_len_per_gpu="]
    assert not any("never split" in line for line, _ in told([*argv[:-1], argv[-1] + "4096"], tmp_path))
    assert any("4095 tokens on each of 4 ranks" in line for line, _ in told([*argv[:-1], argv[-1] + "4095"], tmp_path))
    own, ref = "fsdp_config.ulysses_sequence_parallel_size=4", "actor_rollout_ref.ref"
    argv = [*rl, f"{actor}.{own}", f"{ref}.log_prob_max_token_len_per_gpu=4096"]
    assert any(
        f"{ref}.log_prob_max_token_len_per_gpu: 4096 tokens on each of 1 " in line for line, _ in told(argv, tmp_path)
    )
    assert not any("never split" in line for line, _ in told([*argv, f"{ref}.{own}"], tmp_path))


def test_only_gpus_that_the_run_may_use_are_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for nvidia-smi that lists what it is asked for."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor word; do case $word in --id=*) echo 81920, 5; esac; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert len(read_gpus()) == 1
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert read_gpus() == []


def test_gpus_that_are_missing_or_in_use_are_reported() -> None:
    assert [finding.ok for finding in check_gpus(8, [(79.0, 0.1)] * 8)] == [True]
    assert "1 here, 8 wanted" in next(check_gpus(8, [(79.0, 0.1)])).found
    assert "[1] are in use" in next(check_gpus(2, [(79.0, 0.1), (79.0, 30.0)])).found


def test_the_command_line_prints_the_command_and_exits_with_1(
    rl: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["verl-axpo", "check", "--no-machine", "--", *rl, "data.train_batch_size=50"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.FINDING
    printed = capsys.readouterr().out
    assert printed.startswith("python -m verl.trainer.main_ppo --config-name qwen3vl_rl")
    assert "ppo_mini_batch_size to 1 to 50" in printed


@pytest.mark.parametrize("kind", ["rl", "sft"])
def test_a_model_whose_calls_nobody_could_read_is_reported(tmp_path: Path, kind: str) -> None:
    """An unknown call syntax is a problem before anything starts; a known one is named."""
    from examples.tiny_world.__main__ import make_tokenizer

    tokenizer = make_tokenizer(0)
    tokenizer.save_pretrained(tmp_path / "good")
    tokenizer.chat_template = tokenizer.chat_template.replace("tool_call>", "call>")
    tokenizer.save_pretrained(tmp_path / "bad")
    program, config, key = {
        "rl": ("verl.trainer.main_ppo", "tiny_rl", "actor_rollout_ref.model.path"),
        "sft": ("verl.trainer.sft_trainer", "tiny_sft", "model.path"),
    }[kind]
    command = ["python", "-m", program, "--config-name", config]
    said = {
        name: [str(finding) for finding in check([*command, f"{key}={tmp_path / name}"], machine=False)]
        for name in ("good", "bad")
    }
    assert any("call syntax hermes; the prompt opens thinking" in line for line in said["good"])
    assert any("in a syntax that is none of ['glm', 'hermes', 'qwen3_coder']" in line for line in said["bad"])
    assert not any("in a syntax that is none of" in line for line in said["good"])
