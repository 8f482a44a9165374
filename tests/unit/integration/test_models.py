"""The matrix: model families by their original chat templates x thinking modes -> parser, loop, SFT, evaluation.

One conversation (a call with all kinds of arguments, an answer) is used thrice: as an SFT row through `SftDataset`, as
a rollout through verl's agent loop, whose policy writes the row's tokens, and as an evaluation's messages.

The templates come with TRL's wheel, which is read and not imported; the tokenizer is the tiny world's, with the tags of
all families.
"""

import copy
import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from examples.lfm2_syntax import LFM2
from examples.smollm2.checkpoint import TEMPLATE as SMOLLM2
from examples.tiny_world import model
from examples.tiny_world.__main__ import make_tokenizer
from examples.tiny_world.tables import png
from verl_axpo.agent.client import Completion
from verl_axpo.agent.conversation import TextConversation
from verl_axpo.core.types import Status
from verl_axpo.data import parquet
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop
from verl_axpo.integration.sft_dataset import SftDataset
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.prompts import ToolPrompt
from verl_axpo.tools import chat_format
from verl_axpo.tools import syntax as package
from verl_axpo.tools.chat_format import ChatFormat, Thinking, format_of
from verl_axpo.tools.syntax import HERMES, in_syntax

TEMPLATES = Path(sys.prefix) / "templates/trl/chat_templates"  # by recipes/setup_env.sh
MORE_TAGS = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
CODE = "print(\"<a href='x'>1 < 2</a>\\n</tool_call>\")\n"
ARGUMENTS = {"code": CODE, "box": [1, 2.5], "deep": True, "note": "7 中🎉"}
PARAMETERS = {
    "code": {"type": "string", "description": "Code."},
    "box": {"type": "array", "description": "Numbers."},
    "deep": {"type": "boolean", "description": "Or not."},
    "note": {"type": "string", "description": "A note."},
}
FUNCTION = {"name": "echo", "description": "Repeats.", "parameters": {"type": "object", "properties": PARAMETERS}}
FUNCTION["parameters"]["required"] = ["code"]  # type: ignore[index]
SCHEMA: dict[str, Any] = {"type": "function", "function": FUNCTION}
RESPONSE = "seven"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family with a thinking mode, and what its template shows."""

    template: str  # of TRL, or "tiny": the tiny world's, whose rules are Qwen3-VL-Thinking's; or "smollm2": ours
    model_type: str  # of config.json: it decides how verl joins turns
    syntax: str
    thinking: Thinking
    kwargs: dict[str, Any] = field(default_factory=dict)
    images: bool = False
    announces: bool = True

    def __str__(self) -> str:
        return "-".join([self.template, self.model_type, *(f"{key}={value}" for key, value in self.kwargs.items())])


OFF, ON = {"enable_thinking": False}, {"enable_thinking": True}
CASES = [
    Case(template="tiny", model_type="qwen3_vl", syntax="hermes", thinking="opened", images=True),
    Case(template="qwen3_vl", model_type="qwen3_vl", syntax="hermes", thinking="own", images=True),
    Case(template="qwen3_vl", model_type="qwen3_vl_moe", syntax="hermes", thinking="own", images=True),
    Case(template="qwen3", model_type="qwen3", syntax="hermes", thinking="own"),
    Case(template="qwen3", model_type="qwen3_moe", syntax="hermes", thinking="closed", kwargs=OFF),
    Case(template="qwen3_instruct_2507", model_type="qwen3", syntax="hermes", thinking="own"),
    Case(template="qwen2_5", model_type="qwen2", syntax="hermes", thinking="own"),
    Case(template="qwen2_5_vl", model_type="qwen2_5_vl", syntax="hermes", thinking="own", images=True, announces=False),
    Case(template="qwen3_5_think", model_type="qwen3_5", syntax="qwen3_coder", thinking="opened", images=True),
    Case(
        template="qwen3_5_think",
        model_type="qwen3_5",
        syntax="qwen3_coder",
        thinking="closed",
        images=True,
        kwargs=OFF,
    ),
    Case(template="qwen3_5_nothink", model_type="qwen3_5", syntax="qwen3_coder", thinking="closed", images=True),
    Case(
        template="qwen3_5_nothink",
        model_type="qwen3_5",
        syntax="qwen3_coder",
        thinking="opened",
        images=True,
        kwargs=ON,
    ),
    Case(template="qwen3_6", model_type="qwen3_5_moe", syntax="qwen3_coder", thinking="opened", images=True),
    Case(template="qwen3_6", model_type="qwen3_5", syntax="qwen3_coder", thinking="closed", kwargs=OFF),
    Case(template="qwen3_8", model_type="qwen3_5", syntax="qwen3_coder", thinking="opened", images=True),
    Case(
        template="qwen3_8",
        model_type="qwen3_5",
        syntax="qwen3_coder",
        thinking="opened",
        kwargs={"reasoning_effort": "low"},
    ),
    Case(template="qwen3_8", model_type="qwen3_5", syntax="qwen3_coder", thinking="closed", images=True, kwargs=OFF),
    Case(template="glm4moe", model_type="glm4_moe", syntax="glm", thinking="own"),
    Case(template="glm4moe", model_type="glm4_moe", syntax="glm", thinking="closed", kwargs=OFF),
    Case(template="smollm2", model_type="llama", syntax="hermes", thinking="own"),  # a type that verl does not know
]
cases = pytest.mark.parametrize("case", CASES, ids=str)


@lru_cache(maxsize=1)
def tiny() -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer(0)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MORE_TAGS)})
    return tokenizer


def models(case: Case) -> tuple[Any, Any]:
    """Tokenizer, and processor where the family has images."""
    tokenizer = copy.deepcopy(tiny())
    if case.template != "tiny":
        path = SMOLLM2 if case.template == "smollm2" else TEMPLATES / f"{case.template}.jinja"
        tokenizer.chat_template = path.read_text()
    return tokenizer, model.processor(tokenizer) if case.images else None


def format_for(case: Case) -> ChatFormat:
    tokenizer, processor = models(case)
    return format_of(processor or tokenizer, case.kwargs)


class Echo(BaseTool):
    """Keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__({}, OpenAIFunctionToolSchema.model_validate(SCHEMA))
        self.calls: list[dict[str, Any]] = []

    async def execute(self, instance_id: str, parameters: dict[str, Any], **_: Any) -> Any:
        self.calls.append(parameters)
        return ToolResponse(text=RESPONSE), 0.0, {}


class Replay:
    """verl's server client: hands out the turns, keeps the prompts."""

    def __init__(self, turns: list[list[int]]) -> None:
        self.turns, self.asked, self.params = list(turns), list[list[int]](), list[dict[str, Any]]()

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> TokenOutput:
        self.asked.append(list(prompt_ids))
        self.params.append(sampling_params)
        turn = self.turns[len(self.asked) - 1]
        return TokenOutput(token_ids=turn, log_probs=[-0.5] * len(turn), extra_fields={})


def thought(case: Case, text: str, thinking: str = "hm") -> str:
    """A turn of a row: it thinks unless the prompt closes thinking."""
    return text if case.thinking == "closed" else f"<think>\n{thinking}\n</think>\n\n{text}"


CALL = HERMES.write("echo", ARGUMENTS)
QUESTION = "<image>Which?"


def question_of(case: Case) -> str:
    return QUESTION if case.images else QUESTION.removeprefix("<image>")


def prompt_of(case: Case) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question_of(case)}]


def row_of(case: Case, *turns: str, responses: int = 1) -> dict[str, Any]:
    """An SFT row whose turns call the tool, but the last."""
    messages = prompt_of(case)
    for turn in turns:
        messages += [{"role": "assistant", "content": turn}, *[{"role": "tool", "content": RESPONSE}] * responses]
    row = {"messages": messages[: len(messages) - responses], "tools": json.dumps([SCHEMA])}
    return row | ({"images": [png(PICTURE)]} if case.images else {})


PICTURE = Image.linear_gradient("L").convert("RGB").resize((96, 64))


def sft_item(case: Case, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    parquet.write(folder / "sft.parquet", [row])
    settings = {"pad_mode": "no_padding", "max_length": 4096, "truncation": "error"}
    config = OmegaConf.create(settings | {"apply_chat_template_kwargs": case.kwargs})
    tokenizer, processor = models(case)
    return SftDataset(str(folder / "sft.parquet"), tokenizer, config, processor)[0]


def trained_runs(item: dict[str, Any]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for token, trained in zip(item["input_ids"].tolist(), item["loss_mask"].tolist(), strict=True):
        if trained:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


async def roll_out(
    case: Case, turns: list[list[int]], tool: Echo, folder: Path, response_length: int = 4096
) -> tuple[Trajectory, Replay]:
    tokenizer, processor = models(case)
    row = {"prompt": prompt_of(case)} | ({"images": [png(PICTURE)]} if case.images else {})
    parquet.write(folder / "rl.parquet", [row])
    settings = {"filter_overlong_prompts": False, "cache_dir": str(folder), "return_raw_chat": True}
    data = OmegaConf.create(settings | {"apply_chat_template_kwargs": case.kwargs})
    sample = RLHFDataset(str(folder / "rl.parquet"), tokenizer, data, processor)[0]
    multi_turn = {
        "max_user_turns": None,
        "max_assistant_turns": 4,
        "max_parallel_calls": 2,
        "max_tool_response_length": 200,
        "tool_response_truncate_side": "middle",
        "format": "axpo",
    }
    rollout = {
        "multi_turn": multi_turn,
        "prompt_length": 4096,
        "response_length": response_length,
        "full_determinism": False,
    }
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "algorithm": {}})
    replay = Replay(turns)
    loop = AxpoToolAgentLoop(
        DictConfigWrap(config),
        replay,
        tokenizer,
        processor,
        RLHFDataset,
        DictConfigWrap(data),
        hf_model_type=case.model_type,
        tools=ToolListWrap([tool]),
    )
    return await loop.run({}, raw_prompt=sample["raw_prompt"]), replay


@cases
def test_the_template_shows_its_format(case: Case) -> None:
    found = format_for(case)
    assert (found.syntax.name, found.thinking, found.announces) == (case.syntax, case.thinking, case.announces)
    assert found.opened == ("<think>\n" if case.thinking == "opened" else "")
    assert found.closes_turn is (case.syntax != "glm")


@cases
@pytest.mark.parametrize("calls", [1, 2])
async def test_sft_trains_what_the_rollout_produces(case: Case, calls: int, tmp_path: Path) -> None:
    """Id for id; and the loop finds the calls that the row was made with."""
    first, last = thought(case, "\n".join([CALL] * calls)), thought(case, "<answer>7</answer>", "so")
    item = sft_item(case, row_of(case, first, last, responses=calls), tmp_path)
    turns, tool = trained_runs(item), Echo()
    output, replay = await roll_out(case, turns, tool, tmp_path)

    tokenizer, _ = models(case)
    found = format_for(case)
    separated = found.closes_turn and case.template != "smollm2"  # whose newline belongs to the next message
    separator = len(tokenizer.encode("\n")) if separated else 0  # after the last turn, where no rollout ends
    learned = item["input_ids"].tolist()
    assert learned[: len(learned) - separator] == [*output.prompt_ids, *output.response_ids]
    starts = [at for at in range(1, len(learned)) if item["loss_mask"][at] and not item["loss_mask"][at - 1]]
    assert replay.asked == [learned[:start] for start in starts]
    written = found.syntax.write("echo", ARGUMENTS, [SCHEMA])
    shown = tokenizer.decode(turns[0])
    assert shown.count(written) == calls
    assert tool.calls == [ARGUMENTS] * calls
    assert (output.status, [call.arguments for call in output.tool_calls]) == (Status.OK, [ARGUMENTS] * calls)
    # AXPO's prefix ends with the opening tag, and its span with the closing one
    assert output.prefix_len is not None
    assert output.tool_call_span is not None
    ids = output.response_ids
    assert ids[output.prefix_len - 1] == tokenizer.convert_tokens_to_ids(found.syntax.opening)
    assert tokenizer.decode(ids[slice(*output.tool_call_span)]) == written.removeprefix("<tool_call>")
    assert output.confidence == pytest.approx(2.718281828**-0.5)
    assert sum(output.response_mask) == sum(output.turn_lengths)
    stops = [tokenizer.convert_tokens_to_ids(stop) for stop in found.syntax.stops]
    assert all(list(params.get("stop_token_ids", [])) == stops for params in replay.params)


@cases
async def test_a_tool_response_that_does_not_fit_changes_no_turn(case: Case, tmp_path: Path) -> None:
    """verl drops it, so the turn before keeps its last token, which GLM's response would have begun with."""
    first, last = thought(case, CALL), thought(case, "<answer>7</answer>", "so")
    turns = trained_runs(sft_item(case, row_of(case, first, last), tmp_path))
    output, _ = await roll_out(case, turns, Echo(), tmp_path, response_length=len(turns[0]) + 1)
    assert output.response_ids == turns[0]
    assert list(output.turn_lengths) == [len(turns[0])]
    assert output.status is Status.TRUNCATED


@cases
async def test_a_call_inside_thinking_is_ignored_and_a_broken_one_is_answered(case: Case, tmp_path: Path) -> None:
    tokenizer, _ = models(case)
    found, tool = format_for(case), Echo()
    written = found.syntax.write("echo", {"code": "1"}, [SCHEMA])
    end = "<|observation|>" if case.syntax == "glm" else "<|im_end|>"
    thinking = "" if found.opened else "<think>\n"
    only_thought = tokenizer.encode(f"{thinking}{written}{end}", add_special_tokens=False)
    output, _ = await roll_out(case, [only_thought], tool, tmp_path)
    assert (output.prefix_len, tool.calls) == (None, [])

    broken = f"{thinking}hm\n</think>\n\n{found.syntax.opening}oops, no call{found.syntax.closing}{end}"
    output, replay = await roll_out(case, [tokenizer.encode(broken), tokenizer.encode("7" + end)], tool, tmp_path)
    assert (len(output.tool_calls), output.tool_calls[0].ok, tool.calls) == (1, False, [])
    assert "The tool call " in tokenizer.decode(replay.asked[1])


@cases
def test_evaluation_reads_what_the_server_renders(case: Case) -> None:
    """The messages rendered by the same template; where it leaves the tools out, the second request has them."""
    tokenizer, processor = models(case)
    picture = png(PICTURE)["bytes"]
    tools = [ToolPrompt(schema=SCHEMA)]
    conversation = TextConversation(question_of(case), [picture] if case.images else [], tools, case.kwargs)

    def asked() -> Completion:
        messages = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if processor and isinstance(message["content"], str)
            else message
            for message in conversation.messages
        ]
        if processor:
            messages[1]["content"] = [
                {"type": "image"} if part["type"] == "image_url" else part for part in messages[1]["content"]
            ]
        offered = conversation.options()["tools"]
        prompt = (processor or tokenizer).apply_chat_template(
            messages, tools=offered, add_generation_prompt=True, tokenize=False, **case.kwargs
        )
        text = thought(case, written).removeprefix(found.opened)
        return completion(text, prompt)

    found = format_for(case)
    written = found.syntax.write("echo", ARGUMENTS, [SCHEMA])
    first = asked()
    assert conversation.announces(first) is case.announces
    if not case.announces:
        first = asked()
        assert conversation.announces(first)
        assert '"name": "echo"' in str(first.prompt_text)
    text, calls = conversation.read(first)
    assert text == thought(case, written)
    assert [(call.name, call.arguments) for call in calls] == [("echo", ARGUMENTS)]


def completion(text: str, prompt: str | None) -> Completion:
    return Completion(
        message={"role": "assistant", "content": text},
        finish_reason="stop",
        prompt_tokens=1,
        completion_tokens=1,
        prompt_text=prompt,
        prompt_ids=None,
        token_ids=None,
        seconds=0.0,
    )


# ------------------------------ what a template may not be ------------------------------


def refused(template: str, **more: Any) -> str:
    tokenizer = copy.deepcopy(tiny())
    tokenizer.chat_template = template
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # each test looks at the message
        format_of(tokenizer, **more)
    return str(caught.value)


@pytest.mark.parametrize("family", ["gemma4_v5", "gptoss", "lfm2_v2", "llama3_1", "deepseekv3"])
def test_an_unknown_syntax_is_refused_in_plain_words(family: str) -> None:
    said = refused((TEMPLATES / f"{family}.jinja").read_text().replace("bos_token", "'<s>'"))
    assert "in a syntax that is none of ['glm', 'hermes', 'qwen3_coder'], so that no call of the model" in said
    assert "docs/add_a_model.md" in said


def test_an_ambiguous_template_needs_a_name() -> None:
    both = (
        (TEMPLATES / "qwen3_5_think.jinja")
        .read_text()
        .replace("# Tools", '# Tools\\n\\nSuch as <tool_call>{\\"name\\": 1}</tool_call>')
    )
    assert "shows the call syntaxes hermes and qwen3_coder; name the right one in rollout.multi_turn.format" in refused(
        both
    )
    tokenizer = copy.deepcopy(tiny())
    tokenizer.chat_template = both
    assert format_of(tokenizer, named="qwen3_coder").syntax.name == "qwen3_coder"
    assert "writes calls in the syntax hermes or qwen3_coder, not in glm" in refused(both, named="glm")


def test_a_model_without_thinking_tokens_calls_from_its_first_token_on() -> None:
    """Qwen2.5-VL's tokenizer: neither tag of thinking is a token."""
    text = tiny().backend_tokenizer.to_str().replace('"<think>"', '"<think_>"').replace('"</think>"', '"</think_>"')
    plain = PreTrainedTokenizerFast(
        tokenizer_object=type(tiny().backend_tokenizer).from_str(text),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    plain.chat_template = (TEMPLATES / "qwen2_5_vl.jinja").read_text()
    found = format_of(plain)
    assert (found.thinking, found.opened, found.announces) == ("none", "", False)
    parser, ids = found.parser(plain), plain.encode(CALL)
    (span,) = parser.spans(ids)
    assert parser.parse(ids, span).arguments == ARGUMENTS


def test_a_row_that_thinks_where_the_prompt_closes_thinking_is_refused(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.thinking == "closed")
    row = row_of(case, "<think>\nhm\n</think>\n\n<answer>7</answer>")
    with pytest.raises(ValueError, match="generation prompt closes thinking; leave the thinking out of the rows"):
        sft_item(case, row, tmp_path)


def test_a_row_with_calls_in_a_third_syntax_is_refused(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.syntax == "glm")
    row = row_of(case, "<tool_call>\n<function=echo>\n</function>\n</tool_call>", "7")
    with pytest.raises(ValueError, match=r"row 0: got the call '<tool_call>.*expected hermes \(JSON\) or glm"):
        sft_item(case, row, tmp_path)


# ------------------------------ a family that is not built in ------------------------------


@pytest.fixture
def with_lfm2(monkeypatch: pytest.MonkeyPatch) -> Any:
    """docs/add_a_model.md: its entry point, as an installed package would have it."""
    monkeypatch.setattr(package.metadata, "entry_points", lambda group: [SimpleNamespace(name="l", load=lambda: LFM2)])
    for cached in (package.syntaxes, chat_format._format_of):
        cached.cache_clear()
    yield
    for cached in (package.syntaxes, chat_format._format_of):
        cached.cache_clear()


@pytest.mark.usefixtures("with_lfm2")
def test_the_pages_family_is_found_read_and_written() -> None:
    tokenizer = copy.deepcopy(tiny())
    tokenizer.add_special_tokens({"additional_special_tokens": [LFM2.opening, LFM2.closing]})
    tokenizer.chat_template = (TEMPLATES / "lfm2_v2.jinja").read_text().replace("bos_token", "''")
    found = format_of(tokenizer)
    assert (found.syntax.name, found.announces) == ("lfm2", True)
    text = in_syntax(f"<think>\nhm\n</think>\n\n{CALL}", found.syntax, [SCHEMA])
    assert text.startswith("<think>\nhm\n</think>\n\n<|tool_call_start|>[echo(code='print(")
    parser, ids = found.parser(tokenizer), tokenizer.encode(text, add_special_tokens=False)
    (span,) = parser.spans(ids)
    assert parser.parse(ids, span).arguments == ARGUMENTS
    assert tokenizer.decode(ids[: span.open + 1]).endswith("</think>\n\n<|tool_call_start|>")
    for bad in ("[echo()", "[echo(1)]", "[a(), b()]", "echo", "[x.y()]", "[f(a=g())]"):
        problem = found.syntax.decode(bad).problem
        assert problem is not None
        assert "expected [name(argument=value)]" in problem
