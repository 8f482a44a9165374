"""The commands that a recipe would run, as bash makes them: `verl-axpo` is a stand-in that prints what it is given."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[3] / "recipes"
STAND_IN = """#!/usr/bin/env bash
while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
shift
printf '%q ' "$@"
echo
"""

Commands = Callable[..., list[list[str]]]


def shell(script: str, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a recipe with DRY_RUN=1 and the stand-in; its output goes to `folder`."""
    stand_in = folder / "bin/verl-axpo"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    places = {"OUT": str(folder / "out"), "DATA": str(folder / "data")}
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "DRY_RUN": "1", "SETUP": "0", **places, **variables}
    command = ["bash", str(RECIPES / f"{script}.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """`commands(script, *arguments, VARIABLE=value)`: the command lines of a recipe, in order."""

    def run(script: str, *arguments: str, **variables: str) -> list[list[str]]:
        done = shell(script, tmp_path, *arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return [shlex.split(line) for line in done.stdout.splitlines()]

    return run
