"""Every recipe as it is shipped: planned by bash, composed and validated, with the paper's values in it."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from omegaconf import OmegaConf

from tests.unit.recipes.conftest import RECIPES, Check
from verl_axpo import cli
from verl_axpo.preflight import recipes as preflight_recipes
from verl_axpo.preflight.check import Report
from verl_axpo.preflight.recipes import find_recipe, plan_of
from verl_axpo.preflight.stages import Stage

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


@pytest.mark.parametrize("words", [*ALL, "make_data", "make_data rl", "evaluate Qwen/Qwen3-VL-8B-Thinking base"])
def test_a_dry_run_accepts_every_recipe_before_anything_is_there(words: str, tmp_path: Path) -> None:
    done = dry_run(*words.split(), OUT=str(tmp_path / "out"), DATA=str(tmp_path / "data"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


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
    # 37,591 less 256 held out, // 256 steps; 256 x 8 rollouts; floor(0.25 x 2048 / 4) x 4 more; 8192 + 8192 tokens each
    assert (sizes.rows, sizes.counted, sizes.steps) == (37_335, False, 145)
    assert (sizes.rollouts_per_step, sizes.continuations_per_step) == (2048, 512)
    assert sizes.tokens_per_step == 2560 * 16_384
    # GiB: 4 bytes of reference model; 2 x 2560 rows of 1.5 images, 256 questions of one: 1953 tokens of 24,576 bytes
    terms = [round(term.gib, 1) for term in stage(reports, "axpo").host.terms]
    assert terms == [32.7, 343.3, 11.4]
    sft = stage(reports, "sft").sizes
    assert sft is not None
    assert (sft.rows, sft.steps, sft.tokens_per_step) == (64_146, 668, 96 * 16_384)  # 64,274 less 128, // 96


def test_the_whole_way_has_its_stages_in_order(check: Check) -> None:
    sources = ("virl39k", "fvqa", "pyvision", "mmfinereason")
    stages = [
        *(f"fetch_{one}" for one in sources),
        "benchmarks",
        *(f"ingest_{one}" for one in sources),
        *("dedup", "attempts_teacher", "collect_teacher", "sft_set", "sft", "sft_checkpoint"),
        *("attempts_sft_SIZE", "collect_sft_SIZE", "rl_set_SIZE"),
        *("axpo", "axpo_checkpoint", "axpo_report", "eval_axpo"),
    ]
    first = {
        "8b": [],
        "tiny": ["world", "hub", "teacher"],
    }  # a teacher and a hub are there already, but for the tiny one
    for size, made in first.items():
        names = [report.stage.name for report in check("run_qwen3vl8b_axpo", MODEL=size)]
        assert names == [*made, *(one.replace("SIZE", size) for one in stages)]


def test_several_nodes_are_one_variable_beside_rays_own(check: Check) -> None:
    reports = check("run_qwen3vl8b_axpo", RAY_ADDRESS="head:6379", NODES="4")
    setting = stage(reports, "axpo").setting
    assert setting is not None
    assert setting.gpus == 32
    overrides = [one for one in stage(reports, "axpo").stage.overrides if "VERL_FILE_LOGGER_PATH" in one]
    assert len(overrides) == 1  # the environment of this shell does not reach a cluster that runs already
    assert problems(reports) == []


def test_an_sft_model_that_is_there_is_not_made_again_and_keeps_its_rl_set(check: Check, tmp_path: Path) -> None:
    """Another seed, or an ablation: docs/reproduce.md, section 3."""
    known = tmp_path / "run 1/sft/checkpoint"
    known.mkdir(parents=True)
    names = [report.stage.name for report in check("run_qwen3vl8b_axpo", SFT_MODEL=str(known))]
    assert "sft" not in names
    assert names[-4:] == ["axpo", "axpo_checkpoint", "axpo_report", "eval_axpo"]
    mark = tmp_path / "data/marks/attempts_sft_8b"
    mark.parent.mkdir(parents=True)
    mark.write_text(f"verl-axpo eval run --model {str(known).replace(' ', chr(92) + ' ')} --rollouts 4 ")
    check("run_qwen3vl8b_axpo", SFT_MODEL=str(known))
    with pytest.raises(ValueError, match=r"rl_8b is that of another one(?s:.*)SFT_MODEL=that one"):
        check("run_qwen3vl8b_axpo")  # would make another SFT model, and write its RL set over that of the first


def test_the_tiny_teacher_is_made_with_its_own_settings(check: Check) -> None:
    teacher = stage(check("run_qwen3vl8b_axpo", MODEL="tiny", STEPS="4", LR="1e-4", BATCH="32"), "teacher").stage
    assert teacher.argv[:7] == ("env", "-u", "STEPS", "-u", "LR", "-u", "BATCH")


def test_a_stage_with_a_mark_is_done(check: Check, tmp_path: Path) -> None:
    (tmp_path / "out/marks").mkdir(parents=True)
    (tmp_path / "out/sft").mkdir()
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
    for words in ("2,048 + 512 rollouts", "37,335 (expected)", "rollout: vLLM (70% of 79 GiB)", "a checkpoint on disk"):
        assert words in done.stdout
    # all four: 352,000 attempts x 4 %; 145 steps x 2,560 x 9 %; 4,600 x 4 x 11 %
    for searches in ("about 14,080 paid", "about 33,408 paid", "about 2,024 paid", "at most SEARCH_CALLS=50,000"):
        assert searches in done.stdout
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


def test_a_script_that_would_run_is_not_asked_for_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"makes no plan for this command; try DRY_RUN=1 bash .*run_tiny_axpo\.sh"):
        find_recipe(str(RECIPES / "run_tiny_axpo.sh"))
    slow, started = tmp_path / "slow.sh", tmp_path / "pid"
    slow.write_text(f"sleep 600 & echo $! >{started}; wait # run_recipe \n")
    monkeypatch.setattr(preflight_recipes, "PLAN_TIMEOUT_S", 2)
    with pytest.raises(ValueError, match="made no plan within 2 s, so it was stopped"):
        plan_of(find_recipe(str(slow)))
    while Path(f"/proc/{int(started.read_text())}").exists():  # what it had started ends as well
        time.sleep(0.05)


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
    assert kwargs.judge == {"base_url": "https://host:8001/v1", "model": "gpt-5-mini", "temperature": 0}
    assert axpo.stage.servers == ("https://host:8001/v1",)
    assert axpo.stage.env == ("TAVILY_API_KEY", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"JUDGE_MODEL": "m"}, r"got JUDGE_MODEL=m without JUDGE_URL(?s:.*)add JUDGE_URL="),
        ({"JUDGE_URL": "http://host/v1"}, r"got JUDGE_URL=http://host/v1 without JUDGE_MODEL(?s:.*)add JUDGE_MODEL"),
    ],
)
def test_half_a_judge_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(RECIPES / "run_qwen3vl2b_axpo.sh", environment=given)


def plan(name: str, tmp_path: Path, *arguments: str, **variables: str) -> dict[str, Stage]:
    """A recipe's stages by name, nothing composed."""
    environment = {"OUT": str(tmp_path / "out"), "DATA": str(tmp_path / "data")} | variables
    return {one.name: one for one in plan_of(RECIPES / f"{name}.sh", arguments, environment)}


def behind(stage: Stage, option: str) -> list[str]:
    """The values of an option that may be repeated."""
    return [value for word, value in itertools.pairwise(stage.argv) if word == option]


@pytest.mark.parametrize(("model", "length"), [("8b", 16_384), ("tiny", 512)])
def test_sft_has_room_for_what_the_teachers_server_counted(model: str, length: int, tmp_path: Path) -> None:
    stages = plan("run_qwen3vl8b_axpo", tmp_path, MODEL=model)
    assert f"data.max_length={length}" in stages["sft"].overrides
    assert behind(stages["sft_set"], "--max-tokens") == [str(length - 64)]


def test_without_the_search_no_stage_offers_it_or_asks_for_its_key(tmp_path: Path) -> None:
    stages = plan("run_qwen3vl8b_axpo", tmp_path, SEARCH_KEY="")
    for name in ("attempts_teacher", "attempts_sft_8b", "eval_axpo"):
        assert behind(stages[name], "--tools") == ["no_search"]
    for name in ("sft_set", "rl_set_8b"):
        assert behind(stages[name], "--tool") == ["python", "image_zoom_in"]
    key = "actor_rollout_ref.rollout.multi_turn.tool_config_path="
    assert f"{key}${{verl_axpo:tools/config/no_search.yaml}}" in stages["axpo"].argv
    assert not any(one.env or one.search_calls for one in stages.values())


def test_with_the_search_all_stages_offer_it(tmp_path: Path) -> None:
    stages = plan("run_qwen3vl8b_axpo", tmp_path)
    assert behind(stages["eval_axpo"], "--tools") == ["paper"]
    assert behind(stages["rl_set_8b"], "--tool") == ["python", "image_zoom_in", "tavily-search"]


def test_tools_of_ones_own_have_their_own_budget(tmp_path: Path) -> None:
    stages = plan("run_qwen3vl8b_axpo", tmp_path, TOOLS="/my/tools.yaml", OFFERED="python lookup")
    assert behind(stages["sft_set"], "--tool") == ["python", "lookup"]
    assert not any(one.search_calls for one in stages.values())


def test_a_cluster_that_runs_already_is_told_the_search_budget(tmp_path: Path) -> None:
    argv = plan("run_qwen3vl8b_axpo", tmp_path, RAY_ADDRESS="head:6379", SEARCH_CALLS="70000")["axpo"].argv
    variables = "+ray_kwargs.ray_init.runtime_env.env_vars"
    assert f"{variables}.SEARCH_CALLS='70000'" in argv  # quoted: Ray takes words only
    assert f"{variables}.SEARCH_RUN={tmp_path}/out/marks/axpo" in argv


def test_every_size_writes_and_reads_its_own_rl_set(tmp_path: Path) -> None:
    for size in ("2b", "4b"):
        stages = plan("run_qwen3vl8b_axpo", tmp_path, MODEL=size)
        assert behind(stages[f"rl_set_{size}"], "--out") == [f"{tmp_path}/data/rl_{size}"]
        assert f"data.train_files={tmp_path}/data/rl_{size}/train.parquet" in stages["axpo"].argv


def test_paths_with_spaces_stay_one_word(tmp_path: Path) -> None:
    model = tmp_path / "my model"
    model.mkdir()
    stages = plan("evaluate", tmp_path, str(model), "mine", OUT=str(tmp_path / "my runs"))
    argv = stages["eval_mine"].argv
    assert f"LOG={tmp_path}/my runs/logs/server.log" in argv
    assert argv[argv.index("recipes/serve.sh") + 1 : argv.index("recipes/serve.sh") + 3] == (str(model), "--")


def test_server_and_evaluation_agree_about_the_port_and_the_window(tmp_path: Path) -> None:
    argv = plan("evaluate", tmp_path, "some/model", "mine", PORT="8123")["eval_mine"].argv
    assert argv[argv.index("--base-url") + 1] == "http://127.0.0.1:8123/v1"
    # 32,768 of response behind an image of 16,384 do not fit into 49,152 with any words beside them
    assert "LENGTH=65536" in argv


def test_the_tiny_recipe_can_be_checked_without_starting_it(tmp_path: Path) -> None:
    done = dry_run("run_tiny_axpo", OUT=str(tmp_path / "out"), COMPARE="grpo,axpo")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("world", "sft", "rl_grpo", "eval_grpo", "rl_axpo: config: composed by Hydra"):
        assert name in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert dry_run("run_tiny_axpo", OUT=str(tmp_path / "out"), COMPARE="grpo,apxo").returncode == 2
    wrong = dry_run("run_tiny_axpo", "algorithm.axpo.bugdet=1", OUT=str(tmp_path / "out"))
    assert wrong.returncode == 1
    assert "did you mean algorithm.axpo.budget" in wrong.stdout
    assert list(tmp_path.iterdir()) == []
