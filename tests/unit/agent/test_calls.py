"""Calls in text are those that the token parser finds in the ids of the same text."""

import pytest

from verl_axpo.agent.conversation import TaggedText, calls_in

CALL = '<tool_call>\n{"name": "zoom", "arguments": {"x": 1}}\n</tool_call>'


def test_ids_name_tags_and_the_stretches_between_them() -> None:
    tokens = TaggedText("a<think>b</think>c<tool_call>")
    assert tokens.ids == [4, 0, 5, 1, 6, 2]
    assert tokens.decode(tokens.ids) == "a<think>b</think>c<tool_call>"


def test_a_call_inside_thinking_is_thought() -> None:
    calls = calls_in(f"<think>\nI could {CALL}\n</think>\n\n{CALL}")
    assert [(call.name, call.arguments, call.problem) for call in calls] == [("zoom", {"x": 1}, None)]


def test_a_closing_tag_inside_a_string_does_not_close() -> None:
    (call,) = calls_in('<tool_call>{"name": "python", "arguments": {"code": "\'</tool_call>\'"}}</tool_call>')
    assert call.arguments == {"code": "'</tool_call>'"}


@pytest.mark.parametrize(
    ("text", "says"),
    [("<tool_call>{oops</tool_call>", "not valid JSON"), (CALL[:-12], "not closed"), ("<tool_call>", "not closed")],
)
def test_what_cannot_be_decoded_is_a_call_with_a_problem(text: str, says: str) -> None:
    (call,) = calls_in("<think>\n</think>" + text)
    assert call.problem is not None
    assert says in call.problem


def test_a_text_without_calls_has_none() -> None:
    assert calls_in("<think>\nhm\n</think>\n\n<answer>B</answer>") == []
    assert calls_in("") == []
