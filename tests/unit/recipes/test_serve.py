"""recipes/serve.sh around a program named `python` that is a small HTTP server: what the script does, not vLLM."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.unit.recipes.conftest import RECIPES
from verl_axpo.agent.types import Limits
from verl_axpo.eval.benchmarks import get
from verl_axpo.tools import image_search
from verl_axpo.tools.sandbox import SandboxConfig

SERVER = f"""#!{sys.executable}
import http.server, pathlib, sys
pathlib.Path("arguments").write_text(" ".join(sys.argv[1:]))
if "broken" in sys.argv:
    sys.exit("no such model")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def serve(folder: Path, port: int, model: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = folder / "bin/python"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SERVER)
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PORT": str(port), "LOG": str(folder / "logs/server.log"), **variables}
    script = ["bash", str(RECIPES / "serve.sh"), model, "--", *command]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


def test_the_command_finds_a_server_which_ends_with_it(tmp_path: Path, port: int) -> None:
    ask = f"curl -sf http://127.0.0.1:{port}/v1/models && echo asked && exit 7"
    done = serve(tmp_path, port, "my/model", "bash", "-c", ask, GPUS="8", TP="2", SERVE_ARGS="--dtype float32")
    assert (done.returncode, done.stdout) == (7, "asked\n")
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("-m vllm.entrypoints.openai.api_server --model my/model --port")
    assert "--tensor-parallel-size 2 --data-parallel-size 4" in arguments
    assert arguments.endswith("--dtype float32")
    assert not answers(port)


def most_pictures(turns: int, calls: int) -> int:
    """In a prompt: of the question that has most, and what python draws in all turns but the last."""
    drawn = SandboxConfig().images
    assert drawn >= image_search.MAX_IMAGES
    return len(get("math_vr").source.image_columns) + (turns - 1) * calls * drawn


def test_the_server_takes_the_pictures_of_the_longest_rollout(tmp_path: Path, port: int) -> None:
    assert serve(tmp_path, port, "my/model", "true").returncode == 0
    most = most_pictures(Limits().max_turns, Limits().parallel_calls)
    assert most == 24
    assert f'--limit-mm-per-prompt {{"image": {most}, "video": 0}} --enable' in (tmp_path / "arguments").read_text()
    document = RECIPES.parent / "docs/evaluation_runs.md"
    assert f"--limit-mm-per-prompt '{{\"image\": {most}}}'" in document.read_text()


def test_rl_takes_the_pictures_of_its_own_turns() -> None:
    config = RECIPES.parent / "verl_axpo/integration/config/axpo_trainer.yaml"
    (turns,) = re.findall(r"max_assistant_turns: (\d+)", config.read_text())
    (limit,) = re.findall(r"limit_mm_per_prompt='{image:(\d+),video:0}'", (RECIPES / "common.sh").read_text())
    assert int(limit) == most_pictures(int(turns), calls=1) == 16


def test_on_a_cpu_the_server_gets_what_the_tiny_model_needs(tmp_path: Path, port: int) -> None:
    done = serve(tmp_path, port, "tiny", "true", GPUS="1", SERVE_ON="cpu")
    assert done.returncode == 0, done.stderr
    assert "--dtype float32 --enforce-eager" in (tmp_path / "arguments").read_text()


def test_a_replica_larger_than_the_machine_is_refused(tmp_path: Path, port: int) -> None:
    done = serve(tmp_path, port, "my/teacher", "touch", "ran", GPUS="1", TP="2")
    assert done.returncode == 2
    assert "a replica of my/teacher takes TP=2 GPUs, there are GPUS=1" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_server_that_does_not_start_shows_why(tmp_path: Path, port: int) -> None:
    done = serve(tmp_path, port, "broken", "touch", "ran")
    assert done.returncode == 1
    assert "vLLM ended before it answered" in done.stderr
    assert "no such model" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path, port: int) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    other = subprocess.Popen(
        [sys.executable, "server.py", "--port", str(port)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            assert other.poll() is None
        done = serve(tmp_path, port, "my/model", "touch", "ran")
    finally:
        other.terminate()
        other.wait()
    assert done.returncode == 1
    assert f"port {port} is taken by another server" in done.stderr
    assert not (tmp_path / "ran").exists()
