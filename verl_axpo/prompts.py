"""The words around a question: system prompt, tool schemas, tool-call and answer format.

SFT rows, RL prompts and evaluation all take them from here, so that a model is never asked in other words than it was
taught in (paper, section 2).

    [ToolPrompt] -> system_prompt()  -> system turn
                 -> tool_schemas()   -> `tools=` of the chat template
    problem      -> prompt_messages() -> the messages of one question
    teacher      -> tool_call(), answer() -> what an assistant turn ends in

What a tool's `ToolPrompt` is, says `verl_axpo.tools.described`.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

VERSION = 3  # raise when results change
IMAGE = "<image>"  # in a question: its next image

Message = dict[str, Any]
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPrompt:
    """What the policy is told of a tool.

    Attributes:
        schema: in OpenAI's function format, with the keys in the order in which the rollout renders them.
        advice: when to prefer the tool, a line of the system prompt; None: its schema alone speaks of it.

    Example: `ToolPrompt(schema={"type": "function", "function": {"name": "coin", ...}}, advice="coin: to draw lots.")`
    """

    schema: Schema
    advice: str | None = None

    @property
    def name(self) -> str:
        """As the policy calls it."""
        return str(self.schema["function"]["name"])


_SYSTEM = """You answer questions{about}. You may use tools, any number of times, or none.
{advice}Think and plan before each call. Give the final answer as <answer>\\boxed{{...}}</answer>."""

# Evaluation without tools must not speak of any
_SYSTEM_WITHOUT_TOOLS = """You answer questions{about}.
Give the final answer as <answer>\\boxed{{...}}</answer>."""


def system_prompt(tools: Sequence[ToolPrompt], *, images: bool = True) -> str:
    """The system turn: when to prefer each tool, and the answer format; without tools only the format.

    Args:
        tools: of the run, in the order of its tool config.
        images: whether the question has any; a question of text alone is not told of images.
    """
    about = " about images" if images else ""
    if not tools:
        return _SYSTEM_WITHOUT_TOOLS.format(about=about)
    advice = "".join(f"{tool.advice}\n" for tool in tools if tool.advice)
    return _SYSTEM.format(about=about, advice=advice)


def tool_schemas(tools: Sequence[ToolPrompt]) -> list[Schema]:
    """The schemas of several tools, in the order given, as `tools=` of the chat template."""
    return [deepcopy(tool.schema) for tool in tools]


def prompt_messages(question: str, tools: Sequence[ToolPrompt]) -> list[Message]:
    """System and user turn of one question; `<image>` in `question` stands for the next image of the row."""
    system = system_prompt(tools, images=IMAGE in question)
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def tool_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as the policy writes it: one JSON object between the tags."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": dict(arguments)}) + "\n</tool_call>"


def answer(text: str) -> str:
    """A final answer in the format that `verl_axpo.rewards.answer` reads."""
    return f"<answer>\\boxed{{{text}}}</answer>"


def assistant_turn(thinking: str, action: str) -> Message:
    """One assistant message, with the `<think>` and newline that in a rollout the generation prompt already holds."""
    return {"role": "assistant", "content": f"<think>\n{thinking}\n</think>\n\n{action}"}
