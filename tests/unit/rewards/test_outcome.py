"""The reward as verl calls it: which grader a row gets, what earns what, and what happens without a verdict."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn

from tests.unit.rewards.conftest import Serve, verdict
from verl_axpo import prompts
from verl_axpo.errors import InfraFailure
from verl_axpo.rewards import graders
from verl_axpo.rewards.outcome import compute_score

KEYS = ["score", "acc", "answered", "undecided", "infra_failure"]


def response(answer: str) -> str:
    """A finished response with this final answer, as the policy writes it."""
    text: str = prompts.assistant_turn("hm", prompts.answer(answer))["content"]
    return text


# ------------------------------ routing ------------------------------


@pytest.mark.parametrize(
    ("data_source", "extra_info", "answer", "truth", "score"),
    [
        ("tiny/perception", {}, "bars", "bars", 1.0),
        ("tiny/perception", None, " BARS\n", "bars", 1.0),
        ("tiny/perception", {}, "lines", "bars", 0.0),
        ("tiny/perception", {}, "1/2", "0.5", 0.0),  # exact is exact
        ("mine", {"answer_type": "exact"}, "bars", "bars", 1.0),
        ("mine", {"answer_type": "math"}, "1/2", "0.5", 1.0),
        ("mine", {"answer_type": "math"}, "\\frac{1}{3}", 0.5, 0.0),
        ("mine", {"answer_type": "math"}, "7", 7, 1.0),
        ("tiny/perception", {"answer_type": "math"}, "1/2", "0.5", 1.0),  # the row wins over its source
        ("mine", {"answer_type": "choice"}, "(B) blue", "B", 1.0),
        ("mine", {"answer_type": "choice", "options": ["red", "blue"]}, "blue", "B", 1.0),
        ("mine", {"answer_type": "choice", "options": np.array(["red", "blue"])}, "red", "B", 0.0),
        ("fvqa", {"answer_type": None}, "Rome", "rome", 1.0),  # a column that is empty in this row
        ("lmms-lab/FVQA", {}, "The Eiffel tower", "Eiffel Tower", 1.0),
        ("fvqa", {"aliases": ["Paris"]}, "paris", "the French capital", 1.0),
        ("fvqa", {"aliases": np.array(["Paris"], dtype=object)}, "Rome", "the French capital", 0.0),
        ("fvqa/train", {}, "Obama", "Barack Obama", 0.0),
        ("mine", {"answer_type": "judge", "question": "?"}, "the bars", "Bars", 1.0),  # equal: nobody is asked
        ("mine", {"answer_type": "judge", "question": "?"}, "x" * 3000, "Bars", 0.0),  # no answer is that long
    ],
)
async def test_the_row_decides_how_it_is_graded(
    data_source: str, extra_info: dict[str, Any] | None, answer: str, truth: Any, score: float
) -> None:
    result = await compute_score(data_source, response(answer), truth, extra_info)
    assert result == {"score": score, "acc": score, "answered": 1.0, "undecided": 0.0, "infra_failure": 0.0}


async def test_further_data_sources_are_a_setting() -> None:
    types = {"Mine": "math"}
    assert (await compute_score("mine/train", response("1/2"), "0.5", {}, answer_types=types))["score"] == 1.0


@pytest.mark.parametrize("kind", ["math", "choice", "short_text", "judge", "exact"])
@pytest.mark.parametrize(
    "text", ["", "hm</think>", "hm</think>\\boxed{B}", "hm</think><answer>B", "<answer>B</answer></think>"]
)
async def test_a_missing_answer_is_wrong_whatever_the_truth(kind: str, text: str) -> None:
    for truth in ("B", ""):
        result = await compute_score("mine", text, truth, {"answer_type": kind, "question": "?"})
        assert (result["score"], result["answered"], result["infra_failure"]) == (0.0, 0.0, 0.0)


async def test_the_row_says_whether_the_prompt_opened_the_thinking() -> None:
    text, row = "so <answer>B</answer>, or", {"answer_type": "exact"}
    assert (await compute_score("mine", text, "B", row))["score"] == 1.0
    told = await compute_score("mine", text, "B", row | {"starts_in_think": True})
    assert (told["score"], told["answered"]) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["math", "choice", "short_text", "judge"])
async def test_an_empty_answer_is_wrong(kind: str) -> None:
    result = await compute_score("mine", response(""), "B", {"answer_type": kind, "question": "?"})
    assert (result["score"], result["answered"]) == (0.0, 1.0)


async def test_a_number_too_large_to_be_compared_is_wrong_and_counted() -> None:
    result = await compute_score("mine", response("9^{9^{9^{9}}}"), "\\pi", {"answer_type": "math"})
    assert (result["score"], result["undecided"], result["infra_failure"]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (
            {"data_source": "mine"},
            {},
            r"data_source 'mine' has no answer type; set extra_info.answer_type to one of \['math'",
        ),
        ({"data_source": ""}, {}, "data_source ''"),
        ({"extra_info": {"answer_type": "maths"}}, {}, r"answer_type 'maths' for 'tiny', expected one of \['math'"),
        ({"ground_truth": ["a", "b"]}, {}, "ground truth .*list.*aliases"),
        ({"ground_truth": None}, {}, "expected text or number"),
        ({"extra_info": {"answer_type": "choice"}}, {}, "ground truth 'bars' with 0 options"),
        ({"extra_info": {"answer_type": "short_text", "aliases": "x"}}, {}, "extra_info.aliases: got str 'x'"),
        ({"extra_info": {"answer_type": "judge"}}, {}, "extra_info.question is None"),
        (
            {"extra_info": {"answer_type": "judge", "question": "?"}},
            {},
            "none is configured; set reward_kwargs.judge.base",
        ),
        ({}, {"f1_threshold": 0.8}, r"unknown keys \['f1_threshold'\]; valid keys are \['answer_types'"),
        ({}, {"on_infra_failure": "ignore"}, r"on_infra_failure: got 'ignore', expected one of \['mark', 'raise'\]"),
        ({}, {"tool_bonus": -0.1}, "tool_bonus: got -0.1"),
        ({}, {"tool_bonus": 0.1, "tool_penalty": 0.1}, "choose one"),
        ({}, {"judge": {"model": "m"}}, r"missing keys \['base_url'\]"),
    ],
)
async def test_a_wrong_row_or_setting_says_what_to_do(
    row: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    defaults = {"data_source": "tiny", "solution_str": response("lines"), "ground_truth": "bars", "extra_info": {}}
    with pytest.raises(ValueError, match=message):
        await compute_score(**{**defaults, **row}, **settings)


# ------------------------------ the judge ------------------------------

JUDGED = {"answer_type": "judge", "question": "Which tower?", "aliases": ["Tour Eiffel"]}


async def test_the_judge_decides_where_the_words_differ(serve: Serve) -> None:
    server = serve(verdict(True), verdict(False))
    judge = {"base_url": server.base_url, "model": "referee", "api_key_env": None}
    yes = await compute_score("mine", response("the iron lady of Paris"), "Eiffel Tower", JUDGED, judge=judge)
    no = await compute_score("mine", response("Big Ben"), "Eiffel Tower", JUDGED, judge=judge)
    assert (yes["score"], no["score"]) == (1.0, 0.0)
    assert '"reference": "Eiffel Tower / Tour Eiffel"' in server.requests()[0]["body"]["messages"][1]["content"]


async def test_a_failed_judgement_is_marked_and_never_a_verdict(serve: Serve) -> None:
    judge = {"base_url": serve({"status": 400}).base_url, "model": "referee", "api_key_env": None}
    result = await compute_score("mine", response("Big Ben"), "Eiffel Tower", JUDGED, judge=judge)
    assert result == {"score": 0.0, "acc": 0.0, "answered": 1.0, "undecided": 0.0, "infra_failure": 1.0}
    with pytest.raises(InfraFailure, match="400"):
        await compute_score("mine", response("Big Ben"), "Eiffel Tower", JUDGED, judge=judge, on_infra_failure="raise")


# ------------------------------ tool bonus and penalty ------------------------------


@pytest.mark.parametrize(
    ("answer", "calls", "settings", "score"),
    [
        ("bars", [0.0], {"tool_bonus": 0.1}, 1.1),
        ("lines", [0.0, 0.0], {"tool_bonus": 0.1}, 0.1),  # once, however many calls
        ("bars", [], {"tool_bonus": 0.1}, 1.0),
        ("bars", [0.0], {"tool_penalty": 0.25}, 0.75),
        ("lines", [0.0], {"tool_penalty": 0.25}, -0.25),
        ("lines", [], {"tool_penalty": 0.25}, 0.0),
        ("bars", [0.0], {}, 1.0),
    ],
)
async def test_tool_use_changes_the_score_only_when_asked_to(
    answer: str, calls: list[float], settings: dict[str, float], score: float
) -> None:
    result = await compute_score("tiny", response(answer), "bars", {"tool_rewards": calls}, **settings)
    assert result["score"] == pytest.approx(score)
    assert result["acc"] == float(answer == "bars")


async def test_text_that_looks_like_a_call_earns_no_bonus() -> None:
    text = "hm</think><tool_call>{}</tool_call> <answer>bars</answer>"
    assert (await compute_score("tiny", text, "bars", {"tool_rewards": []}, tool_bonus=0.1))["score"] == 1.0


async def test_a_bonus_without_a_record_of_the_calls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"extra_info\.tool_rewards"):
        await compute_score("tiny", response("bars"), "bars", {}, tool_bonus=0.1)


# ------------------------------ in verl's own reward loop ------------------------------


class Characters:
    """A tokenizer of one id per character; the manager only decodes."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids.tolist()))


async def verls_result(
    text: str, extra_info: dict[str, Any], path: str = "pkg://verl_axpo.rewards.outcome", **reward_kwargs: Any
) -> dict[str, Any]:
    """What verl's reward manager makes of our function, loaded from a config as verl loads it."""
    function = {"path": path, "name": "compute_score", "reward_kwargs": reward_kwargs}
    config = OmegaConf.create({"reward": {"custom_reward_function": function}})
    ids = torch.tensor([[ord(letter) for letter in text]])
    batch = TensorDict({"responses": ids, "attention_mask": torch.ones_like(ids)}, batch_size=1)
    row = {
        "data_source": np.array(["tiny/perception"], dtype=object),
        "reward_model": np.array([{"ground_truth": "bars"}], dtype=object),
        "extra_info": np.array([extra_info], dtype=object),
        "tool_extra_fields": np.array([{"turn_scores": [], "tool_rewards": [0.0]}], dtype=object),
    }
    manager = NaiveRewardManager(config, Characters(), get_custom_reward_fn(config))
    manager.loop = asyncio.get_running_loop()
    result: dict[str, Any] = await manager.run_single(DataProto(batch=batch, non_tensor_batch=row))
    return result


async def test_verl_finds_awaits_and_logs_it() -> None:
    result = await verls_result(response("bars"), {"index": 0})
    assert result["reward_score"] == 1.0
    assert list(result["reward_extra_info"]) == KEYS


async def test_verl_hands_over_settings_and_the_calls_of_its_tool_loop() -> None:
    assert (await verls_result(response("bars"), {}, tool_penalty=0.5))["reward_score"] == 0.5


async def test_verl_hands_over_the_judge(serve: Serve) -> None:
    judge = {"base_url": serve(verdict(True)).base_url, "model": "referee", "api_key_env": None}
    result = await verls_result(response("lines"), {"answer_type": "judge", "question": "?"}, judge=judge)
    assert result["reward_score"] == 1.0


async def test_verls_command_line_reaches_it(serve: Serve) -> None:
    """The overrides of docs/rewards.md on verl's own defaults."""
    function = "reward.custom_reward_function"
    overrides = [
        f"{function}.path=pkg://verl_axpo.rewards.outcome",
        f"{function}.name=compute_score",
        f"+{function}.reward_kwargs.answer_types.mine=math",
        f"+{function}.reward_kwargs.judge.base_url={serve(verdict(True)).base_url}",
        f"+{function}.reward_kwargs.judge.model=referee",
        f"+{function}.reward_kwargs.judge.api_key_env=null",
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        reward = get_custom_reward_fn(compose("ppo_trainer", overrides))
    judged = {"data_source": "mine", "solution_str": response("Big Ben"), "extra_info": JUDGED}
    assert (await reward(ground_truth="Eiffel Tower", **judged))["score"] == 1.0
    half = {"data_source": "mine", "solution_str": response("1/2"), "extra_info": {}}
    assert (await reward(ground_truth="0.5", **half))["score"] == 1.0


async def test_a_project_adds_a_type_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of docs/rewards.md, cut out of the page."""
    page = (Path(__file__).parents[3] / "docs/rewards.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "my_reward.py" in block)
    (tmp_path / "my_reward.py").write_text(code)
    monkeypatch.setitem(graders.GRADERS, "even", graders.exact)  # so that the file's grader goes with the test
    for answer, score in (("1234", 1.0), ("7", 0.0)):
        result = await verls_result(response(answer), {"answer_type": "even"}, path=str(tmp_path / "my_reward.py"))
        assert result["reward_score"] == score
