"""Plans of the real recipes, made by bash; checked in this process, where Hydra and verl are imported once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from verl_axpo.preflight.check import Report, check_plan
from verl_axpo.preflight.recipes import plan_of
from verl_axpo.preflight.stages import TRAINERS

RECIPES = Path(__file__).parents[3] / "recipes"

Check = Callable[..., list[Report]]
Checkpoints = Callable[..., tuple[str, ...]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """`check(name, *overrides, starting=False, VARIABLE=value)`: a recipe's reports, its output below tmp_path."""

    def run(name: str, *overrides: str, starting: bool = False, **variables: str) -> list[Report]:
        environment = {"OUT": str(tmp_path / "out"), "DATA": str(tmp_path / "data")} | variables
        return check_plan(plan_of(RECIPES / f"{name}.sh", overrides, environment), starting=starting)

    return run


def checkpoint(folder: Path, ranks: int = 2) -> Path:
    """What verl's FSDP checkpoint manager leaves of `ranks` processes, with next to nothing in it."""
    folder.mkdir(parents=True)
    (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": ranks}))
    for rank in range(ranks):
        for part in ("model", "optim", "extra_state"):
            torch.save({"weight": torch.zeros(1)}, folder / f"{part}_world_size_{ranks}_rank_{rank}.pt")
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """`checkpoints(kind, *steps, latest=STEP, keep="2")`: below tmp_path/steps; the training's command line."""

    def make(kind: str, *steps: int, latest: int | None = None, keep: str = "2") -> tuple[str, ...]:
        root = tmp_path / "steps"
        for step in steps:
            checkpoint(root / f"global_step_{step}" / ("actor" if kind == "rl" else "."))
        if latest is not None:
            (root / "latest_checkpointed_iteration.txt").write_text(str(latest))
        trainer, limit = TRAINERS[kind], {"rl": "max_actor_ckpt_to_keep", "sft": "max_ckpt_to_keep"}[kind]
        return ("python", "-m", trainer, f"trainer.default_local_dir={root}", f"trainer.{limit}={keep}")

    return make
