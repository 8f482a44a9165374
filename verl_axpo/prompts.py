"""The words around a question: system prompt, tool schemas, tool-call and answer format.

SFT rows, RL prompts and evaluation all take them from here, so that a model is never asked in other words than it was
taught in (paper, section 2).

    tool names -> system_prompt()  -> system turn
               -> tool_schemas()   -> `tools=` of the chat template
    problem    -> prompt_messages() -> the messages of one question
    teacher    -> tool_call(), answer() -> what an assistant turn ends in
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

VERSION = 2  # raise when results change

Message = dict[str, Any]
Schema = dict[str, Any]

# When to prefer a tool, one line each; the schema says how to call it.
_ADVICE: dict[str, str] = {
    "python": "python: when a result has to be computed, counted, measured or drawn rather than estimated.",
    "image_zoom_in": "image_zoom_in: when a detail is too small to read at the size you see the image in.",
    "tavily-search": "tavily-search: when the answer is a fact that you are not sure of.",
}


def _schema(name: str, description: str, parameters: Mapping[str, tuple[str, str]], required: Sequence[str]) -> Schema:
    """An OpenAI function schema; parameters are (type, description) by name.

    The key order is the one pydantic dumps (verl.tools.schemas), which is the order the rollout renders.
    """
    properties = {key: {"type": kind, "description": text} for key, (kind, text) in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


_SCHEMAS: dict[str, Schema] = {
    "python": _schema(
        "python",
        "Run Python code like a notebook cell: variables stay for later calls; printed text, the last expression's "
        "value and shown figures come back. numpy, scipy, sympy, matplotlib and PIL are installed; the conversation's "
        "images are in `_pil_images` (PIL) and `_images` (paths). No network, no processes.",
        {
            "code": ("string", "The code to run."),
            "timeout": ("number", "Seconds the code may take (default 12)."),
        },
        ["code"],
    ),
    "image_zoom_in": _schema(
        "image_zoom_in",
        "Crop a box out of an image and return it magnified.",
        {
            "bbox_2d": ("array", "The box as [x1, y1, x2, y2], in thousandths of width and height."),
            "label": ("string", "What the box shows."),
            "img_idx": ("integer", "Which image of the conversation to crop, counted from 0 (the default)."),
        },
        ["bbox_2d", "label"],
    ),
    "tavily-search": _schema(
        "tavily-search",
        "Search the web and return passages with their sources.",
        {
            "query": ("string", "What to search for, in a few words."),
            "max_results": ("integer", "How many results to return, 1 to 20 (5 is the default)."),
        },
        ["query"],
    ),
}

_SYSTEM = """You answer questions about images. You may use tools, any number of times, or none.
{advice}Think and plan before each call. Give the final answer as <answer>\\boxed{{...}}</answer>."""

# Evaluation without tools must not speak of any
_SYSTEM_WITHOUT_TOOLS = """You answer questions about images.
Give the final answer as <answer>\\boxed{...}</answer>."""


def _known(tools: Sequence[str]) -> Sequence[str]:
    unknown = sorted(set(tools) - set(_SCHEMAS))
    if unknown:
        raise ValueError(f"unknown tools {unknown}; choose from {sorted(_SCHEMAS)}")
    return tools


def system_prompt(tools: Sequence[str], *, strict: bool = True) -> str:
    """The system turn: names each tool, when to prefer it, and the answer format; without tools only the last.

    Args:
        strict: refuse the name of a tool that is not ours; else only its schema speaks of it.

    Raises:
        ValueError: a tool without a schema here, if `strict`.
    """
    if not tools:
        return _SYSTEM_WITHOUT_TOOLS
    advice = [_ADVICE[name] for name in (_known(tools) if strict else tools) if name in _ADVICE]
    return _SYSTEM.format(advice="".join(f"{line}\n" for line in advice))


def tool_schema(name: str) -> Schema:
    """The OpenAI function schema of one tool, as `OpenAIFunctionToolSchema.model_dump` orders it."""
    return deepcopy(_SCHEMAS[_known([name])[0]])


def zoom_schema(coord_mode: str) -> Schema:
    """The schema of `image_zoom_in` for a model family: what its boxes are counted in is what it is told."""
    schema = tool_schema("image_zoom_in")
    if coord_mode == "pixel":
        box = schema["function"]["parameters"]["properties"]["bbox_2d"]
        box["description"] = "The box as [x1, y1, x2, y2], in pixels of the image as you see it."
    return schema


def tool_schemas(tools: Sequence[str]) -> list[Schema]:
    """The schemas of several tools, in the order given."""
    return [tool_schema(name) for name in tools]


def prompt_messages(question: str, tools: Sequence[str], *, strict: bool = True) -> list[Message]:
    """System and user turn of one question; `<image>` in `question` stands for the next image of the row."""
    return [{"role": "system", "content": system_prompt(tools, strict=strict)}, {"role": "user", "content": question}]


def tool_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as the policy writes it: one JSON object between the tags."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": dict(arguments)}) + "\n</tool_call>"


def answer(text: str) -> str:
    """A final answer in the format that `verl_axpo.rewards.answer` reads."""
    return f"<answer>\\boxed{{{text}}}</answer>"


def assistant_turn(thinking: str, action: str) -> Message:
    """One assistant message, with the `<think>` and newline that in a rollout the generation prompt already holds."""
    return {"role": "assistant", "content": f"<think>\n{thinking}\n</think>\n\n{action}"}
