"""A response in parts: nothing is lost, and a tag counts only where it can stand."""

from hypothesis import given
from hypothesis import strategies as st

from examples.lfm2_syntax import LFM2
from verl_axpo.view.text import Part, split

PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<|im_end|>",
    "a",
    "\n",
]


def kinds(text: str, *, thinking: bool = True) -> list[tuple[str, str]]:
    return [(part.kind, part.text) for part in split(text, thinking=thinking)]


def test_a_turn_with_a_call_and_a_picture() -> None:
    text = 'so\n</think>\n<tool_call>{"a": 1}</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>'
    text += "<|vision_start|><|image_pad|><|image_pad|><|vision_end|></tool_response>"
    assert kinds(text) == [
        ("thinking", "so\n"),
        ("mark", "</think>"),
        ("text", "\n"),
        ("opening", "<tool_call>"),
        ("call", '{"a": 1}'),
        ("mark", "</tool_call>"),
        ("mark", "<|im_end|>"),
        ("text", "\n"),
        ("mark", "<|im_start|>user"),
        ("text", "\n"),
        ("mark", "<tool_response>"),
        ("image", "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"),
        ("mark", "</tool_response>"),
    ]


def test_a_call_inside_thinking_is_thinking_and_a_tag_inside_a_response_is_the_tools() -> None:
    assert kinds("a <tool_call>b</tool_call> c") == [("thinking", "a <tool_call>b</tool_call> c")]
    response = "<tool_response><think>no</think><tool_call>x</tool_call></tool_response>"
    assert kinds(response, thinking=False)[1] == ("response", "<think>no</think><tool_call>x</tool_call>")


def test_another_familys_tags_open_and_close_a_call() -> None:
    parts = split(f"so</think>{LFM2.opening}f(){LFM2.closing}<tool_call>", thinking=True, syntax=LFM2)
    assert [(part.kind, part.text) for part in parts[2:]] == [
        ("opening", LFM2.opening), ("call", "f()"), ("mark", LFM2.closing), ("text", "<tool_call>")
    ]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.booleans())
def test_the_parts_are_the_whole_text(text: str, thinking: bool) -> None:
    parts = split(text, thinking=thinking)
    assert "".join(part.text for part in parts) == text
    assert Part("text", "") not in parts
