"""The recipes as they are shipped: which commands they run, with the paper's values, and that our own options exist."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from omegaconf import OmegaConf

from tests.unit.recipes.conftest import RECIPES, Commands, shell
from verl_axpo import cli
from verl_axpo.check import check, compose, parse

SIZES = ("2b", "4b", "8b")
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
    "algorithm.axpo.budget": 0.25,
}
LINES = 60  # of a script that is to be read at once


def config_of(argv: list[str]) -> Any:
    command = parse(argv)
    assert command is not None
    return compose(command)


def values(argv: list[str], option: str) -> list[str]:
    """Of an option that may be repeated."""
    return [value for word, value in itertools.pairwise(argv) if word == option]


def refused(argv: list[str], folder: Path) -> list[str]:
    """Every red line of a check for which earlier commands fill `out` and `data`."""
    findings = check(argv, [folder / "out", folder / "data"], machine=False)
    return [f"{finding.name}: {finding.found}" for finding in findings if not finding.ok]


def trainings(found: list[list[str]]) -> list[list[str]]:
    return [argv for argv in found if parse(argv) is not None]


@pytest.mark.parametrize("name", ["data", "sft", "rl", "eval", "run_qwen3vl8b_axpo", "run_tiny_axpo", "env"])
def test_a_script_can_be_read_at_once(name: str) -> None:
    assert len((RECIPES / f"{name}.sh").read_text().splitlines()) <= LINES


@pytest.mark.parametrize("size", [*SIZES, "tiny"])
def test_verl_and_our_rules_accept_every_training(commands: Commands, size: str, tmp_path: Path) -> None:
    found = commands(f"run_qwen3vl{'8b' if size == 'tiny' else size}_axpo", MODEL=size)
    assert [line for argv in trainings(found) for line in refused(argv, tmp_path)] == []


@pytest.mark.parametrize("size", ["2b", "4b"])
@pytest.mark.parametrize("script", ["sft", "rl"])
def test_one_gpu_has_settings_of_its_own(commands: Commands, size: str, script: str, tmp_path: Path) -> None:
    (argv,) = commands(script, MODEL=size, GPUS="1")
    config = config_of(argv)
    key = "engine.offload_policy" if script == "sft" else "actor_rollout_ref.actor.fsdp_config.offload_policy"
    assert OmegaConf.select(config, key) is (size != "2b")  # 2B fits on the GPU
    assert refused(argv, tmp_path) == []


@pytest.mark.parametrize("gpus", ["1", "2"])
@pytest.mark.parametrize(("script", "option"), [("sft", "lora_sft"), ("rl", "lora")])
def test_adapters_are_one_option(commands: Commands, script: str, option: str, gpus: str, tmp_path: Path) -> None:
    (argv,) = commands(script, f"+adapter={option}", MODEL="8b", GPUS=gpus)
    config = config_of(argv)
    actor = config if script == "sft" else config.actor_rollout_ref.actor
    model = config.model if script == "sft" else config.actor_rollout_ref.model
    assert (model.lora_rank, model.exclude_modules) == (32, ".*visual.*")
    assert (actor.engine if script == "sft" else actor.fsdp_config).offload_policy is False
    assert "hf_model" not in actor.checkpoint.save_contents  # verl's would mix base and adapter
    assert refused(argv, tmp_path) == []


def test_settings_are_the_papers(commands: Commands) -> None:
    (argv,) = commands("rl", MODEL="8b")
    config = config_of(argv)
    assert {key: OmegaConf.select(config, key) for key in PAPER} == PAPER


def test_the_arms_differ_in_budget_and_folders_only(commands: Commands) -> None:
    texts = {}
    for arm in ("axpo", "grpo"):
        (argv,) = commands("rl", MODEL="4b", ARM=arm)
        text = OmegaConf.to_yaml(config_of(argv), resolve=True)
        texts[arm] = re.sub(r"budget: [\d.]+", "budget", text).replace(f"/{arm}", "/ARM").replace(f"{arm}_4b", "ARM")
    assert texts["axpo"] == texts["grpo"]


@pytest.mark.parametrize("size", ["8b", "tiny"])
def test_our_own_commands_exist_with_the_options_that_the_recipes_give(commands: Commands, size: str) -> None:
    """The options are parsed and not run, so that a recipe does not fail after a week on a wrong name."""
    group: Any = typer.main.get_command(cli.app)
    parsed = []
    for argv in commands("run_qwen3vl8b_axpo", MODEL=size, JUDGE_MODEL="m", JUDGE_URL="http://host/v1"):
        if "verl-axpo" not in argv:
            continue
        area, name, *options = argv[argv.index("verl-axpo") + 1 :]
        group.commands[area].commands[name].make_context(name, options)
        parsed.append(f"{area} {name}")
    assert {"data fetch", "data benchmarks", "data ingest", "data dedup", "data collect"} <= set(parsed)
    assert {"data sft", "data filter", "eval run"} <= set(parsed)


def test_the_papers_run_goes_from_data_to_the_nine_benchmarks(commands: Commands) -> None:
    found = commands("run_qwen3vl8b_axpo", "trainer.save_freq=5")
    words = [" ".join(argv) for argv in found]
    order = ["data fetch virl39k", "data benchmarks", "data ingest virl39k", "data dedup", "/runs/teacher", "data sft"]
    order += ["verl.trainer.sft_trainer", "/runs/sft_8b", "data filter", "verl.trainer.main_ppo", "/eval/axpo"]
    places = [next(at for at, text in enumerate(words) if step in text) for step in order]
    assert places == sorted(places)
    assert [argv[-1] for argv in trainings(found)] != ["trainer.save_freq=5"] * 2  # an override is for RL alone
    assert trainings(found)[-1][-1] == "trainer.save_freq=5"


def test_every_size_writes_and_reads_its_own_rl_set(commands: Commands, tmp_path: Path) -> None:
    for size in ("2b", "4b"):
        found = commands("run_qwen3vl8b_axpo", MODEL=size)
        (chosen,) = (argv for argv in found if "filter" in argv)
        assert values(chosen, "--out") == [f"{tmp_path}/data/rl_{size}"]
        assert f"data.train_files={tmp_path}/data/rl_{size}/train.parquet" in trainings(found)[-1]


def test_files_of_the_user_s_own_are_overrides(commands: Commands) -> None:
    """The last value of a key counts, as it does for verl."""
    for script, key in (("sft", "data.train_files"), ("rl", "data.val_files")):
        (argv,) = commands(script, f"{key}=/mine.parquet")
        assert OmegaConf.select(config_of(argv), key) == "/mine.parquet"


def test_every_variable_is_in_the_table_of_the_readme() -> None:
    """And the table has no other; RUN and WORLD go from recipe to recipe only."""
    scripts = "".join(path.read_text() for path in RECIPES.glob("*.sh"))
    read = set(re.findall(r"\$\{([A-Z_]+):?[-=]", scripts)) - {"RUN", "WORLD", "OMP_WAIT_POLICY"}
    readme = (RECIPES / "README.md").read_text()
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    table = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}
    keys = {"WANDB_API_KEY", "RAY_ADDRESS"}
    assert read - keys <= table
    assert table <= read | {"SEARCH_CALLS"}
    assert keys <= set(re.findall(r"[A-Z_]+", readme))
    assert len(table) <= 22


def test_an_sft_model_that_is_there_is_not_made_again(commands: Commands) -> None:
    found = commands("run_qwen3vl8b_axpo", SFT_MODEL="/earlier/checkpoint")
    (training,) = trainings(found)
    assert "actor_rollout_ref.model.path=/earlier/checkpoint" in training


def test_a_cluster_that_runs_already_is_told_what_our_environment_says(commands: Commands, tmp_path: Path) -> None:
    (argv,) = commands("rl", "trainer.nnodes=4", RAY_ADDRESS="head:6379", SEARCH_CALLS="70000")
    variables = "+ray_kwargs.ray_init.runtime_env.env_vars"
    assert f"{variables}.SEARCH_CALLS='70000'" in argv  # quoted: Ray takes words only
    assert f"{variables}.SEARCH_RUN={tmp_path}/out/axpo" in argv
    assert any(word.startswith(f"{variables}.VERL_FILE_LOGGER_PATH=") for word in argv)


def test_a_judge_is_asked_for_by_two_variables_and_sent_no_temperature(commands: Commands) -> None:
    given = {"JUDGE_URL": "https://host:8001/v1", "JUDGE_MODEL": "gpt-5-mini"}
    (argv,) = commands("rl", **given)
    kwargs = OmegaConf.select(config_of(argv), "reward.custom_reward_function.reward_kwargs")
    assert kwargs.judge == {"base_url": "https://host:8001/v1", "model": "gpt-5-mini", "temperature": None}
    (argv,) = commands("eval", **given)
    assert values(argv, "--judge-model") == ["gpt-5-mini"]


def test_without_the_search_no_command_offers_it(commands: Commands) -> None:
    tools = str(RECIPES.parent / "verl_axpo/tools/config/no_search.yaml")
    found = commands("run_qwen3vl8b_axpo", TOOLS=tools)
    assert not any("tavily-search" in argv for argv in found)
    assert all(values(argv, "--tools") == [tools] for argv in found if "eval" in argv)


@pytest.mark.parametrize(("model", "length"), [("8b", 16_384), ("tiny", 512)])
def test_sft_has_room_for_what_the_teachers_server_counted(commands: Commands, model: str, length: int) -> None:
    found = commands("run_qwen3vl8b_axpo", MODEL=model)
    (chosen,) = (argv for argv in found if argv[:3] == ["verl-axpo", "data", "sft"])
    assert values(chosen, "--max-tokens") == [str(length - 64)]
    assert config_of(trainings(found)[-2]).data.max_length == length


def test_paths_with_spaces_stay_one_word(commands: Commands, tmp_path: Path) -> None:
    (argv,) = commands("eval", CHECKPOINT=f"{tmp_path}/my model", OUT=f"{tmp_path}/my runs")
    assert values(argv, "--model") == [f"{tmp_path}/my model"]
    assert values(argv, "--out") == [f"{tmp_path}/my runs/eval/my model"]


def test_the_tiny_recipe_goes_through_the_same_scripts(commands: Commands) -> None:
    found = commands("run_tiny_axpo", COMPARE="grpo,axpo", SEED="3")
    assert [parse(argv).config_name for argv in trainings(found)] == ["tiny_sft", "tiny_rl", "tiny_rl"]  # type: ignore[union-attr]
    assert [values(argv, "--seed") for argv in found if "eval" in argv] == [["3"], ["3"]]


@pytest.mark.parametrize(
    ("script", "given", "told"),
    [
        ("rl", {"MODEL": "7b"}, "MODEL=7b is unknown; use MODEL=2b, 4b, 8b or tiny"),
        ("rl", {"MODEL": "7b", "BASE_MODEL": ""}, "or name another model in BASE_MODEL"),
        ("rl", {"ARM": "ppo"}, "ARM=ppo is unknown; use ARM=axpo or ARM=grpo"),
        ("data", {}, "data.sh sft, or bash recipes/data.sh rl"),
        ("run_tiny_axpo", {"COMPARE": "grpo,apxo"}, "COMPARE=grpo,apxo: arms are grpo and axpo"),
    ],
)
def test_a_mistake_is_refused_by_the_shell(script: str, given: dict[str, str], told: str, tmp_path: Path) -> None:
    done = shell(script, tmp_path, **given)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-30B-A3B-Thinking", "Qwen/Qwen3-8B", "Qwen/Qwen3.5-9B"])
def test_any_family_goes_through_the_scripts(commands: Commands, name: str) -> None:
    """MoE and text-only models, too; what a template cannot do, the check of each command says."""
    (argv,) = commands("sft", MODEL="mine", BASE_MODEL=name)
    assert f"model.path={name}" in argv
    (argv,) = commands("rl", MODEL="mine", BASE_MODEL=name)
    assert "actor_rollout_ref.model.path=" in " ".join(argv)


def test_the_pretrained_example_is_the_recipes_with_other_sizes(commands: Commands, tmp_path: Path) -> None:
    found = commands("../examples/smollm2/run", "algorithm.axpo.num_continuations=2")
    words = [" ".join(argv) for argv in found]
    order = [
        "uv pip install",
        "-m examples.smollm2 ",
        "verl.trainer.sft_trainer",
        "axpo.budget=0 ",
        "axpo.budget=0.25 ",
    ]
    assert [next(at for at, text in enumerate(words) if step in text) for step in order] == list(range(len(order)))
    assert [line for argv in trainings(found) for line in refused(argv, tmp_path)] == []
    arms = [config_of(argv) for argv in trainings(found)[1:]]
    assert {arm.actor_rollout_ref.model.path for arm in arms} == {str(tmp_path / "out/sft/checkpoint")}  # one start
    assert {arm.algorithm.axpo.num_continuations for arm in arms} == {2}


@pytest.mark.parametrize("rows", ["docs/study/runs.jsonl", "docs/study/of_another_world/runs.jsonl"])
def test_the_study_starts_from_the_weights_next_to_its_rows(commands: Commands, rows: str, tmp_path: Path) -> None:
    found = commands("study", "0", "grpo,axpo", rows)
    modules = [argv[argv.index("-m") + 1] for argv in found if "-m" in argv]
    before = modules[: modules.index("verl.trainer.main_ppo")]
    assert before[0] == "examples.tiny_world"
    assert ("verl.trainer.sft_trainer" in before) is ("of_another_world" in rows)  # without such weights: SFT
    trainings = [argv for argv in found if "verl.trainer.main_ppo" in argv]
    assert len(trainings) == 2
    assert all(f"actor_rollout_ref.model.path={tmp_path}/out/sft/checkpoint" in argv for argv in trainings)
