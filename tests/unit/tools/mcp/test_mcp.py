"""MCP servers as tools, over stdio and HTTP: results, whose failure it is, and how long sessions last."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from verl.experimental.agent_loop.tool_agent_loop import AgentData
from verl.tools.schemas import OpenAIFunctionToolSchema

from verl_axpo.cli import app
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.prompts import ToolPrompt
from verl_axpo.tools.configs import settings_of
from verl_axpo.tools.described import described, load_tools
from verl_axpo.tools.mcp.config import McpConfig
from verl_axpo.tools.mcp.entries import entries
from verl_axpo.tools.mcp.session import McpServer
from verl_axpo.tools.mcp.tool import McpTool

SERVER = [sys.executable, str(Path(__file__).with_name("server.py"))]
STDIO = {"type": "native", "command": SERVER}
TIME = {"type": "native", "command": [str(Path(sys.executable).with_name("mcp-server-time"))]}


@pytest.fixture(scope="module")
def http() -> Iterator[dict[str, Any]]:
    """The config of a server that runs already."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*SERVER, str(port)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield {"type": "native", "url": f"http://127.0.0.1:{port}/mcp"}
    process.kill()
    process.wait()


def tool(name: str, **config: Any) -> McpTool:
    """A tool whose schema allows every argument: the server alone checks."""
    parameters = {"type": "object", "properties": {}, "required": []}
    schema = {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
    base = {"type": "native"} if "url" in config else STDIO
    return load_one({"config": {**base, **config}, "tool_schema": schema})


def load_one(entry: dict[str, Any]) -> McpTool:
    return McpTool(entry["config"], OpenAIFunctionToolSchema.model_validate(entry["tool_schema"]))


class Trajectory:
    """The tools of one trajectory, called as verl's loop calls them and closed as ours closes them."""

    def __init__(self, *tools: McpTool) -> None:
        self.tools = {each.name: TrajectoryTool(each) for each in tools}
        nothing = dict.fromkeys(("video_data", "audio_data", "mm_processor_kwargs"))
        self.data = AgentData(messages=[], image_data=[], metrics={}, request_id="", tools_kwargs={}, **nothing)

    async def __call__(self, name: str, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        each = self.tools[name]
        instance, _ = await each.create()
        response, _, metrics = await each.execute(instance, arguments, agent_data=self.data)
        await each.release(instance)
        return response, metrics

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self.tools.values()))


async def once(made: McpTool, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    trajectory = Trajectory(made)
    try:
        return await trajectory(made.name, **arguments)
    finally:
        await trajectory.close()


# ------------------------------ a server that is not ours ------------------------------


async def test_a_server_of_the_package_index(tmp_path: Path) -> None:
    written = await entries(McpConfig.parse(TIME))
    path = tmp_path / "tools.yaml"
    path.write_text(yaml.safe_dump({"tools": [{**written[1], "advice": "convert_time: to be on time."}, written[0]]}))
    assert described(path) == [
        ToolPrompt(schema=written[1]["tool_schema"], advice="convert_time: to be on time."),
        ToolPrompt(schema=written[0]["tool_schema"]),
    ]
    trajectory = Trajectory(*load_tools(path))
    asked = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    response, metrics = await trajectory("convert_time", **asked)
    assert "T21:00:00+09:00" in response.text
    assert (metrics["ok"], metrics["infra"]) == (True, False)
    response, metrics = await trajectory("convert_time", **{**asked, "target_timezone": "Moon"})  # the server's refusal
    assert "Moon" in response.text
    assert (metrics["ok"], metrics["infra"]) == (False, False)
    response, metrics = await trajectory("get_current_time", zone="UTC")  # ours: the schema is checked first
    assert response.text == "Error: timezone is missing; write timezone (string)."
    await trajectory.close()


def test_the_command_writes_the_entries_of_a_server(tmp_path: Path) -> None:
    out = tmp_path / "tools.yaml"
    options = ["--tool", "convert_time", "--out", str(out)]
    done = CliRunner().invoke(app, ["tools", "mcp", *options, "--", *TIME["command"]])
    assert done.exit_code == 0, done.output
    (entry,) = yaml.safe_load(out.read_text())["tools"]
    assert entry["config"] == TIME
    assert entry["tool_schema"]["function"]["name"] == "convert_time"
    told = CliRunner().invoke(app, ["tools", "show", str(out)])
    assert '"Convert time between timezones"' in told.output


# ------------------------------ life ------------------------------


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_tools_of_a_server_have_one_session_per_trajectory(transport: str, http: dict[str, Any]) -> None:
    config = http if transport == "http" else {}
    made = [tool("remember", **config), tool("huge", **config)]
    first, second = Trajectory(*made), Trajectory(*made)
    said = [(await first("remember", word=word))[0].text.split() for word in ("a", "b")]
    assert said[1][-3:-1] == ["a", "b"]
    assert (await first("huge", characters=3))[0].text == "xxx"
    server = McpServer.of(made[0].settings)
    assert server is McpServer.of(made[1].settings)
    assert list(server._sessions) == [first.data]
    (alone,) = [(await second("remember", word="c"))[0].text.split()]
    if transport == "stdio":  # a process each
        assert alone[0] == "c"
        assert alone[-1] != said[1][-1]
    await asyncio.gather(first.close(), second.close())
    assert not server._sessions
    assert server._places._value == made[0].settings.max_sessions


async def test_a_shared_session_outlives_its_trajectories_and_is_made_again_when_its_server_dies() -> None:
    made = [tool("remember", shared=True), tool("die", shared=True)]
    first, second = Trajectory(*made), Trajectory(*made)
    pid = (await first("remember", word="a"))[0].text.split()[-1]
    await first.close()
    assert (await second("remember", word="b"))[0].text == f"a b {pid}"
    assert (await second("die"))[1]["infra"]
    assert (await Trajectory(*made)("remember", word="c"))[0].text.split()[0] == "c"
    await McpServer.of(made[0].settings).close(None)


async def test_trajectories_wait_for_a_place() -> None:
    made = tool("remember", max_sessions=1, queue_timeout_s=0.2)
    first, second = Trajectory(made), Trajectory(made)
    await first("remember", word="a")
    _, metrics = await second("remember", word="b")
    assert metrics["infra"]
    assert "none of 1 sessions became free within 0.2 s" in metrics["error"]
    await first.close()
    assert (await second("remember", word="b"))[1]["ok"]
    await second.close()


# ------------------------------ faults ------------------------------


async def test_an_error_is_the_policys_to_read_unless_the_config_knows_it(http: dict[str, Any]) -> None:
    failing = tool("fail", infra_errors=["quota"], **http)
    response, metrics = await once(failing, why="no such thing")
    assert "no such thing" in response.text
    assert (metrics["ok"], metrics["infra"]) == (False, False)
    response, metrics = await once(failing, why="over quota")
    assert response.text == "fail is unavailable."
    assert (metrics["ok"], metrics["infra"]) == (False, True)


async def test_bad_arguments_are_answered_by_the_server(http: dict[str, Any]) -> None:
    response, metrics = await once(tool("draw", **http), place=3, how="wavy")
    assert "place" in response.text
    assert "thin" in response.text
    assert (metrics["ok"], metrics["infra"]) == (False, False)


@pytest.mark.parametrize(
    ("name", "config", "arguments", "told"),
    [
        ("die", {}, {}, "die: MCPError"),
        ("hang", {"timeout_s": 0.3}, {"seconds": 20}, r"no answer within 0\.3 s"),
        ("gone", {}, {}, r"has no tool 'gone'; it has \['die', 'draw'"),
        ("show", {}, {"kind": "broken"}, "a picture that cannot be read"),
        ("huge", {"command": ["false"]}, {}, "false cannot be used"),
        ("huge", {"command": ["cat"], "start_timeout_s": 0.3}, {}, r"cat .*"),
        ("huge", {"command": ["sh", "-c", "echo out of luck >&2"]}, {}, "it said: out of luck"),
        ("huge", {"url": "http://127.0.0.1:9/mcp"}, {}, "cannot be used: ConnectError"),
    ],
)
async def test_a_failing_server_is_an_infra_failure(
    name: str, config: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    started = time.monotonic()
    response, metrics = await once(tool(name, **config), **arguments)
    assert response.text == f"{name} is unavailable."
    assert (metrics["ok"], metrics["infra"]) == (False, True)
    assert re.search(told, metrics["error"])
    assert time.monotonic() - started < 15


# ------------------------------ results ------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "pictures"),
    [
        ("picture", "Look:", 1),
        ("pictures", "[image/png, not shown]", 2),
        ("sound", "[audio/wav, not shown]", 0),
        ("resource", "the text", 0),
        ("link", "a file:///a.txt A file.", 0),
        ("nothing", None, 0),
    ],
)
async def test_what_a_server_shows(kind: str, text: str | None, pictures: int, http: dict[str, Any]) -> None:
    response, metrics = await once(tool("show", max_images=2, image_pixels=1, **http), kind=kind)
    assert metrics["ok"]
    assert response.text == text
    assert [picture.size for picture in response.image or ()] == [(1, 1)] * pictures


async def test_a_huge_text_is_cut(http: dict[str, Any]) -> None:
    response, _ = await once(tool("huge", max_chars=10, **http), characters=1_000_000)
    assert response.text == "xxxxxxxxxx\n[999990 more characters]"


# ------------------------------ config and schema ------------------------------


async def test_a_servers_schema_in_verls_form() -> None:
    """What verl cannot keep of a parameter is in its description."""
    written = {entry["tool_schema"]["function"]["name"]: entry for entry in await entries(McpConfig.parse(STDIO))}
    assert written["draw"]["config"] == STDIO
    function = written["draw"]["tool_schema"]["function"]
    assert function["description"] == "Draw something."
    properties = function["parameters"]["properties"]
    assert properties["place"]["type"] == "object"
    assert '"properties": {"x": {"type": "number"}, "y": {"type": "number"}}' in properties["place"]["description"]
    assert properties["how"] == {"type": "string", "enum": ["thick", "thin"]}
    assert properties["label"] == {"type": ["string", "null"], "description": "What to write."}
    assert properties["sizes"]["type"] == ["array", "null"]
    assert '"items": {"type": "integer"}' in properties["sizes"]["description"]
    assert properties["times"]["description"] == 'Default: 1. JSON schema: {"maximum": 3, "minimum": 1}'
    assert function["parameters"]["required"] == ["place", "how"]
    response, _ = await once(load_one(written["draw"]), place={"x": 1, "y": 2}, how="thin", sizes=[1], label=None)
    assert response.text == "1.0 2.0 thin None [1] 1"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"command": ["no-such-program"]}, "no-such-program.* is not found"),
        ({"url": "http://a/", "command": ["cat"]}, "expected either command"),
        ({"command": None}, "expected either command"),
        ({"url": "ftp://a/"}, "expected http:// or https://"),
        ({"infra_errors": ["("]}, "is no regular expression"),
        ({"timeouts": 3}, "unknown key 'timeouts'"),
    ],
)
def test_a_bad_config_is_refused_at_start(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tool("huge", **config)


def test_a_tool_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="has no tool_schema"):
        McpTool(STDIO)


def test_settings_name_each_tool_and_no_secret(tmp_path: Path) -> None:
    """Of a manifest or a run: two tools of a server are two entries, keys and places are left out."""
    schemas = [{"function": {"name": name}} for name in ("a", "b")]
    config = {"type": "native", "url": "http://a/", "headers": {"Authorization": "secret"}, "env": {"KEY": "secret"}}
    made = [{"class_name": "x.McpTool", "config": config, "tool_schema": schema} for schema in schemas]
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": made}))
    settings = settings_of(tmp_path / "tools.yaml")
    assert settings == {name: {"type": "native"} for name in ("x.McpTool/a", "x.McpTool/b")}
