"""`verl-axpo data check FILE`: each bad row is reported with its number; the script of docs/own_data.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data import parquet
from verl_axpo.data.cli import app
from verl_axpo.data.own import problems
from verl_axpo.data.rows import rl_schema, sft_schema
from verl_axpo.prompts import prompt_messages
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

PAGE = Path(__file__).parents[3] / "docs/own_data.md"
Change = Callable[[dict[str, Any]], None]


def question(index: int) -> dict[str, Any]:
    return {
        "data_source": "mine",
        "prompt": prompt_messages("<image>How many?", [IMAGE_ZOOM_IN]),
        "images": [{"bytes": encoded(picture(str(index)))}],
        "ability": "charts",
        "reward_model": {"style": "rule", "ground_truth": str(index)},
        "extra_info": {"index": index, "answer_type": "math"},
    }


def without_picture(row: dict[str, Any]) -> None:
    row["images"] = []


def damaged_picture(row: dict[str, Any]) -> None:
    row["images"] = [{"bytes": b"no picture"}]


def unknown_type(row: dict[str, Any]) -> None:
    row["extra_info"]["answer_type"] = "number"


def no_mathematics(row: dict[str, Any]) -> None:
    row["reward_model"]["ground_truth"] = "a red house"


def no_option(row: dict[str, Any]) -> None:
    row["extra_info"] |= {"answer_type": "choice", "options": ["red", "blue"]}
    row["reward_model"]["ground_truth"] = "C"


def no_truth(row: dict[str, Any]) -> None:
    row["reward_model"]["ground_truth"] = ""


def no_user(row: dict[str, Any]) -> None:
    row["prompt"] += [{"role": "assistant", "content": "3"}]


def unknown_role(row: dict[str, Any]) -> None:
    row["prompt"][0]["role"] = "human"


def repeated(row: dict[str, Any]) -> None:
    row |= question(0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_picture, "images: got 1 <image> for 0 image"),
        (damaged_picture, "image: got 10 bytes that cannot be decoded"),
        (unknown_type, "answer_type 'number'"),
        (no_mathematics, "which no rule reads as mathematics"),
        (no_option, "got 'C' for a choice, expected the letter of one of ['red', 'blue']"),
        (no_truth, "reward_model.ground_truth: got ''"),
        (no_user, "prompt: got a last turn of 'assistant'"),
        (unknown_role, "prompt.0.role: got 'human'"),
        (repeated, "repeats row 0"),
    ],
)
def test_a_bad_row_is_reported_with_its_number(tmp_path: Path, change: Change, told: str) -> None:
    rows = [question(index) for index in range(3)]
    change(rows[1])
    parquet.write(tmp_path / "mine.parquet", rows, rl_schema(embed=True))
    ((number, problem),) = problems(tmp_path / "mine.parquet")
    assert number == 1
    assert told in problem


def test_demonstrations_are_checked(tmp_path: Path) -> None:
    turns = [*prompt_messages("Why?", []), {"role": "assistant", "content": "<think>\n</think>\nSo."}]
    rows = [
        {"messages": turns, "tools": "[]", "images": []},
        {"messages": turns[:-1], "tools": "[]", "images": []},
        {"messages": [*turns, turns[-1]], "tools": "{", "images": []},
    ]
    parquet.write(tmp_path / "mine.parquet", rows, sft_schema(embed=True))
    (first, shape), (second, tools) = problems(tmp_path / "mine.parquet")
    assert (first, second) == (1, 2)
    assert "expected 'assistant'" in shape
    assert "tools: is no JSON" in tools


def test_a_file_with_other_columns_says_what_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "answer": ["b"]}), tmp_path / "mine.parquet")
    with pytest.raises(
        ValueError, match=r"\['data_source', 'reward_model'\] are missing among its columns .*; RL needs"
    ):
        list(problems(tmp_path / "mine.parquet"))


def test_the_command_and_the_script_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "charts").mkdir()
    for name in "12":
        (tmp_path / f"charts/{name}.png").write_bytes(encoded(picture(name)))
    script = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    exec(script[1], {})
    done = CliRunner().invoke(app, ["check", "charts.parquet"])
    assert done.exit_code == 0, done.output
    assert "charts.parquet: every row is sound" in done.output
    rows = list(parquet.iter_rows(tmp_path / "charts.parquet"))
    rows[1]["extra_info"]["answer_type"] = "guess"
    parquet.write(tmp_path / "charts.parquet", rows, rl_schema(embed=True))
    done = CliRunner().invoke(app, ["check", "charts.parquet"])
    assert "charts.parquet row 1: reward: got answer_type 'guess'" in done.output
    assert isinstance(done.exception, ValueError)
