"""Benchmarks through verl's validation: the rows as verl reads them, and the reward against the stand-alone scorer."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from tensordict import TensorDict
from transformers import AutoProcessor, Qwen3VLProcessor
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.config import SamplingConfig

from examples import benchmark_rows
from examples.tiny_world import model
from examples.tiny_world.__main__ import make_tokenizer
from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS
from tests.unit.eval.test_cli import Serve, cli
from verl_axpo import integration, prompts
from verl_axpo.agent.conversation import TextConversation
from verl_axpo.data import parquet
from verl_axpo.data.rows import rl_schema
from verl_axpo.errors import InfraFailure
from verl_axpo.eval import benchmarks
from verl_axpo.eval.export import question_of, row, write
from verl_axpo.eval.reward import compute_score
from verl_axpo.eval.sampling import Limits, Sampling
from verl_axpo.eval.types import Question
from verl_axpo.prompts import ToolPrompt
from verl_axpo.rewards import outcome
from verl_axpo.tools.described import described, load_tools, prompt_of
from verl_axpo.tools.paper_tools import PAPER_TOOLS

AXPO_TRAINER = Path(integration.__file__).parent / "config/axpo_trainer.yaml"
TOOLS = list(PAPER_TOOLS.values())
JUDGED = ("math_vr", "visualprobe", "hr_mmsearch", "mmsearch")
# The right answer to each fixture question, read off examples/benchmark_rows/rows.py
RIGHT = {
    "mathvision": ("C", "B", "6.28"),
    "dynamath": ("3.1416", "B", "blue", "5"),
    "math_vr": ("3", "4; 9"),
    "vstar": ("A", "B"),
    "visualprobe": ("exit", "orange"),
    "hrbench_4k": ("A", "A"),
    "hrbench_8k": ("A", "A"),
    "hr_mmsearch": ("Paris", "1863-01-10"),
    "mmsearch": ("Joan Miro", "1851-05-01", "invalid question"),
}
WRONG = "Z or Y"  # no option, no number, no name


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Question]]:
    """The fixtures' questions of all nine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        data = benchmark_rows.write(tmp_path_factory.mktemp("benchmarks"))
        return {name: benchmarks.load(name, data[name], check_count=False) for name in benchmarks.names()}


@pytest.fixture(scope="module", params=[False, True], ids=["referenced", "embedded"])
def embed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def exported(questions: dict[str, list[Question]], embed: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "nine.parquet"
    assert write(path, questions.values(), TOOLS, embed=embed) == sum(map(len, RIGHT.values()))
    assert (path.parent / "nine.images").exists() is not embed
    return path


@pytest.fixture(scope="module")
def verls(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows as verl's own dataset hands them to the rollouts."""
    folder = tmp_path_factory.mktemp("model")
    model.save(folder, make_tokenizer(0), 0)
    processor: Qwen3VLProcessor = AutoProcessor.from_pretrained(folder)
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(folder), "return_raw_chat": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        dataset = RLHFDataset(str(exported), processor.tokenizer, config, processor)
    return [dataset[at] for at in range(len(dataset))]


@pytest.fixture(scope="module")
def pairs(questions: dict[str, list[Question]], verls: list[dict[str, Any]]) -> list[tuple[Question, dict[str, Any]]]:
    """Each question and the row that verl has of it."""
    return list(zip((question for asked in questions.values() for question in asked), verls, strict=True))


def response(answer: str) -> str:
    text: str = prompts.assistant_turn("hm", prompts.answer(answer))["content"]
    return text


async def reward(found: Mapping[str, Any], text: str, **reward_kwargs: Any) -> Mapping[str, float | None]:
    truth = found["reward_model"]["ground_truth"]
    return await compute_score(found["data_source"], text, truth, found["extra_info"], **reward_kwargs)


# ------------------------------ the rows ------------------------------


def test_a_row_leads_back_to_its_question(pairs: list[tuple[Question, dict[str, Any]]]) -> None:
    for question, found in pairs:
        truth = found["reward_model"]["ground_truth"]
        assert question_of(found["data_source"], truth, found["extra_info"]) == replace(question, images=())
    assert [found["index"] for _, found in pairs] == list(range(len(pairs)))
    assert {question.benchmark for question, _ in pairs} == set(RIGHT)


def test_verl_asks_in_the_runners_words(pairs: list[tuple[Question, dict[str, Any]]]) -> None:
    for question, found in pairs:
        runners = TextConversation(question.prompt, question.images, TOOLS).messages
        assert [message["role"] for message in found["raw_prompt"]] == ["system", "user"]
        assert [parts(message["content"]) for message in found["raw_prompt"]] == [
            parts(message["content"]) for message in runners
        ]
        assert pictures(found) == list(question.images)


def pictures(found: Mapping[str, Any]) -> list[bytes]:
    """The encoded images that verl will decode, in their order."""
    content = found["raw_prompt"][1]["content"]
    images = [] if isinstance(content, str) else [part for part in content if part["type"] == "image"]
    return [part["bytes"] if "bytes" in part else Path(part["image"]).read_bytes() for part in images]


def parts(content: Any) -> list[str]:
    """Texts, and where an image is; both ways hold a text without images as it is or as one part."""
    if isinstance(content, str):
        return [content]
    return [part["text"] if part["type"] == "text" else "an image" for part in content]


def test_rows_stand_beside_those_of_our_training_data(exported: Path, embed: bool) -> None:
    """verl concatenates its validation files, which takes one schema."""
    trained = datasets.Dataset(rl_schema(embed).empty_table())
    table = datasets.Dataset.from_parquet(str(exported), cache_dir=str(exported.parent))
    assert len(datasets.concatenate_datasets([trained, table])) == len(table)


def test_what_is_no_row_of_a_benchmark_is_refused(questions: dict[str, list[Question]], tmp_path: Path) -> None:
    one = questions["vstar"][0]
    with pytest.raises(ValueError, match=r"got 0 images for 1 <image>"):
        row(replace(one, images=()), 0, TOOLS, None)
    with pytest.raises(ValueError, match="unknown benchmark 'warm'; choose from"):
        row(replace(one, benchmark="warm"), 0, TOOLS, None)
    with pytest.raises(ValueError, match=r"expected a name that ends in \.parquet"):
        write(tmp_path / "nine.json", [[one]], TOOLS)
    with pytest.raises(ValueError, match="cannot be decoded"):
        write(tmp_path / "nine.parquet", [[replace(one, images=(b"no picture",))]], TOOLS)
    assert not (tmp_path / "nine.parquet").exists()
    for extra_info in ({}, {"metadata": "{", "id": "1"}, {"metadata": None}, {"metadata": "{}", "id": "1"}):
        with pytest.raises(ValueError, match="export the benchmark again"):
            question_of("benchmark/vstar", "A", extra_info)


def test_tools_are_described_in_the_configs_order_without_being_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    assert described("paper") == TOOLS
    assert described(ZOOM_TOOLS) == [prompt_of(tool) for tool in load_tools(ZOOM_TOOLS)]
    speaking, silent = tmp_path / "speaking.yaml", tmp_path / "silent.yaml"
    entry = {"class_name": "my.Tool", "config": {"type": "native"}}
    schema = {"type": "function", "function": {"name": "python", "description": "Run."}}
    speaking.write_text(OmegaConf.to_yaml({"tools": [entry | {"tool_schema": schema, "advice": "python: to count."}]}))
    assert described(speaking) == [ToolPrompt(schema=schema, advice="python: to count.")]
    silent.write_text(OmegaConf.to_yaml({"tools": [entry]}))
    with pytest.raises(ValueError, match=r"my\.Tool does not say its schema"):
        described(silent)


def test_the_command_writes_what_was_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "some.parquet"
    options = ["--registry", "examples.benchmark_rows.registry", "--tools", "paper", "--out", str(out)]
    status, output = cli("export", *options, "--benchmark", "mmsearch", "--benchmark", "vstar", "--limit", "1")
    assert status == 0
    assert "wrote 2 questions" in output
    rows = list(parquet.iter_rows(out))
    assert [row["data_source"] for row in rows] == ["benchmark/mmsearch", "benchmark/vstar"]
    assert [row["ability"] for row in rows] == ["search", "perception"]
    assert rows[0]["extra_info"]["aliases"] == ["Miró", "Joan Miro"]
    assert {row["prompt"][0]["content"] for row in rows} == {prompts.system_prompt(TOOLS)}


# ------------------------------ the reward ------------------------------


async def test_the_reward_is_the_stand_alone_scorers_verdict(pairs: list[tuple[Question, dict[str, Any]]]) -> None:
    right = [answer for name in RIGHT for answer in RIGHT[name]]
    for (question, found), answer in zip(pairs, right, strict=True):
        name = f"{question.benchmark} {question.uid}"
        for text, said, correct in (
            (response(answer), answer, True),
            (response(WRONG), WRONG, False),
            ("hm\n</think>\n\nI do not know.", None, False),
            (response(" "), " ", False),
        ):
            score = await benchmarks.score(question, said, None)
            assert score.correct is correct, (name, said)
            expected = {"score": float(correct), "acc": float(correct), "answered": float(said is not None)}
            assert await reward(found, text) == expected | {"undecided": 0.0, "infra_failure": 0.0}, name


def verdict(correct: bool) -> list[dict[str, str]]:
    """A script of the server: one reply, as the judge asks for it."""
    return [{"text": json.dumps({"reason": "read both", "correct": correct})}]


async def test_the_judge_decides_where_the_rule_does_not(
    pairs: list[tuple[Question, dict[str, Any]]], serve: Serve
) -> None:
    server = serve(yes=verdict(True), no=verdict(False))
    judge = {"base_url": server.url, "model": MODEL, "api_key_env": None}
    first = {question.benchmark: found for question, found in reversed(pairs)}
    for name in JUDGED:
        said = [await reward(first[name], response(f"some script:{word}"), judge=judge) for word in ("yes", "no")]
        assert [verdict["acc"] for verdict in said] == [1.0, 0.0]
        assert [verdict["infra_failure"] for verdict in said] == [0.0, 0.0]
    asked = server.requests()
    assert len(asked) == 2 * len(JUDGED)
    assert "also accepted: " in asked[-1]["messages"][-1]["content"]  # the aliases of MMSearch's first question


async def test_a_failed_judge_is_neither_right_nor_wrong(
    pairs: list[tuple[Question, dict[str, Any]]], serve: Serve
) -> None:
    found = next(found for question, found in pairs if question.benchmark == "visualprobe")
    server = serve(down=[{"status": 400, "error": "no"}])
    judge = {"base_url": server.url, "model": MODEL, "api_key_env": None}
    failed = await reward(found, response("some script:down"), judge=judge)
    assert failed == {"score": 0.0, "acc": None, "answered": 1.0, "undecided": 0.0, "infra_failure": 1.0}
    with pytest.raises(InfraFailure, match="question 0: judge failed"):
        await reward(found, response("some script:down"), judge=judge, on_infra_failure="raise")
    # verl's own averages: of one right answer and one that nobody could judge
    infos = {"acc": [1.0, failed["acc"]], "infra_failure": [0.0, 1.0]}
    averages = process_validation_metrics(["b", "b"], ["q", "q"], infos, expected_acc_counts={("b", "q"): 2})["b"]
    assert averages["acc_success_only"]["mean@1"] == 1.0
    assert averages["acc"]["mean@2"] == 0.5  # verl fills up with wrong ones; docs/evaluation.md says so
    assert averages["infra_failure"]["mean@2"] == 0.5


def test_verls_validation_cannot_say_all_of_the_papers_protocol() -> None:
    """What docs/evaluation.md says of `val_kwargs` and the config: a new field of verl's makes that table wrong."""
    rollout = yaml.safe_load(AXPO_TRAINER.read_text())["actor_rollout_ref"]["rollout"]
    paper = Sampling()
    said = {"temperature": paper.temperature, "top_p": paper.top_p, "top_k": paper.top_k}
    assert rollout["val_kwargs"] == said | {"n": 4, "do_sample": True}
    assert {field.name for field in dataclasses.fields(SamplingConfig)} - {"_target_"} == set(rollout["val_kwargs"])
    assert (rollout["multi_turn"]["max_assistant_turns"], Limits().max_turns) == (3, 5)


def test_verls_best_of_four_is_not_pass_at_4() -> None:
    """As docs/evaluation.md says: four of four drawn with replacement miss the one right answer (3/4)^4 of the time."""
    averages = process_validation_metrics(["b"] * 4, ["q"] * 4, {"acc": [1.0, 0.0, 0.0, 0.0]})["b"]["acc"]
    assert averages["mean@4"] == 0.25
    assert averages["best@4/mean"] == pytest.approx(1 - 0.75**4, abs=0.06)  # 1,000 draws: 4 standard errors


async def test_other_rows_get_the_outcome_reward() -> None:
    for text in (response("bars"), response("lines")):
        ours = await compute_score("tiny/perception", text, "bars", {"tool_rewards": [0.0]}, tool_bonus=0.1)
        theirs = await outcome.compute_score("tiny/perception", text, "bars", {"tool_rewards": [0.0]}, tool_bonus=0.1)
        assert ours == theirs
    with pytest.raises(ValueError, match="unknown keys"):
        await compute_score("benchmark/vstar", response("A"), "A", {}, f1=0.5)


class Characters:
    """A tokenizer of one id per character; the manager only decodes."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids.tolist()))


async def test_verls_reward_manager_loads_and_calls_it(pairs: list[tuple[Question, dict[str, Any]]]) -> None:
    found = next(found for question, found in pairs if question.benchmark == "mmsearch")
    function = {"path": "pkg://verl_axpo.eval.reward", "name": "compute_score"}
    config = OmegaConf.create({"reward": {"custom_reward_function": function}})
    ids = torch.tensor([[ord(letter) for letter in response("Miró")]])
    batch = TensorDict({"responses": ids, "attention_mask": torch.ones_like(ids)}, batch_size=1)
    columns = {key: np.array([found[key]], dtype=object) for key in ("data_source", "reward_model", "extra_info")}
    manager = NaiveRewardManager(config, Characters(), get_custom_reward_fn(config))
    manager.loop = asyncio.get_running_loop()
    result = await manager.run_single(DataProto(batch=batch, non_tensor_batch=columns))
    assert result["reward_score"] == 1.0
    assert result["reward_extra_info"]["acc"] == 1.0
