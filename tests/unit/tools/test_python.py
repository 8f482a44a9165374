"""`python` as verl calls it, its configuration, and what it says where there is no sandbox."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from verl.tools.tool_registry import load_all_tools

from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.paper_tools import PYTHON
from verl_axpo.tools.python import Python
from verl_axpo.tools.sandbox import SandboxConfig, choose
from verl_axpo.tools.sandbox.backends import BACKENDS, Backend
from verl_axpo.tools.sandbox.inside import seccomp, syscalls
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
        ({"code": "1", "timeout": 10**400}, "timeout must be a number of seconds above 0, got 1000"),
        ({"code": "1", "timeout": 10**5000}, "timeout must be a number of seconds above 0, got a huge int"),
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
    assert json.dumps([dumped]) == json.dumps([PYTHON.schema])


# ------------------------------ configuration and start ------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"memory": 5}, r"python: unknown key 'memory' in the tool's config; choose from \['backend', 'timeout_s'"),
        ({"backend": "docker"}, "python: backend: got 'docker': Input should be 'auto', 'bubblewrap', 'sandlock' or"),
        ({"memory_mb": 0}, "python: memory_mb: got 0: Input should be greater than or equal to 1"),
        ({"memory_mb": 1.5}, "python: memory_mb: got 1.5: Input should be a valid integer"),
        ({"images": True}, "python: images: got True: Input should be a valid integer"),
        ({"images": -1}, "python: images: got -1: Input should be greater than or equal to 0"),
        ({"timeout_s": 0}, "python: timeout_s: got 0: Input should be greater than 0"),
        ({"timeout_s": float("inf")}, "python: timeout_s: got inf: Input should be a finite number"),
        ({"timeout_s": 100}, "python: timeout_s = 100 is above max_timeout_s = 60"),
        ({"memory": 5, "threads": "2"}, "(?s)threads: got '2'.*unknown key 'memory'"),
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


def test_a_backend_that_leaves_something_open_is_taken_only_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert trial(BACKENDS["sandlock"], SandboxConfig()) is None
    monkeypatch.setattr("shutil.which", lambda name: None)  # no bubblewrap
    with pytest.raises(RuntimeError) as error:
        choose(SandboxConfig())
    for part in ("fill the disk", "which files exist", "set backend: sandlock in the tool's config", "PYTHON_SANDBOX"):
        assert part in str(error.value)
    assert choose(SandboxConfig(backend="sandlock")).name == "sandlock"
    monkeypatch.setenv("PYTHON_SANDBOX", "sandlock")
    assert choose(SandboxConfig()).name == "sandlock"
    monkeypatch.setenv("PYTHON_SANDBOX", "docker")
    with pytest.raises(ValueError, match="got 'docker': Input should be"):
        SandboxConfig()


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


ALLOW, REFUSE, UNKNOWN, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000  # EPERM is 1, ENOSYS 38
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OWN, OTHER = 7, 8  # process numbers


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_is_listed_and_nothing_else(machine: str) -> None:
    filters, allowed = seccomp.program(machine, OWN), syscalls.numbers(syscalls.ALLOWED, machine)
    checked = syscalls.numbers(syscalls.CHECKED, machine)
    assert not set(allowed) & set(checked)
    for number in set(range(600)) - set(checked.values()) - {syscalls.CLONE3}:
        verdict = evaluate(filters, ARCH[machine], number)
        assert verdict == (ALLOW if number in allowed.values() else REFUSE), number
    assert evaluate(filters, ARCH[machine], syscalls.CLONE3) == UNKNOWN
    assert evaluate(filters, 0x40000003, 0) == KILL  # i386
    assert evaluate(filters, ARCH[machine], 0x40000000) == REFUSE  # x32's read
    for name in ("execve", "ptrace", "chmod", "flock", "io_setup", "socket", "bpf"):
        assert name not in allowed


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("clone", [(0x3D0F00,)], [(17,), (0,)]),  # what pthread_create asks for; SIGCHLD: a process
        ("kill", [(0, 9), (OWN, 9)], [(OTHER, 9), (2**32 - 1, 9), (2**32 - OWN, 9)]),
        ("tgkill", [(OWN, 9)], [(OTHER, OWN)]),
        ("prlimit64", [(0, 7), (OWN, 7)], [(OTHER, 7)]),
        ("sched_setaffinity", [(0,), (OWN,)], [(OTHER,)]),
        ("sched_setscheduler", [(0,)], [(OTHER,)]),
        ("setpriority", [(0, 0), (0, OWN)], [(1, 0), (2, 0), (0, OTHER)]),
        ("ioprio_set", [(1, 0), (1, OWN)], [(2, 0), (3, 0), (1, OTHER)]),
        ("fcntl", [(3, 1), (3, 4)], [(3, 6), (3, 8), (3, 10), (3, 37), (3, 1024)]),
        ("ioctl", [(1, 0x5401)], [(1, 0x8901), (1, 0x5412)]),  # a terminal's settings; an owner, typing for the user
        ("prctl", [(15,)], [(1,), (22,), (38,)]),
        ("mmap", [(0, 4096, 3, 0x22)], [(0, 4096, 3, 0x40022)]),
    ],
)
def test_the_filter_compares_arguments(
    machine: str, name: str, allowed: list[tuple[int, ...]], refused: list[tuple[int, ...]]
) -> None:
    filters, number = seccomp.program(machine, OWN), syscalls.numbers(syscalls.CHECKED, machine)[name]
    for verdict, calls in ((ALLOW, allowed), (REFUSE, refused)):
        for arguments in calls:
            assert evaluate(filters, ARCH[machine], number, *arguments) == verdict, arguments


def evaluate(filters: list[seccomp.Instruction], arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do with the program: a machine with one register."""
    words = {0: number, 4: arch} | {16 + 8 * at: argument for at, argument in enumerate(arguments)}
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
