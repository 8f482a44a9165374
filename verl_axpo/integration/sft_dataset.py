"""verl's SFT dataset, made to train on the tokens that a rollout conditions on and produces.

    row -> what comes before the first answer -> rendered at once, with the tools, as a rollout's prompt
        -> assistant turns    -> generation prompt, the turn's own text, end of turn: what a rollout holds there;
                                 its calls in the model's syntax
        -> tool responses     -> those of a turn together, with images in the size that the tool gave them

verl renders each message alone and compares the result with the whole conversation, rendered at once. A rollout does
neither: it appends what the policy sampled, and never renders a turn of the assistant. With a template such as
Qwen3-VL-Thinking's, which keeps thinking only after the last question, the three differ: an assistant's message alone
loses its thinking, and verl stops at the first row (verl issues 7378 and 7807). Qwen3.5's template refuses a system
message without a question.

In a config: `data.custom_cls.path=pkg://verl_axpo.integration.sft_dataset data.custom_cls.name=SftDataset`.
"""

import json
import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset, convert_nested_value_to_list_recursive
from verl.utils.tokenizer.chat_template import apply_chat_template, initialize_turn_separator

from verl_axpo.images import open_image
from verl_axpo.integration.dataset import disarm
from verl_axpo.integration.sft_rows import Message, check_thinking, check_turns, parts_of, text_of
from verl_axpo.prompts import IMAGE
from verl_axpo.tools.chat_format import ChatFormat, format_of
from verl_axpo.tools.syntax import Schema, in_syntax

ASKING = ("system", "user")  # what stands before the first answer
Rendered = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]  # ids, loss mask, attention mask, features

_EMPTY = torch.empty(0, dtype=torch.long)
_NOTHING: Rendered = (_EMPTY, _EMPTY, _EMPTY, {})  # what stands in an earlier message's part
logger = logging.getLogger(__name__)


class SftDataset(MultiTurnSFTDataset):
    """Rows of verl's SFT schema, `tools` as JSON text or as verl's nested columns, with and without images.

    An assistant's turn is its whole text in `content`, its `<think>` included where the generation prompt opens one.
    Its calls are JSON (hermes), whatever the model, or in the model's syntax already.
    """

    def __init__(self, parquet_files: Any, tokenizer: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        self.named = str((config or {}).get("call_syntax") or "")  # where the template does not show it
        self._before: dict[int, torch.Tensor] = {}
        super().__init__(parquet_files, tokenizer, config, *args, **kwargs)

    def _read_files_and_process(self) -> None:
        """verl's, then what the turns are made of.

        Raises:
            ValueError: before anything is trained; a template in an unknown call syntax, an assistant's turn that no
                policy could have written, or a row that switches thinking for itself.
        """
        super()._read_files_and_process()
        check_thinking(self.enable_thinking, self.apply_chat_template_kwargs.get("enable_thinking"))
        if self.tools is not None:
            self.tools: list[Any] = [_schemas(tools) for tools in self.tools]
        self.format = format_of(self.processor or self.tokenizer, self.apply_chat_template_kwargs, self.named)
        logger.warning("SFT rows: %s", self.format)  # verl runs at WARNING
        separator = initialize_turn_separator(self.tokenizer, **self.apply_chat_template_kwargs)
        self.separator = separator if self.format.closes_turn else []
        for row, messages in enumerate(self.messages):
            check_turns(row, messages, self.format, self.tools[row] if self.tools is not None else ())

    def __getitem__(self, item: int) -> dict[str, Any]:
        """verl's row; without images it has empty features: verl 0.9's collator fails if a batch's first row has
        none."""
        return {"multi_modal_inputs": {}, **super().__getitem__(item)}

    def _build_messages(self, example: dict[str, Any]) -> list[Message]:
        """verl's, on pictures that we opened and inert texts. A rollout hands the images of tools to the processor as
        they are; verl would round their sides first, after which a small one may take another number of tokens."""
        messages = convert_nested_value_to_list_recursive(example[self.messages_key])
        cells = list(example.get(self.image_key, ()))
        videos = list(example.get(self.video_key, ()))
        absent = [kind for kind, media in (("image", cells), ("video", videos), ("audio", ())) if not len(media)]
        disarm([message for message in messages if message["role"] != "assistant"], absent)
        roles = [message["role"] for message in messages for _ in range(_placeholders(message))]
        if len(roles) != len(cells):
            raise ValueError(f"got {len(cells)} image(s) for {len(roles)} {IMAGE}, expected one each")
        tools = _schemas(example.get(self.tools_key)) or ()
        messages = [_in_syntax(message, self.format, tools) for message in messages]
        if self.processor is not None:  # a policy's own text is never cut at what looks like a placeholder
            messages = [_whole(message) if message["role"] == "assistant" else message for message in messages]
        shown = [_opened(cell, role) for role, cell in zip(roles, cells, strict=True)]
        pictures = {self.image_key: shown} if self.image_key in example else {}
        built: list[Message] = super()._build_messages({**example, self.messages_key: messages, **pictures})
        return built

    def _process_single_message(
        self,
        index: int,
        message: Message,
        full_message: list[Message],
        tools: list[dict[str, Any]] | None = None,
        enable_thinking: bool | None = None,
    ) -> Rendered:
        """One message as the rollout has it; `full_message` is the conversation it stands in."""
        before = full_message[index - 1]["role"] if index else ""
        if message["role"] == "assistant":
            return self._sampled(message, last=index + 1 == len(full_message))
        if all(earlier["role"] in ASKING for earlier in full_message[: index + 1]):
            return _NOTHING if index else self._asked(full_message, tools)
        if message["role"] == "tool":
            if before == "tool":
                return _NOTHING  # rendered with the first response to the turn
            run = takewhile(lambda later: later["role"] == "tool", full_message[index:])
            rendered: Rendered = self._responses(list(run))
        else:
            rendered = super()._process_single_message(index, message, full_message, tools, enable_thinking)
        if before == "assistant" and not self.format.closes_turn:
            rendered[1][0] = 1  # the policy ends its turn with the token that begins this message
        return rendered

    def _asked(self, messages: Sequence[Message], tools: Sequence[Schema] | None) -> Rendered:
        """System and question at once, for a template may refuse one without the other."""
        asked = list(takewhile(lambda message: message["role"] in ASKING, messages))
        return self._rendered(self.format.with_tools(asked, tools or ()), tools)

    def _sampled(self, message: Message, *, last: bool) -> Rendered:
        """Text and end of turn are trained; what the template puts around them no rollout samples."""
        text = text_of(message).removeprefix(self.format.opened)
        # The generation prompt is tokenized apart, as in a rollout: its newline must not merge with the text's first.
        # A special token spelled out in text was sampled letter by letter: decoding leaves real ones out.
        sampled = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        end = [self.tokenizer.eos_token_id] if last or self.format.closes_turn else []
        pieces = [(self.generation_prompt, 0), ([*sampled, *end], 1), (self.separator, 0)]
        ids = torch.tensor([token for tokens, _ in pieces for token in tokens])
        mask = torch.tensor([trained for tokens, trained in pieces for _ in tokens])
        return ids, mask, torch.ones_like(ids), {}

    def _responses(self, run: list[Message]) -> Rendered:
        """All responses to one turn: what they add to a conversation that waits for them, as verl's rollout renders
        them (`ContinuousTokenBuilder._tokenize_tool_group`)."""
        call = {"type": "function", "function": {"name": "tool", "arguments": {}}}
        said: Message = {"role": "assistant", "content": "", "reasoning_content": "so", "tool_calls": [call] * len(run)}
        waiting: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, said]
        if self.processor is not None:
            waiting = [_whole(message) for message in waiting]
        if len(run) not in self._before:
            self._before[len(run)] = self._rendered(waiting)[0]
        ids, mask, attention, features = self._rendered([*waiting, *run])
        length = len(self._before[len(run)])
        if not ids[:length].equal(self._before[len(run)]):
            raise ValueError("the chat template changes a turn when a tool's response follows; no rollout can use it")
        return ids[length:], mask[length:], attention[length:], features

    def _rendered(self, messages: Sequence[Message], tools: Sequence[Schema] | None = None) -> Rendered:
        """Messages that are not trained."""
        inputs = dict(
            apply_chat_template(
                self.processor or self.tokenizer,
                messages,
                tools=tools,
                add_generation_prompt=False,
                return_dict=True,
                return_tensors="pt",
                **self.apply_chat_template_kwargs,
            )
        )
        ids = inputs.pop("input_ids")[0]
        del inputs["attention_mask"]
        return ids, torch.zeros_like(ids), torch.ones_like(ids), inputs

    def sanity_check(self, *_: Any) -> None:
        """Not verl's, which holds a row against the template's rendering of all of it; the rollout is what counts, and
        tests/e2e/test_sft_golden.py compares with that."""


def _schemas(tools: Any) -> Any:
    """A row's tools, JSON text or verl's nested columns; None if it has none."""
    return json.loads(tools) if isinstance(tools, str) else convert_nested_value_to_list_recursive(tools)


def _in_syntax(message: Message, chat_format: ChatFormat, tools: Sequence[Schema]) -> Message:
    if message["role"] != "assistant":
        return message
    return {**message, "content": in_syntax(text_of(message), chat_format.syntax, tools, chat_format.opened)}


def _placeholders(message: Message) -> int:
    """How many images of the row the message takes."""
    return message["content"].count(IMAGE) if isinstance(message["content"], str) else 0


def _whole(message: Message) -> Message:
    return {**message, "content": parts_of(message)}


def _opened(cell: Any, role: str) -> Any:
    """A row's picture as verl takes it: a tool's at its own size, any other in a dictionary, which verl sizes."""
    image = open_image(cell)
    return image if role == "tool" else {"image": image}
