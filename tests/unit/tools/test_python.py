"""`python` as verl calls it, its configuration, and what it says where there is no sandbox."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from verl.tools.tool_registry import load_all_tools

from verl_axpo import prompts
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.python import Python
from verl_axpo.tools.sandbox import SandboxConfig, choose
from verl_axpo.tools.sandbox.backends import BACKENDS, Backend
from verl_axpo.tools.sandbox.inside import seccomp
from verl_axpo.tools.sandbox.limits import UNCONFINED
from verl_axpo.tools.sandbox.probe import trial


def tool_for(backend: Backend, **config: Any) -> Python:
    return Python({"type": "native", "backend": backend.name, **config})


async def test_a_trajectory_keeps_its_interpreter_and_its_images(backend: Backend) -> None:
    tool = tool_for(backend)
    trajectory: Any = TrajectoryTool(tool)
    agent_data = SimpleNamespace(image_data=[Image.new("RGB", (30, 20), "red")])

    async def call(**arguments: Any) -> tuple[Any, dict[str, Any]]:
        instance, _ = await trajectory.create()
        response, reward, metrics = await trajectory.execute(instance, arguments, agent_data=agent_data)
        await trajectory.release(instance)
        assert reward == 0.0
        return response, metrics

    response, metrics = await call(code="half = _pil_images[0].resize((15, 10)); half")
    assert response.text is None
    assert [image.size for image in response.image] == [(15, 10)]
    assert metrics == {"ok": True, "infra": False, "error": None}
    agent_data.image_data += response.image  # as verl's loop does
    response, _ = await call(code="[image.size for image in _pil_images], half.size", timeout=5)
    assert (response.text, response.image) == ("([(30, 20), (15, 10)], (15, 10))", None)
    response, metrics = await call(code="1 / 0")
    assert response.text.endswith("ZeroDivisionError: division by zero")
    assert (metrics["ok"], metrics["infra"]) == (False, False)
    assert metrics["error"] == response.text
    await trajectory.close()
    await tool.close()


async def test_two_trajectories_of_one_tool_are_apart(backend: Backend) -> None:
    tool = tool_for(backend)
    one, other = (await tool.create())[0], (await tool.create())[0]
    await tool.execute(one, {"code": "x = 1"})
    response, _, metrics = await tool.execute(other, {"code": "x"})
    assert "NameError: name 'x' is not defined" in (response.text or "")
    assert metrics["ok"] is False
    await asyncio.gather(tool.release(one), tool.release(other))
    await tool.close()


async def test_an_infrastructure_failure_is_flagged_and_release_still_works() -> None:
    tool = Python({"type": "native", "backend": UNCONFINED, "start_timeout_s": 0.001})  # the one without a trial run
    trajectory: Any = TrajectoryTool(tool)
    instance, _ = await trajectory.create()
    response, _, metrics = await trajectory.execute(instance, {"code": "1"})
    assert (response.text, metrics["ok"], metrics["infra"]) == ("python is unavailable.", False, True)
    assert "did not start" in metrics["error"]
    await trajectory.close()
    await tool.close()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "code must be a string with Python code, got None"),
        ({"code": ["1"]}, "code must be a string with Python code, got ['1']"),
        ({"code": "  "}, "code must be a string"),
        ({"code": "1", "timeout": "5"}, "timeout must be a number of seconds above 0, got '5'"),
        ({"code": "1", "timeout": True}, "timeout must be a number"),
        ({"code": "1", "timeout": 0}, "timeout must be a number"),
        ({"code": "1", "timeout": float("inf")}, "timeout must be a number"),
        ({"code": "1", "language": "c"}, "unknown arguments ['language']; the arguments are code and timeout."),
        ("1 + 1", "arguments must be a JSON object, got str"),
        (None, "arguments must be a JSON object, got NoneType"),
    ],
)
async def test_a_bad_call_is_answered_with_what_is_wrong(parameters: Any, told: str) -> None:
    tool = Python({"type": "native", "backend": UNCONFINED})
    instance, _ = await tool.create()
    response, reward, metrics = await tool.execute(instance, parameters)
    assert told in (response.text or "")
    assert (response.image, reward, metrics) == (None, 0.0, {"ok": False, "error": response.text})


def test_verl_loads_the_tool_and_dumps_the_schema_that_sft_rows_carry(tmp_path: Path) -> None:
    entry = {"class_name": "verl_axpo.tools.python.Python", "config": {"type": "native", "backend": UNCONFINED}}
    file = tmp_path / "tools.json"  # JSON is YAML
    file.write_text(json.dumps({"tools": [entry]}))
    (tool,) = load_all_tools(str(file), None)
    dumped = tool.tool_schema.model_dump(exclude_unset=True, exclude_none=True)
    # Compared as text: the key order is part of the prompt.
    assert json.dumps([dumped]) == json.dumps(prompts.tool_schemas(["python"]))


# ------------------------------ configuration and start ------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"memory": 5}, r"python: unknown keys \['memory'\]; valid keys are \['backend', 'timeout_s'"),
        ({"backend": "docker"}, r"python.backend: got 'docker'; choose from \['auto', 'bubblewrap', 'sandlock'"),
        ({"memory_mb": 0}, "python.memory_mb: got 0, expected a whole number >= 1"),
        ({"memory_mb": 1.5}, "python.memory_mb: got 1.5, expected a whole number"),
        ({"images": True}, "python.images: got True, expected a whole number >= 0"),
        ({"timeout_s": 0}, "python.timeout_s: got 0, expected a number of seconds > 0"),
        ({"timeout_s": 100}, "python.timeout_s: got 100, expected at most max_timeout_s = 60"),
    ],
)
def test_a_bad_configuration_is_refused_at_start(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Python({"type": "native", **config})


def test_without_a_backend_the_tool_refuses_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError) as error:
        choose(SandboxConfig())
    text = str(error.value)
    assert "bubblewrap: bwrap is not installed; sandlock: sandlock is not installed" in text
    assert "apt install bubblewrap" in text
    assert f"set backend: {UNCONFINED}" in text


def test_only_plain_words_get_an_unconfined_interpreter(caplog: pytest.LogCaptureFixture) -> None:
    assert choose(SandboxConfig(backend=UNCONFINED)).name == UNCONFINED
    assert "UNCONFINED" in caplog.text


def test_the_trial_notices_what_does_not_confine() -> None:
    problem = trial(BACKENDS[UNCONFINED], SandboxConfig())
    assert problem is not None
    assert "reads_files, writes_files" in problem


def test_the_chosen_backend_is_named_in_the_log(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    assert choose(SandboxConfig(backend=backend.name)).name == backend.name  # type: ignore[arg-type]
    assert f"confined by {backend.name}" in caplog.text


def test_an_architecture_without_a_table_is_refused() -> None:
    with pytest.raises(OSError, match=r"no system call table for mips; have \['x86_64', 'aarch64'\]"):
        seccomp.program("mips")


@pytest.mark.parametrize(("machine", "execve", "read"), [("x86_64", 59, 0), ("aarch64", 221, 63)])
def test_the_filter_refuses_and_allows_by_number(machine: str, execve: int, read: int) -> None:
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000  # EPERM is 1
    filters = seccomp.program(machine)
    clone = {"x86_64": 56, "aarch64": 220}[machine]
    assert evaluate(filters, arch, execve, 0) == refuse
    assert evaluate(filters, arch, read, 0) == allow
    assert evaluate(filters, arch, clone, 17) == refuse  # SIGCHLD: a process
    assert evaluate(filters, arch, clone, 0x3D0F00) == allow  # what pthread_create asks for
    assert evaluate(filters, arch, 435, 0) == 0x00050026  # clone3: ENOSYS, 38
    assert evaluate(filters, 0x40000003, read, 0) == kill  # i386


def evaluate(filters: list[seccomp.Instruction], arch: int, number: int, argument: int) -> int:
    """What the kernel would do with the program: a machine with one register."""
    words = {0: number, 4: arch, 16: argument}
    register, at = 0, 0
    while True:
        code, yes, no, constant = filters[at]
        if code == 0x06:
            return constant
        if code == 0x20:
            register = words[constant]
            at += 1
        else:
            taken = {0x15: register == constant, 0x35: register >= constant, 0x45: register & constant != 0}[code]
            at += 1 + (yes if taken else no)


async def test_nothing_is_started_before_the_first_call(backend: Backend) -> None:
    tool = tool_for(backend)
    instance, _ = await tool.create()
    assert tool._pool is not None
    assert tool._pool._zygote is None
    await tool.release(instance)
    await tool.close()
