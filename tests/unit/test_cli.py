"""The command line itself: it starts quickly, says its version, and cuts no help where there is no wide terminal."""

import subprocess
import sys

import pytest

import verl_axpo

HEAVY = ("torch", "verl", "vllm", "ray", "transformers", "openai", "hydra", "pyarrow", "matplotlib", "datasets")
COMMANDS = [[], ["check"], ["data"], ["data", "dedup"], ["eval"], ["eval", "run"], ["eval", "compare"], ["report"]]


def verl_axpo_cli(*words: str) -> str:
    command = [sys.executable, "-c", "from verl_axpo.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={"COLUMNS": "80"}).stdout


def test_its_start_imports_nothing_heavy() -> None:
    code = f"import sys, verl_axpo.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_it_says_its_version() -> None:
    assert verl_axpo_cli("--version").strip() == f"verl-axpo {verl_axpo.__version__}"


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_no_help_is_cut(words: list[str], flag: str) -> None:
    text = verl_axpo_cli(*words, flag)
    usage, *lines = text.splitlines()
    assert usage.startswith("Usage:")
    assert not [line for line in lines if line.endswith("...")]
