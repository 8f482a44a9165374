"""The judge against vLLM's own OpenAI-compatible server with an untrained tiny model.

The model says nothing sensible, so these tests show the transport only: vLLM accepts the requests, the verdict follows
the JSON schema, temperature 0 gives the same verdict again, and a reward is made of it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.tiny_world.__main__ import make
from examples.tiny_world.model import MAX_LENGTH
from tests.e2e.serving import vllm_server
from verl_axpo import prompts
from verl_axpo.errors import InfraFailure
from verl_axpo.rewards.config import JudgeConfig
from verl_axpo.rewards.judge import Judge
from verl_axpo.rewards.outcome import compute_score

MAX_TOKENS = 600  # the question takes about 350 of the model's 1024
NAME = "tiny-judge"
CASE = ("Which building?", "bars", "lines")


# Without it, a model that prefers blanks writes them between the tokens of the verdict for ever
NO_BLANKS = '{"backend": "xgrammar", "disable_any_whitespace": true}'


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a free port, until the module's tests are done."""
    folder = tmp_path_factory.mktemp("judge")
    make(folder, 0, {"train": 1, "val": 1, "heldout": 1, "sft_train": 1, "sft_val": 1})
    options = ("--max-model-len", str(MAX_LENGTH), "--structured-outputs-config", NO_BLANKS)
    with vllm_server(folder / "model", NAME, folder, *options) as url:
        yield url


def config(base_url: str, cache_dir: Path | None = None, model: str = NAME) -> JudgeConfig:
    cache = str(cache_dir) if cache_dir else None
    return JudgeConfig(base_url=base_url, model=model, api_key_env=None, cache_dir=cache, max_tokens=MAX_TOKENS)


async def test_a_verdict_in_the_schema_and_the_same_one_again(base_url: str) -> None:
    """Two judges without a cache: both ask, and temperature 0 makes them agree."""
    verdicts = []
    for _ in range(2):
        async with Judge(config(base_url)) as judge:
            verdicts.append(await judge.judge(*CASE))
    assert isinstance(verdicts[0].correct, bool)
    assert verdicts[0] == verdicts[1]


async def test_a_known_verdict_needs_no_server(base_url: str, tmp_path: Path) -> None:
    async with Judge(config(base_url, tmp_path)) as judge:
        asked = await judge.judge(*CASE)
    async with Judge(config("http://127.0.0.1:9/v1", tmp_path)) as judge:  # the discard port: nobody listens
        assert await judge.judge(*CASE) == asked


async def test_a_reply_that_is_cut_off_is_a_failure(base_url: str) -> None:
    settings = JudgeConfig(base_url=base_url, model=NAME, api_key_env=None, max_tokens=3)
    async with Judge(settings) as judge:
        with pytest.raises(InfraFailure, match="no verdict"):
            await judge.judge(*CASE)


async def test_a_question_beyond_the_models_context_is_a_failure(base_url: str) -> None:
    async with Judge(config(base_url)) as judge:
        with pytest.raises(InfraFailure, match="400"):
            await judge.judge("Which building? " * 2000, "bars", "lines")


async def test_a_model_that_is_not_served_is_a_failure(base_url: str) -> None:
    async with Judge(config(base_url, model="another")) as judge:
        with pytest.raises(InfraFailure, match="404"):
            await judge.judge(*CASE)


async def test_the_reward_asks_the_judge(base_url: str) -> None:
    async with Judge(config(base_url)) as judge:
        expected = await judge.judge(*CASE)
    question, truth, answer = CASE
    result = await compute_score(
        "mine",
        prompts.assistant_turn("hm", prompts.answer(answer))["content"],
        truth,
        {"answer_type": "judge", "question": question},
        judge={"base_url": base_url, "model": NAME, "api_key_env": None, "max_tokens": MAX_TOKENS},
    )
    assert (result["score"], result["infra_failure"]) == (float(expected.correct), 0.0)
