"""Things that are missing, misspelt or useless are reported before anything starts, in one message."""

import copy
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from transformers import PreTrainedTokenizerFast

from examples.tiny_world.__main__ import make_tokenizer
from verl_axpo.integration.startup import startup_problems
from verl_axpo.tools import CONFIG_DIR

ROLLOUT = "actor_rollout_ref.rollout"
# A syntax of calls that no known template writes
FOREIGN = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n' + message.content -}}"
    "{%- for call in message.tool_calls or [] -%}{{- '<tool_call>call ' + call.function.name + ' with nothing"
    "</tool_call>' -}}{%- endfor -%}{{- '<|im_end|>\\n' -}}{%- endfor -%}"
)


def told(*made: Path, **keys: Any) -> list[str]:
    """The problems of a config that has these keys only; `__` stands for a dot, `made` as of `startup_problems`."""
    config = OmegaConf.create({})
    for key, value in keys.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return [str(finding) for finding in startup_problems(config, made)]


def model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> str:
    tokenizer.save_pretrained(folder)
    return str(folder)


@lru_cache
def tiny() -> PreTrainedTokenizerFast:
    return make_tokenizer(0)


def without(tokens: set[str]) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, which does not know these tokens."""
    tokenizer = tiny()
    text = tokenizer.backend_tokenizer.to_str()
    for token in tokens:
        text = text.replace(f'"{token}"', f'"{token[:-1]}_gone>"')
    return PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(text),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=tokenizer.chat_template,
    )


# ------------------------------ the model ------------------------------


@pytest.mark.parametrize("tokens", [{"<think>", "</think>"}, {"</think>"}, {"<tool_call>", "</tool_call>"}])
def test_a_model_without_the_tags_is_refused_before_anything_starts(tmp_path: Path, tokens: set[str]) -> None:
    (problem,) = told(actor_rollout_ref__model__path=model(tmp_path, without(tokens)))
    assert problem.startswith(f"actor_rollout_ref.model.path={tmp_path}: ")
    assert all(token in problem for token in tokens)
    assert "use a model of the Qwen3 family" in problem


def test_the_tokenizer_that_is_trained_with_is_looked_at(tmp_path: Path) -> None:
    good = model(tmp_path / "good", tiny())
    bad = model(tmp_path / "bad", without({"<think>"}))
    assert told(actor_rollout_ref__model__path=good) == []
    assert told(actor_rollout_ref__model__path=bad, actor_rollout_ref__model__tokenizer_path=good) == []
    (problem,) = told(actor_rollout_ref__model__path=good, actor_rollout_ref__model__tokenizer_path=bad)
    assert "actor_rollout_ref.model.tokenizer_path" in problem


def test_a_template_that_writes_calls_in_another_syntax_is_refused(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(tiny())
    ours, tokenizer.chat_template = tokenizer.chat_template, FOREIGN
    path = model(tmp_path, tokenizer)
    (problem,) = told(actor_rollout_ref__model__path=path)
    assert "writes tool calls in a syntax that is none of ['glm', 'hermes', 'qwen3_coder']" in problem
    assert told(actor_rollout_ref__model__path=path, actor_rollout_ref__model__custom_chat_template=ours) == []


@pytest.mark.parametrize("path", ["hdfs://models/qwen3", "/nowhere/qwen3"])
def test_a_model_that_is_not_here_is_left_to_verl(path: str) -> None:
    assert told(actor_rollout_ref__model__path=path) == []


# ------------------------------ tools and reward ------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        ("tools:\n  - class_name: verl_axpo.tools.pyton.Python", "verl_axpo.tools.pyton.Python, which cannot be"),
        ("tools:\n  - class_name: verl_axpo.tools.python.Pyton", "verl_axpo.tools.python.Pyton, which cannot be"),
        ("tools:\n  - class_nam: verl_axpo.tools.python.Python", "names None, which cannot be"),
        ("tools:\n  - class_name: Python", "names Python, which cannot be"),
        ("tools: []", "has no list `tools:`"),
        ("- verl_axpo.tools.python.Python", "has no list `tools:`"),
        ("tools: [", "is no YAML"),
        ("", "has no list `tools:`"),
    ],
)
def test_a_missing_or_misspelt_tool_is_reported(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "tools.yaml"
    if content is not None:
        path.write_text(content)
    (line,) = told(**{f"{ROLLOUT}.multi_turn.tool_config_path": str(path)})
    assert problem in line


def test_the_paper_s_tools_are_all_there() -> None:
    assert told(**{f"{ROLLOUT}.multi_turn.tool_config_path": str(CONFIG_DIR / "paper.yaml")}) == []


def test_a_missing_file_of_function_tools_is_reported() -> None:
    (line,) = told(**{f"{ROLLOUT}.multi_turn.function_tool_path": "/nowhere/tools.py"})
    assert "function_tool_path=/nowhere/tools.py: no such file" in line


@pytest.mark.parametrize(
    ("path", "name", "problem"),
    [
        ("pkg://verl_axpo.rewards.outcom", "compute_score", "has no compute_score"),
        ("pkg://verl_axpo.rewards.outcome", "compute_scores", "has no compute_scores"),
        ("/nowhere/reward.py", "compute_score", "/nowhere/reward.py does not exist"),
        ("{folder}/reward.py", "compute_score", "has no compute_score"),
        ("{folder}/broken.py", "compute_score", "cannot be loaded: division by zero"),
        ("{folder}/reward.py", "score", None),
        ("pkg://verl_axpo.rewards.outcome", "compute_score", None),
    ],
)
def test_a_missing_or_misspelt_reward_is_reported(tmp_path: Path, path: str, name: str, problem: str | None) -> None:
    (tmp_path / "reward.py").write_text("def score(**_):\n    return 1.0\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    lines = told(reward__custom_reward_function={"path": path.format(folder=tmp_path), "name": name})
    assert [problem in line for line in lines] == [True] * (problem is not None)


# ------------------------------ rows ------------------------------


def written(path: Path, *rows: dict[str, Any]) -> str:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return str(path)


def row(text: str = "Which?", images: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": text}], "images": images or [], **more}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


def test_a_training_file_that_is_not_there_is_reported() -> None:
    lines = told(
        data__train_files=["/nowhere/a.parquet", "hdfs://there/b.parquet"], data__val_files="/nowhere/v.parquet"
    )
    assert ["no such file" in line for line in lines] == [True, True]
    assert "data.train_files=/nowhere/a.parquet" in lines[0]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (row("<image>Which?"), "row 1: 1 <image> for 0 image(s)"),
        (row("Which?", [{"bytes": picture()}]), "row 1: 0 <image> for 1 image(s)"),
        (row("<image><image>?", [{"bytes": picture()}]), "row 1: 2 <image> for 1 image(s)"),
        (row("<image>?", [{"image": "/nowhere/a.png"}]), "row 1: picture /nowhere/a.png is missing"),
        (row("<image>?", [{"image": "file:///nowhere/a.png"}]), "row 1: picture /nowhere/a.png is missing"),
        (row(agent_name="single_turn_agent"), "row 1: agent_name 'single_turn_agent', expected one of ['tool_agent'"),
    ],
)
def test_a_row_without_its_picture_or_with_another_loop_is_reported(tmp_path: Path, bad: Any, problem: str) -> None:
    good = row("<image>?", [{"bytes": picture()}], agent_name="tool_agent")
    path = written(tmp_path / "train.parquet", good, bad, bad)  # each kind once
    (line,) = told(data__train_files=path)
    assert problem in line


def test_a_file_without_prompts_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path / "train.parquet", {"question": "?"})
    (line,) = told(data__train_files=path)
    assert "no column 'prompt' among ['question']; docs/data.md describes the columns" in line
    (tmp_path / "torn.parquet").write_bytes(Path(path).read_bytes()[:-10])
    (line,) = told(data__train_files=str(tmp_path / "torn.parquet"))
    assert "not a whole parquet file" in line


def test_a_dataset_and_loops_of_the_user_s_own_are_the_user_s(tmp_path: Path) -> None:
    path = written(tmp_path / "train.parquet", row("<image>?", agent_name="mine"))
    assert told(data__train_files=path, data__custom_cls__path="my_dataset.py") == []
    lines = told(data__train_files=path, **{f"{ROLLOUT}.agent.agent_loop_config_path": "loops.yaml"})
    assert ["image(s)" in line for line in lines] == [True]


def test_everything_is_reported_at_once_but_what_an_earlier_command_makes(tmp_path: Path) -> None:
    keys = {
        "data__train_files": "/nowhere/a.parquet",
        "reward__custom_reward_function": {"path": "/nowhere/r.py", "name": "f"},
        f"{ROLLOUT}.multi_turn.tool_config_path": "/nowhere/t.yaml",
        "actor_rollout_ref__model__path": model(tmp_path, without({"<think>"})),
    }
    assert len(told(**keys)) == 4
    made = told(Path("/nowhere"), **keys)  # a later stage of a recipe
    assert [line.split("=")[0] for line in made] == [
        "actor_rollout_ref.model.path",
        "reward.custom_reward_function: /nowhere/r.py does not exist; name an existing file, or pkg://module",
    ]


def test_of_pictures_everything_but_their_bytes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training file of 60 GB would be read as a whole at every start."""
    asked: list[list[str]] = []
    read = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, size, columns: asked.append(columns) or read(self, size, columns=columns),
    )
    path = written(tmp_path / "a.parquet", row("<image>?", [{"bytes": picture(), "image": None}]), row("<image>?"))
    (line,) = told(data__train_files=path)
    assert "row 1: 1 <image> for 0 image(s)" in line
    assert "images.list.element.image" in asked[0]
    assert not [name for name in asked[0] if name.endswith(".bytes")]


def test_the_plugin_tells_settings_and_files_in_one_message(tmp_path: Path) -> None:
    from tests.unit.integration.test_completion import grpo_config
    from verl_axpo.integration.completion import complete

    config: DictConfig = grpo_config(axpo={"budget": -1})
    OmegaConf.update(config, "data", {"train_files": "/nowhere/a.parquet"}, force_add=True)
    with pytest.raises(ValueError, match=r"(?s)budget: got -1.*/nowhere/a.parquet: no such file"):
        complete(config)
