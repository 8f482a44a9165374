"""Trajectories against a real server process: turns, tools, limits, statuses, failures."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.unit.agent.conftest import KEPT, ask, png
from tests.unit.agent.odd_tools import BrokenZoom, CountingZoom
from verl_axpo import prompts
from verl_axpo.core.types import Status
from verl_axpo.eval.sampling import Limits, Sampling
from verl_axpo.images import open_image
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

ZOOM = '<tool_call>\n{"name": "image_zoom_in", "arguments": {"bbox_2d": [0, 0, 500, 500], "label": "x"}}\n</tool_call>'
THINKS = "I look closer.\n</think>\n\n"
FINAL = "I see.\n</think>\n\n<answer>\\boxed{B}</answer>"


def step(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, **fields}


def test_a_tool_call_its_crop_and_the_answer(serve: Any) -> None:
    server = serve({"zoom": [step(THINKS + ZOOM), step(FINAL, prompt_tokens=150, completion_tokens=20)]})
    trajectory = ask(server, "zoom")
    assert trajectory.status is Status.OK
    assert trajectory.uses_tool
    first, last = trajectory.turns
    # the generation prompt held the opening tag; the text has it back
    assert first.text == "<think>\n" + THINKS + ZOOM
    assert last.text == "<think>\n" + FINAL
    assert (first.calls[0].name, first.calls[0].ok, first.calls[0].infra) == ("image_zoom_in", True, False)
    assert KEPT[first.responses[0].images[0]].size == (64, 64)
    assert trajectory.response_tokens == 150 - 100 + 20  # tool response and last turn after the first prompt
    assert trajectory.token_exact is None  # this server returns no ids

    request, second = server.requests()
    system, user = request["messages"]
    assert system["content"] == prompts.system_prompt([IMAGE_ZOOM_IN])
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][1]["text"] == "script:zoom"
    assert request["tools"] == prompts.tool_schemas([IMAGE_ZOOM_IN])
    assert request["tool_choice"] == "none"
    sent = second["messages"][2:]
    assert sent[0] == {"role": "assistant", "content": first.text}  # thinking and call as they were written
    assert sent[1]["role"] == "tool"
    assert picture(sent[1]["content"][0]).size == (64, 64)


def picture(part: dict[str, Any]) -> Image.Image:
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_requests_carry_the_papers_sampling_their_seed_and_what_is_left(serve: Any) -> None:
    server = serve({"zoom": [step(THINKS + ZOOM, completion_tokens=30), step(FINAL, prompt_tokens=180)]})
    ask(server, "zoom")
    fields = ("temperature", "top_p", "top_k", "presence_penalty", "seed", "max_completion_tokens")
    sent = [[request[name] for name in fields] for request in server.requests()]
    assert sent == [[0.7, 0.8, 20, 1.5, 7, 32_768], [0.7, 0.8, 20, 1.5, 8, 32_768 - 30]]
    ask(server, "zoom", sampling=Sampling(top_k=None, temperature=0.0))
    assert "top_k" not in server.requests()[-1]


def test_without_tools_there_is_one_turn_and_no_schema(serve: Any) -> None:
    server = serve({"plain": [step(FINAL)]})
    trajectory = ask(server, "plain", tools=False)
    assert (trajectory.status, len(trajectory.turns), trajectory.uses_tool) == (Status.OK, 1, False)
    (request,) = server.requests()
    assert "tools" not in request
    assert "tool_choice" not in request
    assert "tool" not in request["messages"][0]["content"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("<tool_call>{oops</tool_call>", "not valid JSON"),
        ('<tool_call>{"name": "zap", "arguments": {}}</tool_call>', "Unknown function 'zap'"),
        (
            '<tool_call>{"name": "image_zoom_in", "arguments": {"bbox_2d": [9, 9, 1, 1], "label": "a"}}</tool_call>',
            "must satisfy",
        ),
    ],
)
def test_a_bad_call_is_answered_and_the_trajectory_continues(serve: Any, call: str, says: str) -> None:
    trajectory = ask(serve({"bad": [step(THINKS + call), step(FINAL)]}), "bad")
    assert trajectory.status is Status.OK
    assert says in trajectory.turns[0].responses[0].text
    assert not trajectory.turns[0].calls[0].ok
    assert len(trajectory.turns) == 2


def test_only_the_allowed_number_of_calls_of_a_turn_is_carried_out(serve: Any) -> None:
    server = serve({"two": [step(THINKS + ZOOM + ZOOM), step(FINAL)]})
    assert len(ask(server, "two").turns[0].calls) == 1
    assert len(ask(server, "two", limits=Limits(parallel_calls=2)).turns[0].calls) == 2


def test_a_call_on_the_last_turn_is_left_unanswered(serve: Any) -> None:
    server = serve({"loop": [step(THINKS + ZOOM)] * 5})
    trajectory = ask(server, "loop", limits=Limits(max_turns=2))
    assert trajectory.status is Status.TRUNCATED
    assert [(len(turn.calls), turn.unanswered) for turn in trajectory.turns] == [(1, 0), (0, 1)]
    assert len(server.requests()) == 2


def test_a_turn_cut_by_its_length_truncates(serve: Any) -> None:
    trajectory = ask(serve({"long": [step("still thinking", finish="length")]}), "long")
    assert trajectory.status is Status.TRUNCATED


def test_an_answer_beyond_the_response_limit_does_not_count(serve: Any) -> None:
    # first turn 30 of 100 tokens; the crop takes 60, so that 10 are left; the server, not told of it, writes 20
    server = serve(
        {"late": [step(THINKS + ZOOM, completion_tokens=30), step(FINAL, prompt_tokens=190, completion_tokens=20)]}
    )
    trajectory = ask(server, "late", limits=Limits(response_tokens=100))
    assert (trajectory.status, trajectory.response_tokens) == (Status.TRUNCATED, 110)


def test_what_might_not_fit_into_the_servers_context_is_left_to_the_server(serve: Any) -> None:
    # prompt 100 and turn 30; the crop of 64 x 64 has at most 9 tokens, it and the template's words 32 + 32 more
    server = serve({"zoom": [step(THINKS + ZOOM, completion_tokens=30), step(FINAL, prompt_tokens=180)]})
    limits = Limits(response_tokens=5000)
    for context in (130 + 9 + 64 + 4970, 130 + 9 + 64 + 4970 - 1):
        ask(server, "zoom", limits=limits, context=context)
    tokens = [request.get("max_completion_tokens") for request in server.requests()]
    # the first request: 5000 and an upper bound of some thousand bytes of prompt do not fit, either
    assert tokens == [None, 4970, None, None]
    ask(server, "zoom", limits=limits, context=20_000)
    assert [request.get("max_completion_tokens") for request in server.requests()[4:]] == [5000, 4970]


def test_token_ids_show_whether_the_conversation_was_rendered_as_it_was_written(serve: Any) -> None:
    def script(second_prompt: list[int]) -> list[dict[str, Any]]:
        first = {"choice": {"token_ids": [3, 4]}, "reply": {"prompt_token_ids": [1, 2], "prompt_text": "<think>\n"}}
        then = {"choice": {"token_ids": [9]}, "reply": {"prompt_token_ids": second_prompt, "prompt_text": None}}
        return [step(THINKS + ZOOM, extra=first), step(FINAL, extra=then)]

    server = serve({"same": script([1, 2, 3, 4, 5]), "other": script([1, 2, 3, 7, 5])})
    assert ask(server, "same").token_exact is True
    assert ask(server, "other").token_exact is False


@pytest.mark.parametrize(("prompt", "thinks"), [("user\nassistant\n<think>\n", True), ("user\nassistant\n", False)])
def test_the_rendered_prompt_says_whether_a_turn_begins_inside_thinking(serve: Any, prompt: str, thinks: bool) -> None:
    # without a closing tag the text alone cannot tell whether the call is inside thinking
    server = serve({"open": [step(ZOOM, extra={"reply": {"prompt_text": prompt}}), step(FINAL)]})
    assert ask(server, "open").uses_tool is not thinks


def test_a_reasoning_parser_is_undone(serve: Any) -> None:
    message = {"role": "assistant", "content": ZOOM, "reasoning": "I look closer."}
    server = serve({"parsed": [{"message": message}, step(FINAL)]})
    first = ask(server, "parsed").turns[0]
    assert first.text == "<think>\n" + THINKS + ZOOM
    assert server.requests()[1]["messages"][2]["content"] == first.text


def test_a_hosted_model_parses_its_own_calls_and_sees_pictures_as_the_users(serve: Any) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "image_zoom_in", "arguments": '{"bbox_2d": [0, 0, 500, 500], "label": "x"}'},
    }
    message = {"role": "assistant", "content": None, "reasoning_content": "Closer.", "tool_calls": [call]}
    server = serve({"hosted": [{"message": message, "finish": "tool_calls"}, step("<answer>B</answer>")]})
    trajectory = ask(server, "hosted", dialect="server")
    assert trajectory.status is Status.OK
    assert trajectory.turns[0].calls[0].ok
    assert "<think>\nCloser.\n</think>" in trajectory.turns[0].text
    assert "<tool_call>" in trajectory.turns[0].text
    first, second = server.requests()
    assert first["tool_choice"] == "auto"
    assert "return_token_ids" not in first  # no field that a hosted API would refuse
    assistant, tool, user = second["messages"][2:]
    assert assistant["tool_calls"] == [call]
    assert assistant["reasoning_content"] == "Closer."
    assert (tool["role"], tool["tool_call_id"]) == ("tool", "call_1")
    assert picture(user["content"][0]).size == (64, 64)


def test_a_failing_server_is_retried_and_then_an_infra_failure(serve: Any) -> None:
    server = serve({"twice": [{"status": 500, "times": 2, "text": FINAL}], "always": [{"status": 500}]})
    assert ask(server, "twice", retries=2).status is Status.OK
    assert len(server.requests()) == 3
    failed = ask(server, "always", retries=1)
    assert failed.status is Status.INFRA_FAILURE
    assert "scripted failure" in str(failed.error)
    assert failed.turns == ()


REFUSALS = [
    # vLLM 0.24: the prompt, the prompt with its pictures, the number of pictures
    "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "At most 16 image(s) may be provided in one prompt. Set `--limit-mm-per-prompt` to increase this limit.",
    # hosted models
    "Your input exceeds the context window of this model. (context_length_exceeded)",
    "prompt is too long: 207791 tokens > 200000 maximum",
    "The input token count (314175) exceeds the maximum number of tokens allowed (131072).",
    "Too many images in request. Max is 10.",
    "11 images provided, but the model supports a maximum of 10 images.",
]


@pytest.mark.parametrize("words", REFUSALS)
def test_turns_that_fill_the_servers_window_end_the_trajectory_as_truncated(serve: Any, words: str) -> None:
    server = serve({"full": [step(THINKS + ZOOM), {"status": 400, "error": words}]})
    trajectory = ask(server, "full", retries=2)
    assert trajectory.status is Status.TRUNCATED
    assert trajectory.uses_tool
    assert [len(turn.calls) for turn in trajectory.turns] == [1]
    assert words[:40] in str(trajectory.error)  # the reader of a report sees what ended it
    assert trajectory.response_tokens == 10  # the turn's; what the tool returned was never in a prompt
    assert len(server.requests()) == 2  # a retry does not help


@pytest.mark.parametrize("words", REFUSALS)
def test_a_question_that_does_not_fit_is_an_infra_failure(serve: Any, words: str) -> None:
    trajectory = ask(serve({"long": [{"status": 400, "error": words}]}), "long")
    assert (trajectory.status, trajectory.turns) == (Status.INFRA_FAILURE, ())


@pytest.mark.parametrize(("status", "words"), [(400, "tool messages take no pictures"), (500, "context length")])
def test_another_refusal_after_the_first_turn_is_an_infra_failure(serve: Any, status: int, words: str) -> None:
    trajectory = ask(serve({"odd": [step(THINKS + ZOOM), {"status": status, "error": words}]}), "odd")
    assert trajectory.status is Status.INFRA_FAILURE
    assert len(trajectory.turns) == 1


def test_a_dropped_connection_keeps_the_turns_before_it(serve: Any) -> None:
    trajectory = ask(serve({"drop": [step(THINKS + ZOOM), {"drop": True}]}), "drop")
    assert trajectory.status is Status.INFRA_FAILURE
    assert len(trajectory.turns) == 1
    assert "Connection" in str(trajectory.error)


NO_MESSAGE = '{"choices": [{"index": 0, "message": null}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


@pytest.mark.parametrize("raw", ["", '{"choices": [{"mess', "<html>", '{"text": "\xff"}', '"ok"', "{}", NO_MESSAGE])
def test_an_answer_that_is_none_is_an_infra_failure_of_this_trajectory_alone(serve: Any, raw: str) -> None:
    """A proxy's page, a body that was cut: with a status of 200 the client does not call it an error."""
    trajectory = ask(serve({"garbled": [step(THINKS + ZOOM), {"raw": raw}]}), "garbled")
    assert trajectory.status is Status.INFRA_FAILURE
    assert len(trajectory.turns) == 1
    assert "127.0.0.1" in str(trajectory.error)


def test_a_server_that_is_too_slow_is_an_infra_failure(serve: Any) -> None:
    trajectory = ask(serve({"slow": [step(FINAL, sleep=5)]}), "slow", timeout_s=0.3)
    assert trajectory.status is Status.INFRA_FAILURE
    assert "Timeout" in str(trajectory.error)


def test_an_unknown_model_stops_the_run_with_the_fix(serve: Any) -> None:
    with pytest.raises(ValueError, match=r"has no model 'other'.*check --model"):
        ask(serve({"x": [step(FINAL)]}), "x", model="other")


def odd_files() -> dict[str, bytes]:
    """256 x 256: pictures that decoders show in different ways."""
    exif = Image.Exif()
    exif[0x112] = 6
    photograph = Image.new("RGB", (256, 256), "white")
    photograph.paste("red", (0, 0, 128, 64))
    drawing = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 128, 64))
    scan = Image.new("I;16", (256, 256), 40_000)
    made: dict[str, bytes] = {}
    for name, image, kind, options in (
        ("turned", photograph, "JPEG", {"exif": exif}),
        ("transparent", drawing, "PNG", {}),
        ("transparent palette", drawing.quantize(4, Image.Quantize.FASTOCTREE), "PNG", {}),
        ("16 bit", scan, "PNG", {}),
        ("for print", photograph.convert("CMYK"), "JPEG", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


@pytest.mark.parametrize("name", odd_files())
def test_the_server_decodes_the_pixels_that_the_tools_see(serve: Any, name: str) -> None:
    whole = ZOOM.replace("500, 500", "1000, 1000")
    server = serve({"zoom": [step(THINKS + whole), step(FINAL)]})
    data = odd_files()[name]
    trajectory = ask(server, "zoom", image=data)
    sent = picture(server.requests()[0]["messages"][1]["content"][0]).convert("RGB")
    assert sent.tobytes() == open_image(data).tobytes()
    crop = KEPT[trajectory.turns[0].responses[0].images[0]]  # zoom.yaml: 64 x 64
    assert crop.tobytes() == sent.resize((64, 64), Image.Resampling.BICUBIC).tobytes()


def test_a_picture_whose_end_is_missing_is_never_sent(serve: Any) -> None:
    server = serve({"zoom": [step(THINKS + ZOOM), step(FINAL)], "plain": [step(FINAL)]})
    torn = png()[:-40]
    failed = ask(server, "zoom", image=torn)
    assert failed.status is Status.INFRA_FAILURE
    assert "cannot be read" in str(failed.error)
    assert ask(server, "plain", image=torn).status is Status.INFRA_FAILURE


def test_what_is_no_picture_is_never_sent(serve: Any) -> None:
    server = serve({"plain": [step(FINAL)]})
    assert ask(server, "plain", image=b"words").status is Status.INFRA_FAILURE
    assert server.requests() == []


def test_a_tool_whose_service_is_down_ends_the_trajectory(serve: Any) -> None:
    server = serve({"zoom": [step(THINKS + ZOOM), step(FINAL)]})
    trajectory = ask(server, "zoom", tools=[BrokenZoom({})])
    assert trajectory.status is Status.INFRA_FAILURE
    assert trajectory.error == "image_zoom_in is unavailable."
    assert trajectory.turns[0].calls[0].infra
    assert len(server.requests()) == 1  # the policy is not asked to go on


def test_a_tool_lives_as_long_as_its_trajectory(serve: Any) -> None:
    server = serve({"twice": [step(THINKS + ZOOM), step(THINKS + ZOOM), step(FINAL)]})
    tool = CountingZoom({})
    for _ in range(2):
        assert ask(server, "twice", tools=[tool]).status is Status.OK
    assert list(tool.asked.values()) == [2, 2]  # one instance for both calls of a trajectory
