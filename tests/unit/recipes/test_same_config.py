"""Old and new recipes compose to the same config, for every training stage and size; goes with the old recipes."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_axpo.check import Command, compose, parse
from verl_axpo.preflight.stages import read_plan

RECIPES = Path(__file__).parents[3] / "recipes"
# What the old scripts set and the new ones leave to Hydra's default, or to the tiny world's own config
UNLIKE = re.compile(r"metrics_\d+")


def text_of(command: Command | None) -> str:
    assert command is not None
    return UNLIKE.sub("metrics", OmegaConf.to_yaml(compose(command), resolve=True, sort_keys=True))


def old(stage: str, model: str, gpus: str, tmp_path: Path) -> str:
    plan = tmp_path / "plan"
    environment = {
        "MODEL": model,
        "GPUS": gpus,
        "PLAN_FILE": str(plan),
        "BASE_MODEL": f"Qwen/Qwen3-VL-{model.upper()}-Thinking",
    }
    call("run_qwen3vl4b_" + stage, environment, tmp_path)
    (argv,) = (one.argv for one in read_plan(plan) if one.name == stage)
    return text_of(parse(argv))


def new(stage: str, model: str, gpus: str, tmp_path: Path) -> str:
    environment = {"MODEL": model, "GPUS": gpus, "ARM": stage}
    printed = call("sft" if stage == "sft" else "rl", environment, tmp_path)
    return text_of(parse(shlex.split(printed)))


def call(script: str, environment: dict[str, str], tmp_path: Path) -> str:
    stand_in = tmp_path / "verl-axpo"  # prints the command that it would check
    stand_in.write_text('#!/usr/bin/env bash\nwhile [ "$1" != -- ]; do shift; done\nshift\nprintf \'%q \' "$@"\n')
    stand_in.chmod(0o755)
    given = {"DRY_RUN": "1", "SETUP": "0", "OUT": "/out", "DATA": "/data", **environment}
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", str(RECIPES / f"{script}.sh")]
    done = subprocess.run(command, env={"PATH": path, **given}, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("gpus", ["1", "8"])
@pytest.mark.parametrize("model", ["2b", "4b", "8b"])
@pytest.mark.parametrize("stage", ["sft", "grpo"])  # AXPO differs from GRPO in its budget and folders
def test_old_and_new_compose_to_the_same_config(stage: str, model: str, gpus: str, tmp_path: Path) -> None:
    tools = "tool_config_path: .*"
    before, after = (re.sub(tools, "", how(stage, model, gpus, tmp_path)) for how in (old, new))
    assert after == before
