"""The plan file's lines, and what the shell does with stages: marks, resuming, failing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.recipes.conftest import RECIPES, checkpoint
from verl_axpo.preflight.stages import read_plan


def plan(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "plan"
    path.write_text(f"\n{line}\n")
    return path


def test_a_line_is_a_stage(tmp_path: Path) -> None:
    line = (
        "name=rl kind=rl needs=a\\ b needs=c makes=d rows=7 gpu_gib=79 env= env=KEY server=http://x/v1 -- "
        "python -m verl.trainer.main_ppo --config-name axpo_trainer data.seed=0 +x=\\'\\{a:1\\}\\'"
    )
    (stage,) = read_plan(plan(tmp_path, line))
    assert (stage.name, stage.kind, stage.needs, stage.makes) == ("rl", "rl", ("a b", "c"), ("d",))
    assert (stage.rows, stage.gpu_gib, stage.env, stage.servers) == (7, 79.0, ("KEY",), ("http://x/v1",))
    assert stage.config_name == "axpo_trainer"
    assert stage.overrides == ("data.seed=0", "+x='{a:1}'")


def test_the_trainers_own_config_is_the_default(tmp_path: Path) -> None:
    (stage,) = read_plan(plan(tmp_path, "name=s kind=sft -- torchrun -m verl.trainer.sft_trainer optim.lr=1"))
    assert (stage.config_name, stage.overrides) == ("sft_trainer_engine", ("optim.lr=1",))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name=a python", "expected KEY=VALUE words, then -- and a command"),
        ("name=a colour=red -- true", "got 'colour=red', expected KEY=VALUE with a key of"),
        ("name=a kind=ppo -- true", r"got kind=ppo, expected one of \['command', 'sft', 'rl'\]"),
        ("name=a kind=rl -- true", "a stage of kind=rl runs verl.trainer.main_ppo, which is not in its command"),
    ],
)
def test_a_line_that_is_no_stage_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"plan:2: .*{message}"):
        read_plan(plan(tmp_path, line))


STAGES = """
set -euo pipefail
source {recipes}/common.sh
stages() {{
  stage name=first makes="$OUT/first" -- bash -c 'echo ran >>"$1"' first "$OUT/first"
  stage name=second makes="$OUT/second" needs="$OUT/first" -- bash -c 'cat "$1" {ending}' second "$OUT/first"
}}
run_recipe stages
"""


def recipe(tmp_path: Path, ending: str = "") -> subprocess.CompletedProcess[str]:
    return run(tmp_path, STAGES.format(recipes=RECIPES, ending=ending))


def run(tmp_path: Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "recipe.sh"
    script.write_text(text)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    out = str(tmp_path / "out")
    environment = {**os.environ, "PATH": path, "SETUP": "0", "PREFLIGHT": "0", "MODEL": "tiny", "OUT": out}
    environment |= variables
    return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, timeout=300)


def test_a_stage_runs_once_and_a_failed_one_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert recipe(tmp_path, "&& exit 3").returncode == 3
    assert sorted(path.name for path in (out / "marks").iterdir()) == ["first"]
    assert (out / "logs/second.log").read_text() == "ran\n"
    again = recipe(tmp_path)
    assert again.returncode == 0
    assert "first: done" in again.stderr
    assert (out / "first").read_text() == "ran\n"  # once
    assert sorted(path.name for path in (out / "marks").iterdir()) == ["first", "second"]
    changed = recipe(tmp_path, "&& true")
    assert "second: done, with another command line than today's; remove" in changed.stderr


CHAIN = """
set -euo pipefail
source {recipes}/common.sh
stages() {{
  stage name=train kind=rl after="$OUT/start" makes="$OUT/run" -- \\
    bash -c 'mkdir -p "$1" && date >"$1/$2"' t "$OUT/run" {step}
  stage name=export after="$OUT/run" makes="$OUT/model" -- bash -c 'rm -rf "$1" && mkdir "$1"' e "$OUT/model"
  stage name=evaluate needs="$OUT/model" makes="$OUT/table" -- bash -c 'echo >>"$1"' e "$OUT/table"
}}
run_recipe stages
"""


def chain(tmp_path: Path, step: str = "1", **variables: str) -> subprocess.CompletedProcess[str]:
    return run(tmp_path, CHAIN.format(recipes=RECIPES, step=step), **variables)


def age(path: Path, seconds: float) -> None:
    """As if it had been written so long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def older(out: Path) -> None:
    """An hour passes: all of it is a little older, in the order that it was made in."""
    for path in (*out.iterdir(), *(out / "marks").iterdir()):
        age(path, 3600)


def test_what_is_behind_a_stage_that_made_something_new_runs_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert chain(tmp_path).returncode == 0
    assert "evaluate: done" in chain(tmp_path).stderr
    assert (out / "table").read_text() == "\n"
    older(out)
    (out / "marks/train").unlink()  # train further
    again = chain(tmp_path, "2")
    assert again.returncode == 0, again.stderr
    assert f"evaluate: again, {out}/model is newer" in again.stderr
    assert (out / "table").read_text() == "\n\n"


def test_a_plan_checks_what_an_earlier_stage_will_make_anew(tmp_path: Path) -> None:
    """Its keys, servers and disk are wanted today, although nothing is newer yet."""
    for redo, left in ((False, []), (True, ["train", "export", "evaluate"])):
        chain(tmp_path)
        if redo:
            (tmp_path / "out/marks/train").unlink()
        planned = chain(tmp_path, PLAN_FILE=str(tmp_path / "plan"))
        assert planned.returncode == 0, planned.stderr
        # the shell's stand-in for a training is none of verl's, which the reader would refuse
        stages = [line.split() for line in (tmp_path / "plan").read_text().splitlines()]
        assert [words[0].removeprefix("name=") for words in stages if "done=1" not in words] == left


def test_killed_before_what_is_behind_it_still_runs_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    chain(tmp_path)
    older(out)
    (out / "run/2").touch()  # trained further, and killed before the export
    again = chain(tmp_path)
    assert "train: done" in again.stderr
    assert f"export: again, {out}/run is newer" in again.stderr
    assert f"evaluate: again, {out}/model is newer" in again.stderr


def test_a_stage_that_ran_again_and_changed_nothing_costs_nothing_behind_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    chain(tmp_path)
    older(out)
    (out / "marks/train").unlink()
    again = chain(tmp_path)  # writes into the file that it wrote before: nothing came or went in its folder
    assert "export: done" in again.stderr
    assert (out / "table").read_text() == "\n"


def test_a_training_is_neither_lost_nor_taken_over_when_its_start_changes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "start").touch()
    age(out / "start", 60)
    chain(tmp_path)
    older(out)
    (out / "start").touch()
    for mark in (True, False):  # finished, or under way
        if not mark:
            (out / "marks/train").unlink()
        refused = chain(tmp_path)
        assert refused.returncode == 2
        assert f"train: {out}/start is newer than the training in {out}/run" in refused.stderr
        assert f"to keep that training: touch {out}/marks/train.started" in refused.stderr
    (out / "marks/train.started").touch()  # kept
    assert chain(tmp_path, "2").returncode == 0
    assert (out / "run/1").exists()
    older(out)
    (out / "start").touch()
    (out / "run").rename(out / "run.old")  # anew
    (out / "marks/train").unlink()
    (out / "marks/train.started").unlink()
    assert chain(tmp_path, "3").returncode == 0
    assert [path.name for path in (out / "run").iterdir()] == ["3"]
    assert (out / "run.old/1").exists()


TRAINING = """
set -euo pipefail
source {recipes}/common.sh
stages() {{
  stage name=axpo kind=rl makes="$OUT/run" -- bash -c 'mkdir -p "$0" && ls "$0" >"$0/../seen"' \\
    "$OUT/run/checkpoints" verl.trainer.main_ppo trainer.default_local_dir="$OUT/run/checkpoints" \\
    trainer.max_actor_ckpt_to_keep=2
}}
run_recipe stages
"""


def test_a_training_that_starts_again_finds_no_checkpoints_that_verl_has_forgotten(tmp_path: Path) -> None:
    text, out = TRAINING.format(recipes=RECIPES), tmp_path / "out"
    assert run(tmp_path, text).returncode == 0
    assert (out / "run/seen").read_text() == ""
    for step in (10, 20):
        checkpoint(out / f"run/checkpoints/global_step_{step}/actor")
    (out / "run/checkpoints/latest_checkpointed_iteration.txt").write_text("20")
    (out / "marks/axpo").unlink()  # killed, or to go on further
    done = run(tmp_path, text)
    assert (out / "run/seen").read_text() == "global_step_20\nlatest_checkpointed_iteration.txt\n"
    assert "removed what earlier starts left" in done.stderr
    assert "axpo: done" in run(tmp_path, text).stderr


def written(*command: str) -> str:
    script = f'source {RECIPES}/parts/stages.sh; written "$@"'
    done = subprocess.run(["bash", "-c", script, "_", *command], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_mark_keeps_what_decides_about_the_result() -> None:
    served = ("env", "GPUS=8", "TP=2", "LENGTH=65536", "LOG=/out/8b/log", "bash", "recipes/serve.sh", "32b", "--")
    run = ("verl-axpo", "eval", "run", "--model", "32b")
    here = written(*served, *run, "--base-url", "http://127.0.0.1:8000/v1", "--rollouts", "4")
    assert here == "verl-axpo eval run --model 32b --rollouts 4 "
    assert here == written(*run, "--base-url", "http://teacher:9/v1", "--rollouts", "4")
    assert here != written(*run, "--base-url", "http://teacher:9/v1", "--rollouts", "8")
    assert written("train", "+x.VERL_FILE_LOGGER_PATH=/now", "lr=1", "trainer.logger=[file]") == "train lr=1 "


def export(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(RECIPES / "export.sh"), *words], capture_output=True, text=True, timeout=60)


def test_export_takes_the_newest_step(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        folder = tmp_path / f"steps/global_step_{step}/huggingface"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(str(step))
    target = tmp_path / "checkpoint"
    for _ in range(2):  # again, over what is there
        assert export(str(tmp_path / "steps"), "huggingface", str(target)).returncode == 0
        assert (target / "config.json").read_text() == "10"


def test_export_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "global_step_1").mkdir()
    done = export(str(tmp_path), "huggingface", str(tmp_path / "checkpoint"))
    assert done.returncode == 1
    assert "keep hf_model in the run's checkpoint save_contents" in done.stderr
    assert not (tmp_path / "checkpoint").exists()
