"""`inspect_ai` in a process of its own, where its packages come before the pinned ones: recipes/setup_env.sh."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[3]
PACKAGES = Path(sys.prefix) / "inspect"
READ = """
import sys
from inspect_ai.log import read_eval_log
print(read_eval_log(sys.argv[1], resolve_attachments=True).model_dump_json())
"""
EXPORT = "from verl_axpo.cli import main; main()"


def python(code: str, *arguments: str | Path) -> str:
    """Run `code` with Inspect; its output."""
    if not PACKAGES.is_dir():
        pytest.skip(f"{PACKAGES} is not there: run bash recipes/setup_env.sh")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{PACKAGES}:{REPO}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(folder: Path, out: Path, *options: str) -> dict[str, Any]:
    """The log that `verl-axpo export FOLDER --to inspect` writes, as `inspect_ai.log.read_eval_log` reads it."""
    python(EXPORT, "export", folder, "--to", "inspect", "--out", out, *options)
    log: dict[str, Any] = json.loads(python(READ, out))
    return log


def text_of(message: dict[str, Any]) -> str:
    """All words of a message, thinking included."""
    parts = message["content"] if isinstance(message["content"], list) else [{"text": message["content"]}]
    return " ".join(filter(None, (part.get("reasoning") or part.get("text") for part in parts)))
