"""Recipes by name: NAME -> recipes/NAME.sh -> its plan, without running any of it. For `verl-axpo doctor --recipe`."""

import os
import signal
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
        ValueError: there is none, with those that are there; or one that makes no plan, and would run.
    """
    if Path(name).is_file():
        if not _makes_a_plan(Path(name)):
            raise ValueError(f"recipe: {name} makes no plan for this command; try DRY_RUN=1 bash {name}")
        return Path(name)
    scripts = [path for place in reversed(PLACES) for path in (*place.glob("run_*.sh"), *place.glob("make_data.sh"))]
    known = {path.stem: path for path in scripts if _makes_a_plan(path)}
    for candidate in (name, f"run_{name}", name.removesuffix(".sh")):
        if candidate in known:
            return known[candidate]
    raise ValueError(f"recipe: got {name!r}, expected one of {sorted(known)}, or the path of a script")


def _makes_a_plan(script: Path) -> bool:
    return "run_recipe " in script.read_text()


def plan_of(script: Path, arguments: Sequence[str] = (), environment: dict[str, str] | None = None) -> list[Stage]:
    """The stages that a recipe would run with these arguments and variables.

    Raises:
        ValueError: the script failed, with what it said, or took more than a minute.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        variables = os.environ | {"PATH": path, "SETUP": "0"} | (environment or {}) | {"PLAN_FILE": str(plan)}
        process = subprocess.Popen(
            ["bash", str(script), *arguments],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # whatever it started ends with it
        )
        try:
            _, said = process.communicate(timeout=PLAN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise ValueError(f"{script} made no plan within {PLAN_TIMEOUT_S} s, so it was stopped") from None
        if process.returncode or not plan.exists():
            raise ValueError(f"{script} made no plan (exit status {process.returncode}):\n{said.strip()}")
        return read_plan(plan)
