"""What a model's chat template settles, found by rendering it: call syntax, thinking, how tools are announced.

    template + its kwargs -> small conversations rendered -> `format_of` -> `ChatFormat` -> parser, loop, SFT, checks
    a prompt as a server rendered it                      -> `format_in` -> the same, for evaluation

Nobody else looks into a template: what is asked here is asked once per process.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from verl_axpo.tools.parser import ToolCallParser, opened_think, tag_ids
from verl_axpo.tools.syntax import HERMES, CallSyntax, Schema, syntax, syntaxes

Message = dict[str, Any]
Thinking = Literal["opened", "closed", "own", "none"]

_TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    },
}
_CALLS = [  # some templates want the arguments as text
    {"type": "function", "function": {"name": "probe", "arguments": arguments}}
    for arguments in ({"key": "value"}, '{"key": "value"}')
]
SHOWN = 40  # characters of a tool's description that tell it from the rest of a prompt
_THOUGHT = "thought-of-the-probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """The format of a model's turns.

    Attributes:
        syntax: how calls are written.
        opened: what the generation prompt leaves open, `<think>\\n` for example; "" where a turn begins outside.
        thinking: opened or closed by the generation prompt, left to the model (own), or no tokens for it (none).
        closes_turn: whether the template puts an end after an assistant's text; if not, as GLM's, the token that begins
            the next message ends it.
        announces: whether the template renders tools; if not, `with_tools` puts them into the system prompt.
        drops_thinking: whether a rendered conversation lacks the thinking of turns before the last question. A rollout
            never renders a turn again, so it keeps all thinking; a server that gets messages may not.
    """

    syntax: CallSyntax
    opened: str
    thinking: Thinking
    closes_turn: bool
    announces: bool
    drops_thinking: bool

    def parser(self, tokenizer: Any) -> ToolCallParser:
        """The parser of such turns.

        Raises:
            ValueError: the tokenizer splits a tag.
        """
        return ToolCallParser(tokenizer, starts_in_think=bool(self.opened), syntax=self.syntax)

    def with_tools(self, messages: Sequence[Message], tools: Sequence[Schema]) -> list[Message]:
        """The messages, with the tools in the system prompt where the template leaves them out."""
        if self.announces or not tools:
            return list(messages)
        section = tool_section(self.syntax, tools)
        if not messages or messages[0]["role"] != "system":
            return [{"role": "system", "content": section}, *messages]
        content = messages[0]["content"]
        if isinstance(content, str):
            return [{**messages[0], "content": f"{content}\n\n{section}"}, *messages[1:]]
        return [{**messages[0], "content": [*content, {"type": "text", "text": f"\n\n{section}"}]}, *messages[1:]]

    def __str__(self) -> str:
        thinking = {
            "opened": "the prompt opens thinking",
            "closed": "the prompt closes thinking",
            "own": "the model opens thinking itself",
            "none": "no thinking tokens",
        }[self.thinking]
        tools = "the template announces tools" if self.announces else "our section in the system prompt announces tools"
        dropped = "; messages rendered again lose earlier thinking" if self.drops_thinking else ""
        return f"call syntax {self.syntax.name}; {thinking}; {tools}{dropped}"


def tool_section(syntax_: CallSyntax, tools: Sequence[Schema]) -> str:
    """Tools and call syntax as a part of a system prompt."""
    schemas = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        f"# Tools\n\nThe functions you may call, one JSON schema per line:\n<tools>\n{schemas}\n</tools>\n\n"
        f"{syntax_.announcement}"
    )


def format_of(renderer: Any, template_kwargs: Mapping[str, Any] | None = None, named: str = "") -> ChatFormat:
    """The format of a model.

    Args:
        renderer: tokenizer, or the processor of a model with images, whose template may differ from the tokenizer's.
        template_kwargs: `data.apply_chat_template_kwargs`, with which verl renders every prompt.
        named: the call syntax that the user named, "" for none.

    Raises:
        ValueError: the template shows a call syntax that is unknown, more than one, or another than `named`.
    """
    template = str(getattr(renderer, "chat_template", None))
    kwargs = json.dumps(dict(template_kwargs or {}), sort_keys=True, default=_plain)
    return _format_of(renderer, template, kwargs, named)


@lru_cache(maxsize=8)  # a worker asks for every trajectory
def _format_of(renderer: Any, _template: str, template_kwargs: str, named: str) -> ChatFormat:
    render = _renderer(renderer, json.loads(template_kwargs))
    question = {"role": "user", "content": "?"}
    prompt = render([question], add_generation_prompt=True)
    announced = _or_nothing(render, [question], add_generation_prompt=True, tools=[_TOOL])
    calls = (
        _or_nothing(render, [question, {"role": "assistant", "content": "", "tool_calls": [call]}]) for call in _CALLS
    )
    written = next(filter(None, calls), "")
    announces = announced not in ("", prompt)
    speaks = announces or "probe" in written
    found = _chosen(_shown(announced if announces else "") | _shown(written), named, unknown=speaks)
    tokenizer = getattr(renderer, "tokenizer", renderer)
    said = {"role": "assistant", "content": _thought(found)}
    again = _or_nothing(render, [question, said, question])
    asked = _or_nothing(render, [question])
    answered = _or_nothing(render, [question, {"role": "assistant", "content": _THOUGHT}])
    opened = opened_think(prompt, found.thinking)
    return ChatFormat(
        syntax=found,
        opened=opened,
        thinking=_thinking(tokenizer, found, opened, prompt.removeprefix(asked)),
        closes_turn=not answered.rstrip().endswith(_THOUGHT),
        announces=announces,
        drops_thinking=bool(again) and _THOUGHT not in again,
    )


def format_in(prompt: str, tools: Sequence[Schema]) -> ChatFormat:
    """The format that a prompt with tools shows, as a server rendered it.

    Args:
        prompt: system prompt, question and generation prompt.
        tools: the schemas that the request offered.

    Raises:
        ValueError: see `format_of`.
    """
    announces = all(_announced(tool["function"], prompt) for tool in tools)
    found = _chosen(_shown(prompt), "", unknown=announces and bool(tools))
    opened = opened_think(prompt, found.thinking)
    closed = prompt.rstrip().endswith(found.thinking[1])
    return ChatFormat(
        syntax=found,
        opened=opened,
        thinking="opened" if opened else "closed" if closed else "own",
        closes_turn=True,
        announces=announces,
        drops_thinking=False,
    )


def _announced(function: Mapping[str, Any], prompt: str) -> bool:
    """Whether a prompt has a tool's schema: its description's beginning, whatever the template makes of the rest."""
    beginning = re.split(r'["\\\n<]', str(function.get("description") or ""))[0][:SHOWN]
    return (beginning or f'"{function["name"]}"') in prompt


def _plain(value: Any) -> Any:
    """A node of OmegaConf as JSON takes it."""
    return dict(value) if isinstance(value, Mapping) else list(value)


def _shown(text: str) -> set[str]:
    return {name for name, known in syntaxes().items() if known.sign.search(text)}


def _chosen(shown: set[str], named: str, *, unknown: bool) -> CallSyntax:
    """The only syntax that a template shows; the named one where it shows none or several."""
    known = sorted(syntaxes())
    if named and shown and named not in shown:
        raise ValueError(
            f"the chat template writes calls in the syntax {' or '.join(sorted(shown))}, not in {named}; leave "
            "rollout.multi_turn.format out, or use a template that writes calls so"
        )
    if named:
        return syntax(named)
    if len(shown) > 1:
        raise ValueError(
            f"the chat template shows the call syntaxes {' and '.join(sorted(shown))}; name the right one in "
            "rollout.multi_turn.format"
        )
    if not shown and unknown:
        raise ValueError(
            f"the chat template announces or writes tool calls in a syntax that is none of {known}, so that no call of "
            "the model could be read; name one of them in rollout.multi_turn.format, use another template, or add the "
            "syntax (docs/add_a_model.md)"
        )
    return syntax(shown.pop()) if shown else HERMES


def _renderer(renderer: Any, kwargs: Mapping[str, Any]) -> Callable[..., str]:
    in_parts = hasattr(renderer, "tokenizer")  # as processors want content

    def render(messages: Sequence[Message], **more: Any) -> str:
        if in_parts:
            messages = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
        text: str = renderer.apply_chat_template(messages, tokenize=False, **more, **kwargs)
        return text

    return render


def _or_nothing(render: Callable[..., str], messages: Sequence[Message], **more: Any) -> str:
    """Nothing where the template refuses: it may refuse anything, in any way, and is only asked for an example."""
    try:
        return render(messages, **more)
    except Exception:
        return ""


def _thought(found: CallSyntax) -> str:
    return f"{found.thinking[0]}\n{_THOUGHT}\n{found.thinking[1]}\n\nyes"


def _thinking(tokenizer: Any, found: CallSyntax, opened: str, generation: str) -> Thinking:
    if opened:
        return "opened"
    if found.thinking[1] in generation:
        return "closed"
    try:
        ids = tag_ids(tokenizer, found)
    except ValueError:  # told where the parser is made
        return "none"
    return "own" if found.thinking[1] in ids else "none"
