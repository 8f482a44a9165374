"""Demonstrations that no policy could have written, refused before anything is trained.

rows -> check_thinking(): do they switch thinking for themselves? -> check_turns(): is each turn one text, opened as the
model's prompt opens it, its calls in a known syntax?
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verl_axpo.prompts import IMAGE
from verl_axpo.tools.chat_format import ChatFormat
from verl_axpo.tools.syntax import Schema, in_syntax

Message = dict[str, Any]


def parts_of(message: Message) -> list[Mapping[str, Any]]:
    """The message's content as a list of parts."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def text_of(message: Message) -> str:
    """The text of all parts."""
    return "".join(str(part.get("text")) for part in parts_of(message))


def check_thinking(column: Sequence[bool | None] | None, all_rows: bool | None) -> None:
    """Refuse rows that switch thinking on or off for themselves: a rollout's prompts are all rendered alike.

    Raises:
        ValueError: the first such row.
    """
    for row, switch in enumerate(column or ()):
        if switch is not None and switch != all_rows:
            raise ValueError(
                f"row {row}: got enable_thinking={switch}, expected {all_rows} as in data.apply_chat_template_kwargs, "
                "with which every prompt of a rollout is rendered; drop the column, or set "
                f"+data.apply_chat_template_kwargs.enable_thinking={switch} here and in the RL run"
            )


def check_turns(row: int, messages: Iterable[Message], chat_format: ChatFormat, tools: Sequence[Schema] = ()) -> None:
    """Refuse assistant turns that are not one text as the policy writes it, after what the generation prompt opens.

    Raises:
        ValueError: names the row and what is wrong with its turn.
    """
    for message in messages:
        if message["role"] != "assistant":
            continue
        apart = [key for key in ("reasoning_content", "tool_calls") if message.get(key)]
        if apart:
            raise ValueError(f"row {row}: got {apart} next to an assistant's content, expected all of the turn in it")
        text = text_of(message)
        if IMAGE in text:
            raise ValueError(f"row {row}: got {IMAGE} in an assistant's turn, expected text alone")
        opened = chat_format.opened
        if not text.startswith(opened):
            raise ValueError(
                f"row {row}: got an assistant's turn that begins with {text[:20]!r}, expected {opened!r}, which this "
                "model's generation prompt ends with: a turn without thinking begins with "
                f"{opened + chr(10) + '</think>' + 2 * chr(10)!r}"
            )
        if chat_format.thinking == "closed" and text.startswith(chat_format.syntax.thinking[0]):
            raise ValueError(
                f"row {row}: got an assistant's turn that begins with {text[:20]!r}, but this model's generation "
                "prompt closes thinking; leave the thinking out of the rows, or set "
                "+data.apply_chat_template_kwargs.enable_thinking=True here and in the RL run"
            )
        try:
            in_syntax(text, chat_format.syntax, tools, opened)
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from None
