"""RL with a tool of one's own and with one of an MCP server, as docs/add_a_tool.md has them: a config, no other change.

bash tests/run.sh tests/e2e/test_own_tools.py     "all" leaves it out
"""

import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.conftest import REPO, FastRun, run, text_only
from verl_axpo.audit import audit
from verl_axpo.prompts import tool_schemas
from verl_axpo.tools.paper_tools import TAVILY_SEARCH
from verl_axpo.trace import read_step

HERE = Path(__file__).parent


def tool_config(path: Path) -> Path:
    """`python` is a class of the tests, `tavily-search` an MCP server's `look_up`. `image_zoom_in` is ours, unused: the
    tiny policy writes nonsense after a prompt that announces other tools than its demonstrations did."""
    server = [sys.executable, str(HERE / "own_tools.py")]
    market = {"type": "native", "command": server, "env": {"PYTHONPATH": str(REPO)}, "name": "look_up", "shared": True}
    entries = [
        {"class_name": "verl_axpo.tools.image_zoom_in.ImageZoomIn", "config": {"type": "native"}},
        {"class_name": "own_tools.Remainder", "config": {"type": "native"}},
        {
            "class_name": "verl_axpo.tools.mcp.tool.McpTool",
            "config": market,
            "tool_schema": tool_schemas([TAVILY_SEARCH])[0],
        },
    ]
    # Sorted keys would be another prompt to the tiny tokenizer, which has the usual one's text as a token
    path.write_text(yaml.safe_dump({"tools": entries}, sort_keys=False))
    return path


def calls_alone(source: Path, target: Path) -> Path:
    """The demonstrations without an image that call a tool: system, question, call, response, answer."""
    table = pq.read_table(text_only(source, target))
    pq.write_table(table.filter(pc.equal(pc.list_value_length(table["messages"]), 5)), target)
    return target


@pytest.mark.slow
def test_axpo_trains_with_tools_that_are_not_ours(fast_run: FastRun, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    questions = text_only(fast_run.world / "train.parquet", tmp_path / "train.parquet")
    files = [f"data.train_files={questions}", f"data.val_files={fast_run.world}/heldout.parquet"]
    # A reward that no rollout reaches makes every subgroup all-wrong, so that there is something to resample
    wrong = ["algorithm.axpo.correct_threshold=2", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    places = {"MODEL": "tiny", "SETUP": "0", "FAST": "1", "OUT": str(out), "WORLD": str(fast_run.world)}
    # The FAST run's policy is hardly taught: few of its calls can be read
    taught = calls_alone(fast_run.world / "sft_train.parquet", tmp_path / "calls.parquet")
    more = [f"model.path={fast_run.model}", f"data.train_files={taught}"]
    run(["bash", f"{REPO}/recipes/sft.sh", *more], log, **places, STEPS="200")
    own = {"TOOLS": str(tool_config(tmp_path / "tools.yaml")), "PYTHONPATH": str(HERE)}
    run(["bash", f"{REPO}/recipes/rl.sh", *files, *wrong], log, **places, **own)

    trace = out / "axpo/trace"
    result = audit(trace)
    assert (result.steps, result.differences) == (2, ())
    records = [record for step in (1, 2) for record in read_step(trace, step).records]
    answered = {call.name: call for record in records for call in record.tool_calls if call.ok}
    assert set(answered) == {"python", "tavily-search"}
    assert not [call for record in records for call in record.tool_calls if call.infra]
    continued = {call.name for record in records if record.kind == "resample" for call in record.tool_calls if call.ok}
    assert continued == {"python", "tavily-search"}
    assert any(
        "they sell" in record.text for record in records
    )  # only the MCP server says so; no document of the world does
