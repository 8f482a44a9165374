"""Two ways to one trajectory: verl's token loop in training, and the runner against a server, on the same turns.

The policy's turns are given. Training's loop gets them as token ids and builds each next prompt from ids; the runner
gets them as text, and its requests are rendered as a server renders them: chat template, then processor. The prompts
must be the same tokens, turn by turn, and so must be calls, tool responses and status.
"""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.config import MultiTurnConfig
from verl.workers.rollout.replica import TokenOutput

from examples.tiny_world import model, world
from examples.tiny_world.__main__ import make_tokenizer
from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer
from verl_axpo import integration, prompts
from verl_axpo.agent.client import ChatClient
from verl_axpo.agent.loop import Agent, Toolbox
from verl_axpo.eval.sampling import Limits
from verl_axpo.eval.types import AgentRun
from verl_axpo.integration.agent_loop import PARSER_NAME, AxpoToolAgentLoop
from verl_axpo.integration.trajectory import Trajectory as Trained
from verl_axpo.tools.described import load_tools, prompt_of
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

AXPO_TRAINER = Path(integration.__file__).parent / "config/axpo_trainer.yaml"
LIMITS = Limits(max_turns=3, response_tokens=400)
THOUGHT = "the red frame is in column 2\n</think>\n\n"
FINAL = "lines\n</think>\n\n<answer>\\boxed{lines}</answer>"


def call(box: list[int]) -> str:
    return prompts.tool_call("image_zoom_in", {"bbox_2d": box, "label": "frame"})


TURNS = {
    "answer": [FINAL],
    "zoom": [THOUGHT + call([250, 250, 500, 500]), FINAL],
    "zoom twice": [THOUGHT + call([0, 0, 250, 250]), THOUGHT + call([250, 250, 500, 500]), FINAL],
    "box outside": [THOUGHT + call([0, 0, 2000, 10]), FINAL],
    "not JSON": [THOUGHT + "<tool_call>\n{oops\n</tool_call>", FINAL],
    "no such tool": [THOUGHT + prompts.tool_call("zap", {}), FINAL],
    # JSON can spell a chat marker, and half a character, in a name that verl's answer repeats
    "an armed name": [
        THOUGHT + '<tool_call>\n{"name": "zap\\u003c|im_end|>\\ud83d", "arguments": {}}\n</tool_call>',
        FINAL,
    ],
    "a call in thought": ["I could " + call([0, 0, 9, 9]) + " but no\n</think>\n\n<answer>\\boxed{bars}</answer>"],
    "two calls, one allowed": [THOUGHT + call([0, 0, 250, 250]) + call([0, 0, 500, 500]), FINAL],
    "no end": [THOUGHT + call([0, 0, 250, 250])] * 3,
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(0)


class Replay:
    """verl's server client, as far as the loop calls it: hands out the turns, keeps the prompts."""

    def __init__(self, turns: list[list[int]]) -> None:
        self.turns, self.prompts = list(turns), []

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.prompts.append(list(prompt_ids))
        ids = self.turns[len(self.prompts) - 1]
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={})


async def by_training(
    turns: list[list[int]], tokenizer: PreTrainedTokenizerFast, question: str, image: Image.Image
) -> tuple[list[list[int]], Trained]:
    multi_turn = {
        "max_user_turns": None,
        "max_assistant_turns": LIMITS.max_turns,
        "max_parallel_calls": LIMITS.parallel_calls,
        "max_tool_response_length": LIMITS.tool_response_chars,
        "tool_response_truncate_side": LIMITS.truncate_side,
        "format": PARSER_NAME,
    }
    rollout = {"multi_turn": multi_turn, "prompt_length": 192, "response_length": LIMITS.response_tokens}
    config = {"actor_rollout_ref": {"rollout": rollout | {"full_determinism": False}}, "algorithm": {}}
    replay = Replay(turns)
    loop = AxpoToolAgentLoop(
        DictConfigWrap(OmegaConf.create(config)),
        replay,
        tokenizer,
        model.processor(tokenizer),
        RLHFDataset,
        DictConfigWrap(OmegaConf.create({})),
        hf_model_type="qwen3_vl",
        tools=ToolListWrap(load_tools(ZOOM_TOOLS)),
    )
    system, user = prompts.prompt_messages(question, [IMAGE_ZOOM_IN])
    content = [{"type": "image", "image": image}, {"type": "text", "text": user["content"].removeprefix("<image>")}]
    output = await loop.run({}, raw_prompt=[system, {**user, "content": content}])
    return replay.prompts, output


async def by_runner(url: str, question: str, image: bytes) -> AgentRun:
    client = ChatClient(url, MODEL, retries=0)
    try:
        agent = Agent(client=client, keep=lambda picture: "", tools=load_tools(ZOOM_TOOLS), limits=LIMITS)
        return await agent.run(question, [image])
    finally:
        await client.close()


def rendered(request: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The prompt of a request: what vLLM's `apply_hf_chat_template` and the model's processor make of it."""
    images: list[Image.Image] = []
    messages = []
    for message in request["messages"]:
        content = message["content"]
        if not isinstance(content, str):
            content = [part if part["type"] == "text" else picture(part, images) for part in content]
        messages.append({**message, "content": content})
    text = tokenizer.apply_chat_template(messages, tools=request["tools"], add_generation_prompt=True, tokenize=False)
    ids = model.processor(tokenizer)(text=[text], images=images, return_tensors="pt")["input_ids"][0]
    return [int(token) for token in ids]


def picture(part: dict[str, Any], images: list[Image.Image]) -> dict[str, str]:
    data = part["image_url"]["url"].partition(",")[2]
    images.append(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    return {"type": "image"}


@pytest.mark.parametrize("name", TURNS)
def test_training_loop_and_runner_give_the_same_trajectory(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    problem = next(iter(world.examples("heldout", 1, 0))).problem
    question = "<image>" + problem.question.removeprefix("<image>") + " script:turns"
    end_of_turn = tokenizer.eos_token_id
    ids = [[*tokenizer.encode(turn, add_special_tokens=False), end_of_turn] for turn in TURNS[name]]
    tokens, trained = asyncio.run(by_training(ids, tokenizer, question, problem.images[0]))

    buffer = io.BytesIO()
    problem.images[0].save(buffer, format="PNG")
    asked = prompts.prompt_messages(question, [IMAGE_ZOOM_IN])
    tools = [IMAGE_ZOOM_IN.schema]
    prompt = tokenizer.apply_chat_template(asked, tools=tools, add_generation_prompt=True, tokenize=False)
    steps = [{"text": turn, "extra": {"reply": {"prompt_text": prompt}}} for turn in TURNS[name]]
    with ScriptedServer({"turns": steps}, tmp_path) as server:
        trajectory = asyncio.run(by_runner(server.url, question, buffer.getvalue()))
        requests = server.requests()

    assert [rendered(request, tokenizer) for request in requests] == tokens
    assert trajectory.status is trained.status
    calls = [call for turn in trajectory.turns for call in turn.calls]
    ours = [(call.name, call.arguments, call.ok, call.error) for call in calls]
    theirs = [(call.name, call.arguments, call.ok, call.error) for call in trained.tool_calls]
    assert ours == theirs
    assert trajectory.uses_tool is (trained.prefix_len is not None)


def test_verls_call_reads_what_the_toolbox_has() -> None:
    names = set(Toolbox._carry_out.__code__.co_names)
    of_self = {"tools", "max_tool_response_length", "tool_response_truncate_side"}
    assert of_self <= names
    tools = Toolbox([], [], LIMITS)
    assert of_self <= set(vars(tools))
    # everything else that the method reads from `self` would have to be an attribute of the loop
    loops = {"rollout_config", "server_manager", "tokenizer", "processor", "tool_parser", "metrics", "config", "loop"}
    assert not names & loops


def test_our_limits_default_to_verls_and_to_our_training_config() -> None:
    verls = MultiTurnConfig()
    ours = Limits()
    training = yaml.safe_load(AXPO_TRAINER.read_text())["actor_rollout_ref"]["rollout"]["multi_turn"]
    assert ours.tool_response_chars == training["max_tool_response_length"]
    assert ours.parallel_calls == verls.max_parallel_calls
    assert ours.truncate_side == verls.tool_response_truncate_side


def test_the_servers_tools_are_those_of_training() -> None:
    (tool,) = load_tools(ZOOM_TOOLS)
    assert prompt_of(tool) == IMAGE_ZOOM_IN
