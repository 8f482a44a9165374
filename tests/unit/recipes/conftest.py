"""Plans of the real recipes, made by bash; checked in this process, where Hydra and verl are imported once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from verl_axpo.preflight.check import Report, check_plan
from verl_axpo.preflight.recipes import plan_of

RECIPES = Path(__file__).parents[3] / "recipes"

Check = Callable[..., list[Report]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """`check(name, *overrides, starting=False, VARIABLE=value)`: a recipe's reports, its output below tmp_path."""

    def run(name: str, *overrides: str, starting: bool = False, **variables: str) -> list[Report]:
        environment = {"OUT": str(tmp_path / "out"), "DATA": str(tmp_path / "data")} | variables
        return check_plan(plan_of(RECIPES / f"{name}.sh", overrides, environment), starting=starting)

    return run
