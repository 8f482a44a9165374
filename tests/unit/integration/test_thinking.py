"""Where a response starts, inside thinking or outside: asked of the template with the kwargs that every prompt gets."""

from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from examples.tiny_world.__main__ import make_tokenizer
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.tools.chat_format import format_of

OPENED = "{{- '<|im_start|>assistant\\n<think>\\n' -}}"
# Qwen3's switch: `enable_thinking=False` closes the thinking before the policy writes
SWITCHED = (
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- else -%}{{- '<think>\\n' -}}{%- endif -%}"
)
CALL = '<tool_call>\n{"name": "python", "arguments": {"code": "1"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer(0)
    assert OPENED in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(OPENED, SWITCHED)
    return tokenizer


class Replay:
    """verl's server client: hands out the turns, keeps the prompts."""

    def __init__(self, *turns: list[int]) -> None:
        self.turns, self.prompts = list(turns), list[list[int]]()

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.prompts.append(list(prompt_ids))
        ids = self.turns[len(self.prompts) - 1]
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={})


async def trajectory_of(tokenizer: Any, kwargs: dict[str, Any], *turns: str) -> tuple[Trajectory, str]:
    """A text trajectory through verl's loop, and the last prompt that the policy saw."""
    multi_turn = {
        "max_user_turns": None,
        "max_assistant_turns": 3,
        "max_parallel_calls": 1,
        "max_tool_response_length": 200,
        "tool_response_truncate_side": "middle",
        "format": "axpo",
    }
    rollout = {"multi_turn": multi_turn, "prompt_length": 256, "response_length": 512, "full_determinism": False}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "algorithm": {}})
    replay = Replay(*(tokenizer.encode(turn + "<|im_end|>") for turn in turns))
    data = DictConfigWrap(OmegaConf.create({"apply_chat_template_kwargs": kwargs}))
    loop = AxpoToolAgentLoop(
        DictConfigWrap(config),
        replay,
        tokenizer,
        None,
        RLHFDataset,
        data,
        hf_model_type="qwen3",
        tools=ToolListWrap([]),
    )
    output = await loop.run({}, raw_prompt=[{"role": "user", "content": "1?"}])
    return output, tokenizer.decode(replay.prompts[-1])


@pytest.mark.parametrize(
    ("kwargs", "inside"),
    [({}, True), ({"enable_thinking": True}, True), ({"enable_thinking": False}, False), ({"other": [1]}, True)],
)
def test_the_prompt_is_rendered_with_the_kwargs_of_the_data(tokenizer: Any, kwargs: Any, inside: bool) -> None:
    assert bool(format_of(tokenizer, kwargs).opened) is inside
    assert bool(format_of(tokenizer, OmegaConf.create(kwargs)).opened) is inside


async def test_a_call_is_found_where_the_template_closed_the_thinking(tokenizer: Any) -> None:
    trajectory, last = await trajectory_of(tokenizer, {"enable_thinking": False}, CALL, "<answer>1</answer>")
    assert last.endswith("<think>\n\n</think>\n\n")  # so the turn after the tool starts outside thinking as well
    assert (trajectory.prefix_len, [call.name for call in trajectory.tool_calls]) == (1, ["python"])


async def test_a_call_inside_thinking_is_still_only_thought(tokenizer: Any) -> None:
    trajectory, _ = await trajectory_of(tokenizer, {}, CALL)
    assert trajectory.prefix_len is None
    reopened, _ = await trajectory_of(tokenizer, {"enable_thinking": False}, "<think>\n" + CALL)
    assert reopened.prefix_len is None


def test_with_images_the_processors_template_counts(tokenizer: Any) -> None:
    class Processor:
        def __init__(self) -> None:
            self.tokenizer = tokenizer

        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            assert messages[0]["content"] == [{"type": "text", "text": "?"}]  # as processors want it
            return "<|im_start|>assistant\n"

    assert format_of(tokenizer).opened
    assert not format_of(Processor()).opened
