"""Every recipe as it is shipped: planned by bash, composed and validated, with the paper's values in it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from omegaconf import OmegaConf

from tests.unit.recipes.conftest import RECIPES, Check
from verl_axpo import cli
from verl_axpo.preflight.check import Report
from verl_axpo.preflight.recipes import find_recipe, plan_of

SIZES = ("2b", "4b", "8b")
KINDS = ("sft", "grpo", "axpo")
ALL = [f"run_qwen3vl{size}_{kind}" for size in SIZES for kind in KINDS]
PAPER = {
    "data.train_batch_size": 256,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns": 3,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.4,
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "algorithm.axpo.num_continuations": 4,
}
FAST = {
    "actor_rollout_ref.model.use_remove_padding": True,
    "actor_rollout_ref.model.override_config.attn_implementation": "flash_attention_2",
    "actor_rollout_ref.actor.use_dynamic_bsz": True,
    "actor_rollout_ref.rollout.free_cache_engine": True,
    "actor_rollout_ref.rollout.enable_prefix_caching": True,
}


def problems(reports: list[Report]) -> list[str]:
    return [
        f"{report.stage.name}: {one.name}: {one.found}" for report in reports for one in report.findings if not one.ok
    ]


def stage(reports: list[Report], name: str) -> Report:
    return next(report for report in reports if report.stage.name == name)


@pytest.mark.parametrize("name", [*ALL, "make_data", "make_data rl", "evaluate Qwen/Qwen3-VL-8B-Thinking base"])
def test_a_recipe_is_accepted_before_anything_is_there(check: Check, name: str) -> None:
    assert problems(check(*name.split())) == []


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_is_accepted_at_tiny_size(check: Check, name: str) -> None:
    assert problems(check(name, MODEL="tiny")) == []


@pytest.mark.parametrize("name", [f"run_qwen3vl{size}_{kind}" for size in ("2b", "4b") for kind in KINDS])
def test_the_small_models_fit_on_one_gpu(check: Check, name: str) -> None:
    reports = check(name, GPUS="1")
    assert problems(reports) == []
    assert next(report.setting for report in reports if report.setting).gpus == 1


def test_settings_are_the_papers_and_differ_between_the_arms_in_the_budget_only(check: Check) -> None:
    configs = {}
    for arm, budget in (("axpo", 0.25), ("grpo", 0)):
        config = stage(check("run_qwen3vl4b_" + arm), arm).config
        assert config is not None
        expected = PAPER | FAST | {"algorithm.axpo.budget": budget}
        assert {key: OmegaConf.select(config, key) for key in expected} == expected
        container = OmegaConf.to_container(config, resolve=True)
        assert isinstance(container, dict)
        container["algorithm"]["axpo"].pop("budget")  # type: ignore[index]
        configs[arm] = str(container).replace(f"/{arm}", "/ARM").replace(f"{arm}_4b", "ARM_4b")
    assert configs["axpo"] == configs["grpo"]


@pytest.mark.parametrize("size", ["8b", "tiny"])
def test_our_own_commands_exist_with_the_options_that_the_recipes_give(check: Check, size: str) -> None:
    """Parsed, not run: a recipe must not find out after a week that an option has another name."""
    group: Any = typer.main.get_command(cli.app)
    parsed = []
    for report in check("run_qwen3vl8b_axpo", MODEL=size, JUDGE_MODEL="m", JUDGE_URL="http://host/v1"):
        argv = list(report.stage.argv)
        if "verl-axpo" not in argv:
            continue
        area, name, *options = argv[argv.index("verl-axpo") + 1 :]
        group.commands[area].commands[name].make_context(name, options)
        parsed.append(f"{area} {name}")
    assert {"data ingest", "data dedup", "data collect", "data sft", "data filter", "eval run"} <= set(parsed)


def test_figures_of_the_8b_plan_by_hand(check: Check) -> None:
    reports = check("run_qwen3vl8b_axpo")
    sizes = stage(reports, "axpo").sizes
    assert sizes is not None
    # 37,591 // 256 steps; 256 x 8 rollouts; floor(0.25 x 2048 / 4) x 4 more; 8192 + 8192 tokens each
    assert (sizes.rows, sizes.counted, sizes.steps) == (37_591, False, 146)
    assert (sizes.rollouts_per_step, sizes.continuations_per_step) == (2048, 512)
    assert sizes.tokens_per_step == 2560 * 16_384
    sft = stage(reports, "sft").sizes
    assert sft is not None
    assert (sft.rows, sft.steps, sft.tokens_per_step) == (64_274, 669, 96 * 16_384)  # 64,274 // 96


def test_the_whole_way_has_its_stages_in_order(check: Check) -> None:
    trained = [
        *("dedup", "attempts_teacher", "collect_teacher", "sft_set", "sft", "sft_checkpoint"),
        *("attempts_sft_SIZE", "collect_sft_SIZE", "rl_set_SIZE", "rl_copy_SIZE"),
        *("axpo", "axpo_checkpoint", "axpo_report", "eval_axpo"),
    ]
    sources = ("virl39k", "fvqa", "pyvision", "mmfinereason")
    first = {
        "8b": [*(f"fetch_{one}" for one in sources), "benchmarks", *(f"ingest_{one}" for one in sources)],
        "tiny": ["world", "teacher", "ingest_tiny"],
    }
    for size, made in first.items():
        names = [report.stage.name for report in check("run_qwen3vl8b_axpo", MODEL=size)]
        assert names == [*made, *(one.replace("SIZE", size) for one in trained)]


def test_several_nodes_are_one_variable_beside_rays_own(check: Check) -> None:
    reports = check("run_qwen3vl8b_axpo", RAY_ADDRESS="head:6379", NODES="4")
    setting = stage(reports, "axpo").setting
    assert setting is not None
    assert setting.gpus == 32
    overrides = [one for one in stage(reports, "axpo").stage.overrides if "VERL_FILE_LOGGER_PATH" in one]
    assert len(overrides) == 1  # the environment of this shell does not reach a cluster that runs already
    assert problems(reports) == []


def test_a_stage_with_a_mark_is_done(check: Check, tmp_path: Path) -> None:
    (tmp_path / "out/marks").mkdir(parents=True)
    (tmp_path / "out/marks/sft").touch()
    reports = check("run_qwen3vl2b_sft", "no.such.key=1")
    assert {report.stage.name: report.stage.done for report in reports} == {"sft": True, "sft_checkpoint": False}
    assert problems(reports) == []  # what has run is not checked again


def dry_run(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SETUP": "0", "DRY_RUN": "1", **variables}
    command = ["bash", str(RECIPES / f"{name}.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_dry_run_from_the_shell_prints_the_plan(tmp_path: Path) -> None:
    done = dry_run("run_qwen3vl8b_axpo", OUT=str(tmp_path), DATA=str(tmp_path / "data"))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("2,048 + 512 rollouts", "37,591 (expected)", "rollout: vLLM (70% of 79 GiB)", "a checkpoint on disk"):
        assert words in done.stdout
    assert "fix" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_from_the_shell_fails_with_the_line_to_change(tmp_path: Path) -> None:
    done = dry_run("run_qwen3vl2b_grpo", "actor_rollout_ref.rollout.n=1", OUT=str(tmp_path))
    assert done.returncode == 1
    assert "set actor_rollout_ref.rollout.n=8" in done.stdout


def test_an_unknown_size_is_refused_by_the_shell() -> None:
    with pytest.raises(ValueError, match=r"MODEL: got '7b'(?s:.*)MODEL=2b, 4b, 8b or tiny"):
        plan_of(RECIPES / "run_qwen3vl8b_axpo.sh", environment={"MODEL": "7b"})


@pytest.mark.parametrize("name", ["run_qwen3vl8b_axpo", "qwen3vl8b_axpo", "run_qwen3vl8b_axpo.sh"])
def test_recipes_are_found_by_name(name: str) -> None:
    assert find_recipe(name).resolve() == RECIPES / "run_qwen3vl8b_axpo.sh"


def test_an_unknown_recipe_lists_those_that_are_there() -> None:
    with pytest.raises(ValueError, match=r"got 'qwen9'.*'make_data'.*'run_qwen3vl2b_axpo'"):
        find_recipe("qwen9")


def test_the_doctor_takes_a_recipes_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["verl-axpo", "doctor", "--recipe", "qwen9", "--no-ray"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.MISTAKE
    assert "recipe: got 'qwen9', expected one of" in capsys.readouterr().out


def test_a_judge_is_asked_for_by_two_variables(check: Check) -> None:
    reports = check("run_qwen3vl2b_axpo", JUDGE_URL="https://host:8001/v1", JUDGE_MODEL="gpt-5-mini")
    axpo = stage(reports, "axpo")
    assert problems(reports) == []
    kwargs = OmegaConf.select(axpo.config, "reward.custom_reward_function.reward_kwargs")
    assert kwargs.judge == {"base_url": "https://host:8001/v1", "model": "gpt-5-mini"}
    assert axpo.stage.servers == ("https://host:8001/v1",)
    assert axpo.stage.env == ("TAVILY_API_KEY", "OPENAI_API_KEY")
