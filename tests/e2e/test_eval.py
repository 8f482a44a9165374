"""`verl-axpo eval` on the real stack: vLLM's own OpenAI server with the tiny SFT model, real tools, the report."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

from examples.tiny_world import benchmark
from tests.e2e.conftest import FastRun
from tests.e2e.serving import vllm_server
from verl_axpo import prompts
from verl_axpo.agent.client import ChatClient
from verl_axpo.agent.conversation import TextConversation
from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.sampling import Sampling
from verl_axpo.eval.store import Store
from verl_axpo.tools.configs import settings_of
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN, PYTHON, TAVILY_SEARCH

RUN_TIMEOUT_S = 600.0
QUESTIONS, ROLLOUTS = 6, 4
# 1024 tokens are the model's limit: it reads the benchmarks' questions byte by byte. The last two as in tiny_rl.yaml
OPTIONS = (
    *("--max-model-len", "1024", "--max-num-seqs", "32", "--max-num-batched-tokens", "8192"),
    *("--block-size", "16", "--no-enable-chunked-prefill"),
)


@pytest.fixture(scope="module")
def server(fast_run: FastRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of vLLM's server with the recipe's SFT model."""
    with vllm_server(fast_run.model, "tiny", tmp_path_factory.mktemp("server"), *OPTIONS) as url:
        yield url


def run_tiny(url: str, fast_run: FastRun, out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    questions = ["--benchmark", "perception", "--source", f"perception={fast_run.world}", "--limit", str(QUESTIONS)]
    return run_eval(url, out, "--registry", "examples.tiny_world.benchmark", *questions, *options)


def run_eval(url: str, out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    fixed = [
        *("--model", "tiny", "--base-url", url, "--out", str(out)),
        *("--rollouts", str(ROLLOUTS), "--temperature", "1.0", "--top-p", "1.0", "--top-k", "0"),
        *("--presence-penalty", "0", "--max-turns", "3", "--response-tokens", "128"),
    ]
    command = [sys.executable, "-c", "from verl_axpo.cli import main; main()", "eval", "run", *fixed, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)


def test_the_prompt_that_vllm_renders_is_the_one_of_training(server: str, fast_run: FastRun) -> None:
    """Token for token: system turn, schemas, image tokens, question, generation prompt."""
    question = benchmark.load("perception", fast_run.world, limit=1)[0]
    conversation = TextConversation(question.prompt, question.images, [IMAGE_ZOOM_IN])

    async def ask() -> list[int]:
        client = ChatClient(server, "tiny", retries=0)
        try:
            sampling = Sampling(temperature=0.0, top_p=None, top_k=None, presence_penalty=None)
            completion = await client.complete(
                conversation.messages, max_tokens=1, sampling=sampling, options=conversation.options()
            )
            return list(completion.prompt_ids or ())
        finally:
            await client.close()

    tokenizer = AutoTokenizer.from_pretrained(fast_run.model)
    system, user = prompts.prompt_messages(question.prompt, [IMAGE_ZOOM_IN])
    text_part = {"type": "text", "text": user["content"].removeprefix("<image>")}
    messages = [system, {**user, "content": [{"type": "image"}, text_part]}]
    schemas = [IMAGE_ZOOM_IN.schema]
    text = tokenizer.apply_chat_template(messages, tools=schemas, add_generation_prompt=True, tokenize=False)
    picture = Image.open(io.BytesIO(question.images[0])).convert("RGB")
    expected = AutoProcessor.from_pretrained(fast_run.model)(text=[text], images=[picture], return_tensors="pt")
    assert asyncio.run(ask()) == expected["input_ids"][0].tolist()


def test_an_evaluation_with_tools_ends_in_a_report_and_is_not_run_twice(
    server: str, fast_run: FastRun, tmp_path: Path
) -> None:
    out = tmp_path / "agent"
    done = run_tiny(server, fast_run, out, "--tools", f"{fast_run.world}/tools.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(out).load()
    rollouts = list(store.rollouts())
    assert len(rollouts) == QUESTIONS * ROLLOUTS == len(store.scores)
    assert all(rollout.status is not Status.INFRA_FAILURE for rollout in rollouts)
    called = [rollout for rollout in rollouts if rollout.uses_tool]
    assert called, "no rollout called the tool, so that this test would only be about single turns"
    # The server returned token ids, so the runner could compare each prompt with what was sampled
    assert all(rollout.token_exact is not None for rollout in rollouts if len(rollout.turns) > 1)
    assert all(rollout.token_exact is None for rollout in rollouts if len(rollout.turns) == 1)
    report = json.loads((out / "report.json").read_text())
    share = sum(score.correct is True for score in store.scores.values()) / len(rollouts)
    assert report["measures"]["pass_1"]["perception"]["value"] == pytest.approx(share)
    assert (out / "report.html").stat().st_size > 0
    nobody = "http://127.0.0.1:9/v1"
    again = run_tiny(nobody, fast_run, out, "--tools", f"{fast_run.world}/tools.yaml")
    assert again.returncode == 0, again.stdout
    assert "0 to sample" in again.stdout


def test_the_non_agent_mode_takes_one_turn(server: str, fast_run: FastRun, tmp_path: Path) -> None:
    done = run_tiny(server, fast_run, tmp_path / "plain", "--no-agent")
    assert done.returncode == 0, done.stdout + done.stderr
    rollouts = list(Store(tmp_path / "plain").load().rollouts())
    assert len(rollouts) == QUESTIONS * ROLLOUTS
    assert {len(rollout.turns) for rollout in rollouts} == {1}
    assert not any(turn.calls for rollout in rollouts for turn in rollout.turns)


def test_all_nine_benchmarks_run_end_to_end_on_their_fixtures(server: str, fast_run: FastRun, tmp_path: Path) -> None:
    out = tmp_path / "nine"
    tools = ["--tools", f"{fast_run.world}/tools.yaml"]
    done = run_eval(server, out, "--registry", "examples.benchmark_rows.registry", *tools, "--paper")
    assert done.returncode == 0, done.stdout + done.stderr
    # The paper's three tools are described to the policy and can be called
    manifest = read_manifest(out)
    assert set(manifest.settings["tools"]) == set(settings_of("paper"))
    assert manifest.prompt is not None
    assert manifest.prompt["system"] == prompts.system_prompt([IMAGE_ZOOM_IN, PYTHON, TAVILY_SEARCH])
    report = json.loads((out / "report.json").read_text())
    assert len(report["benchmarks"]) == 9
    counts = [row["rollouts"] for row in report["benchmarks"].values()]
    assert all(count["done"] == count["planned"] > 0 for count in counts)
    assert "paper's SFT+AXPO" in (out / "report.md").read_text()
