"""Calls in token ids: where they begin and end, what is not a call, and what a bad one says to the policy."""

import json
import time

import pytest

from verl_axpo.tools.parser import CallSpan, ToolCallParser
from verl_axpo.tools.syntax import HERMES


class CharTokenizer:
    """Each tag is one token, each other character another: enough to write turns by hand."""

    unk_token_id = None

    def __init__(self, tags: tuple[str, ...] = HERMES.tags) -> None:
        self.ids = {tag: 1_000_000 + at for at, tag in enumerate(tags)}
        self.tags = {token_id: tag for tag, token_id in self.ids.items()}

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        return self.ids.get(tokens)

    def decode(self, token_ids: list[int]) -> str:
        return "".join(self.tags.get(token) or chr(token) for token in token_ids)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            tag = next((tag for tag in self.ids if text.startswith(tag)), text[0])
            ids.append(self.ids.get(tag) or ord(tag))
            text = text[len(tag) :]
        return ids


CALL = '{"name": "zoom", "arguments": {"box": [1, 2]}}'
TOKENIZER = CharTokenizer()


def spans_of(text: str, *, starts_in_think: bool = True) -> list[CallSpan]:
    return ToolCallParser(TOKENIZER, starts_in_think=starts_in_think).spans(TOKENIZER.encode(text))


def test_a_call_spans_its_two_tags() -> None:
    # 2 characters of thought, </think> at 2, <tool_call> at 3, the JSON, </tool_call>
    assert spans_of(f"ab</think><tool_call>{CALL}</tool_call>") == [
        CallSpan(open=3, end=3 + len(CALL) + 2, closed=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"I could <tool_call>{CALL}</tool_call>",  # never leaves the thinking of the generation prompt
        f"a</think>b<think><tool_call>{CALL}</tool_call>",  # thinks again
        "a</think> no call at all",
        "a</think> a closing tag alone </tool_call>",
        "",
    ],
)
def test_what_is_not_a_call_is_not_read_as_one(text: str) -> None:
    assert spans_of(text) == []


def test_without_an_open_think_the_first_tag_counts() -> None:
    assert [span.open for span in spans_of(f"<tool_call>{CALL}</tool_call>", starts_in_think=False)] == [0]


def test_tags_inside_a_json_string_neither_open_nor_close() -> None:
    call = json.dumps({"name": "python", "arguments": {"code": "s = '<tool_call> and </tool_call> and <think>'"}})
    (span,) = spans_of(f"</think><tool_call>{call}</tool_call>")
    parsed = ToolCallParser(TOKENIZER, starts_in_think=True).parse(
        TOKENIZER.encode(f"</think><tool_call>{call}</tool_call>"), span
    )
    assert parsed.arguments["code"] == "s = '<tool_call> and </tool_call> and <think>'"
    assert parsed.problem is None


def test_two_calls_in_a_turn() -> None:
    text = f"</think><tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>"
    assert [span.closed for span in spans_of(text)] == [True, True]


def test_an_invalid_call_ends_at_its_own_closing_tag() -> None:
    # The first call's JSON is broken; the second must not be swallowed while looking for its end
    first, second = spans_of(f"</think><tool_call>{{oops</tool_call><tool_call>{CALL}</tool_call>")
    assert (first.open, first.end, second.open) == (1, 8, 8)  # 1 tag + 5 characters + 1 tag


def test_a_string_left_open_does_not_swallow_the_next_call() -> None:
    # Read as JSON the first call goes on to the second one's first quote; 1 tag + 11 characters + 1 tag
    first, second = spans_of(f'</think><tool_call>{{"name": "z</tool_call><tool_call>{CALL}</tool_call>')
    assert (first.open, first.end, second.open) == (1, 14, 14)
    assert second.end == 14 + len(CALL) + 2


@pytest.mark.parametrize("tags", [1, 1000])
def test_a_call_may_be_about_closing_tags(tags: int) -> None:
    call = json.dumps({"name": "python", "arguments": {"code": "</tool_call>" * tags}})
    around = len(call) - tags * len("</tool_call>")  # characters; each tag is one token
    assert spans_of(f"</think><tool_call>{call} \n</tool_call></tool_call>") == [
        CallSpan(open=1, end=2 + around + tags + 3, closed=True)
    ]


def test_nesting_beyond_what_can_be_decoded_is_the_policys_mistake() -> None:
    ids = TOKENIZER.encode(f'</think><tool_call>{{"name": "zoom", "arguments": {{"box": {"[" * 20_000}</tool_call>')
    parser = ToolCallParser(TOKENIZER, starts_in_think=True)
    (span,) = parser.spans(ids)
    assert "not valid JSON" in str(parser.parse(ids, span).problem)


@pytest.mark.timeout(300)  # s; the bound below is what is tested, this ends the hours that it is to prevent
@pytest.mark.parametrize("inner", ["", "{", '{"a', '{"name": "zoom", "arguments": '])
def test_a_long_turn_of_undecodable_calls_takes_no_time(inner: str) -> None:
    """A policy that repeats itself for evaluation's 32,768 tokens must not stop its worker's event loop."""
    call = TOKENIZER.encode(f"<tool_call>{inner}</tool_call>")
    calls = 32_768 // len(call)
    parser, started = ToolCallParser(TOKENIZER, starts_in_think=False), time.thread_time()
    assert len(parser.spans(call * calls)) == calls
    assert time.thread_time() - started < 20  # s; below 1 s on one core of a small machine


def test_an_unclosed_call_reaches_the_end_of_the_turn() -> None:
    assert spans_of(f"</think><tool_call>{CALL}") == [CallSpan(open=1, end=2 + len(CALL), closed=False)]


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        ("{oops", "not valid JSON"),
        ("[1, 2]", "names no tool"),
        ('{"arguments": {}}', "names no tool"),
        ('{"name": 3, "arguments": {}}', "names no tool"),
        ('{"name": "zoom", "arguments": [1]}', "not a JSON object"),
        ("", "not valid JSON"),
    ],
)
def test_a_bad_call_says_what_was_expected(inner: str, says: str) -> None:
    ids = TOKENIZER.encode(f"</think><tool_call>{inner}</tool_call>")
    parser = ToolCallParser(TOKENIZER, starts_in_think=True)
    (span,) = parser.spans(ids)
    problem = parser.parse(ids, span).problem
    assert problem is not None
    assert says in problem
    assert '{"name": <tool>, "arguments": {...}}' in problem


def test_missing_arguments_are_empty_arguments() -> None:
    ids = TOKENIZER.encode('</think><tool_call>{"name": "zoom"}</tool_call>')
    parser = ToolCallParser(TOKENIZER, starts_in_think=True)
    assert parser.parse(ids, parser.spans(ids)[0]).arguments == {}


def test_a_tokenizer_that_splits_a_tag_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no single token for \['</tool_call>'\]"):
        ToolCallParser(CharTokenizer(HERMES.tags[:3]), starts_in_think=True)
