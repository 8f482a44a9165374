"""What users bring along: a benchmark, a tool, kwargs of the chat template."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer
from tests.unit.eval import colours
from tests.unit.eval.test_cli import cli, run
from verl_axpo.eval.cli import app
from verl_axpo.eval.reward import compute_score
from verl_axpo.prompts import system_prompt
from verl_axpo.tools.described import described, load_tools, prompt_of
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

Serve = Callable[..., ScriptedServer]
EXAMPLE = "examples.my_benchmark"
TOOL = """
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

SCHEMA = {"type": "function", "function": {"name": "weather", "description": "Say the weather of a place.",
          "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "Where."}},
                         "required": ["place"]}}}


class Weather(BaseTool):
    def __init__(self, config, tool_schema=None):
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(SCHEMA))

    async def execute(self, instance_id, parameters, **kwargs):
        return ToolResponse(text=f"It rains in {parameters['place']}."), 0.0, {}
"""
ADVICE = "weather: when the sky matters."
CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo"}}\n</tool_call>'


def test_the_documented_benchmark_runs_reports_and_continues(serve: Serve, tmp_path: Path) -> None:
    server = serve(any=[{"text": colours.says("8")}])
    fixed = ["--model", MODEL, "--base-url", server.url, "--out", str(tmp_path), "--registry", EXAMPLE]
    options = ["--no-agent", "--rollouts", "1", "--response-tokens", "1000"]
    status, output = cli("run", *fixed, *options, "--limit", "5")
    assert status == 0, output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["measures"]["pass_1"]["discs"]["value"] == 0.2  # 1, 8, 6, 4 and 2 discs
    assert report["benchmarks"]["discs"]["values"] == {"off_by_one": 0.2}
    assert "nothing to do" in cli("run", *fixed, *options, "--limit", "5")[1]


def test_the_documented_benchmark_is_exported_and_its_rows_are_scored(tmp_path: Path) -> None:
    out = tmp_path / "discs.parquet"
    status, output = cli("export", "--registry", EXAMPLE, "--tools", "zoom", "--out", str(out))
    assert status == 0, output
    assert f"+reward.custom_reward_function.reward_kwargs.registry={EXAMPLE}" in output
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 20
    for said, expected in (("8", 1.0), ("7", 0.0)):
        result = asyncio.run(
            compute_score(
                rows[1]["data_source"],
                f"</think>\n<answer>\\boxed{{{said}}}</answer>",
                rows[1]["reward_model"]["ground_truth"],
                rows[1]["extra_info"],
                registry=EXAMPLE,
            )
        )
        assert result["acc"] == expected


def test_a_module_of_the_current_folder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(colours.__file__).parents[3] / "examples/my_benchmark.py"
    (tmp_path / "discs_of_mine.py").write_text(own.read_text())
    monkeypatch.chdir(tmp_path)
    for at, name in enumerate(("discs_of_mine", "discs_of_mine.py")):
        status, output = cli("export", "--registry", name, "--tools", "zoom", "--out", f"{at}.parquet", "--limit", "2")
        assert (status, "wrote 2 questions" in output) == (0, True), output
    with pytest.raises(ValueError, match="registry: got 'nowhere', which cannot be imported"):
        cli("export", "--registry", "nowhere", "--tools", "zoom", "--out", "x.parquet")


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tool config of a tool that only the current folder has."""
    (tmp_path / "weather_tool.py").write_text(TOOL)
    monkeypatch.chdir(tmp_path)
    entries = [*yaml.safe_load(Path(ZOOM_TOOLS).read_text())["tools"]]
    entries.append({"class_name": "weather_tool.Weather", "config": {"type": "native"}, "advice": ADVICE})
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": entries}))
    return "tools.yaml"


def test_a_tool_of_ones_own_is_evaluated(serve: Serve, tmp_path: Path, weather: str) -> None:
    server = serve(red=[{"text": colours.THINKS + CALL}, {"text": colours.says("red"), "prompt_tokens": 150}])
    options = ["--tools", weather, "--benchmark", "warm", "--rollouts", "1"]
    status, output = run(server.url, tmp_path / "out", *options)
    assert status == 0, output
    first, second = server.requests()
    assert [tool["function"]["name"] for tool in first["tools"]] == ["image_zoom_in", "weather"]
    told = described(weather)
    assert [prompt.advice for prompt in told] == [IMAGE_ZOOM_IN.advice, ADVICE]
    assert first["tools"] == [prompt.schema for prompt in told]
    assert first["messages"][0]["content"] == system_prompt(told)
    assert ADVICE in first["messages"][0]["content"]
    assert second["messages"][-1] == {"role": "tool", "content": "It rains in Oslo."}


def test_a_tool_of_ones_own_is_exported(tmp_path: Path, weather: str) -> None:
    options = ["--registry", EXAMPLE, "--tools", weather, "--out", "x.parquet", "--limit", "1"]
    status, output = cli("export", *options)
    assert status == 0, output
    (row,) = pq.read_table("x.parquet").to_pylist()
    assert row["prompt"][0]["content"] == system_prompt(described(weather))


def test_a_class_may_say_its_own_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = TOOL.replace("class Weather(BaseTool):", f"class Weather(BaseTool):\n    advice = {ADVICE!r}\n")
    (tmp_path / "spoken_weather.py").write_text(spoken)
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("tools: [{class_name: spoken_weather.Weather, config: {type: native}}]")
    (prompt,), (tool,) = described("own.yaml"), load_tools("own.yaml")
    assert (prompt.name, prompt.advice) == ("weather", ADVICE)
    assert prompt_of(tool) == prompt


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "tools.yaml").write_text("tools: [{class_name: nowhere.Tool, config: {type: native}}]")
    with pytest.raises(ValueError, match=r"tools: nowhere\.Tool does not say its schema"):
        cli("export", "--registry", EXAMPLE, "--tools", str(tmp_path / "tools.yaml"), "--out", "x.parquet")


@pytest.mark.parametrize("command", [["run", "--model", "m"], ["export", "--tools", "zoom"]])
def test_no_questions_at_all_are_refused(tmp_path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "x.parquet"), "--limit", "0"])
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_kwargs_of_the_chat_template_are_sent_and_pinned(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    options: list[Any] = ["--no-agent", "--benchmark", "warm", "--rollouts", "1", "--chat-template-kwargs"]
    assert run(server.url, tmp_path / "out", *options, '{"enable_thinking": false}')[0] == 0
    assert server.requests()[0]["chat_template_kwargs"] == {"enable_thinking": False}
    with pytest.raises(ValueError, match=r"chat_template_kwargs\.enable_thinking: there False, this run nothing"):
        run(server.url, tmp_path / "out", *options[:-1])
    assert run(server.url, tmp_path / "none", *options[:-1])[0] == 0
    assert "chat_template_kwargs" not in server.requests()[-1]
    status, output = run(server.url, tmp_path / "bad", *options, "[1]")
    assert (status, "expected a JSON object" in output) == (2, True)
