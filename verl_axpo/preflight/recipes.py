"""Recipes by name: NAME -> recipes/NAME.sh -> its plan, without running any of it. For `verl-axpo doctor --recipe`."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from verl_axpo.preflight.stages import Stage, read_plan

PLACES = (Path("recipes"), Path(__file__).parents[2] / "recipes")  # where one stands, then this checkout
PLAN_TIMEOUT_S = 60


def find_recipe(name: str) -> Path:
    """The script of a recipe, by path or by name with or without `run_` and `.sh`.

    Raises:
        ValueError: there is none; the message lists those that are there.
    """
    if Path(name).is_file():
        return Path(name)
    known = {
        path.stem: path
        for place in reversed(PLACES)
        for path in place.glob("*.sh")
        if "run_recipe " in path.read_text()
    }
    for candidate in (name, f"run_{name}", name.removesuffix(".sh")):
        if candidate in known:
            return known[candidate]
    raise ValueError(f"recipe: got {name!r}, expected one of {sorted(known)}, or the path of a script")


def plan_of(script: Path, arguments: Sequence[str] = (), environment: dict[str, str] | None = None) -> list[Stage]:
    """The stages that a recipe would run with these arguments and variables.

    Raises:
        ValueError: the script failed; the message has what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        variables = os.environ | {"PATH": path, "SETUP": "0"} | (environment or {}) | {"PLAN_FILE": str(plan)}
        done = subprocess.run(
            ["bash", str(script), *arguments], env=variables, capture_output=True, text=True, timeout=PLAN_TIMEOUT_S
        )
        if done.returncode or not plan.exists():
            raise ValueError(f"{script} made no plan (exit status {done.returncode}):\n{done.stderr.strip()}")
        return read_plan(plan)
