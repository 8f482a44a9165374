"""A response of the trace as turns: text, calls and answers each where it belongs."""

import pytest

from verl_axpo.eval.types import Response
from verl_axpo.export.exchange import Conversation, Exchange, of_record
from verl_axpo.trace import ToolCall, TrajectoryRecord

ZOOM = ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 9, 9]}, ok=True)
SUM = ToolCall(name="python", arguments={"code": "1+1"}, ok=False, error="no")
PAD = "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"


def record(text: str, *calls: ToolCall, images: tuple[str, ...] = ("asked.png",)) -> TrajectoryRecord:
    return TrajectoryRecord(
        step=1, uid="q", session=0, question="What?", ground_truth="2", images=images, prompt_len=1,
        response_ids=[], response_mask=[], logprobs=[], text=text, tool_calls=calls, reward=0.0, advantage=0.0,
        num_turns=2, started=0.0, finished=1.0,
    )  # fmt: skip


def conversation(*exchanges: Exchange) -> Conversation:
    return Conversation(question="What?", images=("asked.png",), exchanges=exchanges)


def test_two_calls_in_a_turn_get_their_answers_and_pictures_in_order() -> None:
    text = (
        "a<tool_call>x</tool_call><tool_call>y</tool_call><|im_end|>\n<|im_start|>user\n"
        f"<tool_response>\n{PAD}cropped\n</tool_response>\n<tool_response>\nno\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\nb</think>c<|im_end|>"
    )
    assert of_record(record(text, ZOOM, SUM, images=("asked.png", "crop.png"))) == conversation(
        Exchange(
            text="a<tool_call>x</tool_call><tool_call>y</tool_call>",
            calls=(ZOOM, SUM),
            answers=(Response(text="cropped", images=("crop.png",)), Response(text="no")),
        ),
        Exchange(text="<think>\nb</think>c"),
    )


def test_a_call_that_the_limits_left_unanswered_stays_with_its_turn() -> None:
    assert of_record(record("a<tool_call>x</tool_call><|im_end|>", ZOOM)) == conversation(
        Exchange(text="a<tool_call>x</tool_call>", calls=(ZOOM,))
    )


@pytest.mark.parametrize("text", ["", "no tags", "<|observation|>7<|assistant|>"])
def test_another_format_is_one_turn(text: str) -> None:
    assert of_record(record(text, SUM)) == conversation(Exchange(text=text, calls=(SUM,)))
