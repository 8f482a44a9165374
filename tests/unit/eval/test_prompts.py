"""The user turn: exact text per answer type, the hash, and the documentation that quotes both."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from verl_axpo import prompts as training
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem
from verl_axpo.data.rollouts import Rollout
from verl_axpo.data.rows import rl_row, sft_row
from verl_axpo.eval import prompts
from verl_axpo.tools.described import described
from verl_axpo.tools.paper_tools import PYTHON

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


def test_choice_options_are_lettered_lines() -> None:
    assert prompts.render("What?", "choice", options=("red", "blue"), images=1) == (
        "<image>\nWhat?\nA. red\nB. blue\nGive only the letter of the right option as the answer."
    )


def test_options_drawn_in_the_image_are_left_out() -> None:
    assert "A. A" not in prompts.render("What?", "choice", options=tuple("ABCDE"))


def test_a_placeholder_of_the_text_is_not_repeated() -> None:
    assert prompts.render("<image>\nWhat?", "short_text", images=2).startswith("<image>\n<image>\nWhat?\n")
    assert prompts.render("<image>\nWhat?", "short_text", images=1).startswith("<image>\nWhat?\n")


def test_more_placeholders_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 <image> placeholders for 1 image"):
        prompts.render("<image><image>What?", "math", images=1)


def test_the_hash_covers_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompts.prompt_hash()
    assert prompts.prompt_hash("a system turn") != before
    monkeypatch.setattr(prompts, "HINTS", {**prompts.HINTS, "float": "Write a number."})
    assert prompts.prompt_hash() != before
    monkeypatch.undo()
    monkeypatch.setattr(prompts, "INSTRUCTIONS", {**prompts.INSTRUCTIONS, "math": "Say it."})
    assert prompts.prompt_hash() != before
    monkeypatch.undo()
    assert prompts.prompt_hash() == before
    assert len(before) == 16
    assert int(before, 16) < 1 << 64
    assert before != hashlib.sha256(b"").hexdigest()[:16]


def test_the_documentation_quotes_every_prompt_and_the_hash() -> None:
    documented = DOCS.read_text(encoding="utf-8")
    for text in (*prompts.INSTRUCTIONS.values(), *prompts.HINTS.values(), prompts.prompt_hash()):
        assert text in documented


def test_the_documentation_quotes_the_system_turn() -> None:
    """All of what a run with the paper's tool config sends, and what one without tools does."""
    documented = DOCS.read_text(encoding="utf-8")
    tools = described("paper")
    texts = re.findall(r"^```text\n(.*?)\n```$", documented, re.DOTALL | re.MULTILINE)
    assert texts == [training.system_prompt(tools), training.system_prompt([])]


@pytest.mark.parametrize("tools", [[], [PYTHON]])
def test_a_question_of_text_alone_is_not_told_of_images(tools: list[training.ToolPrompt]) -> None:
    with_image, without = (training.prompt_messages(text, tools)[0]["content"] for text in ("<image>Why?", "Why?"))
    assert with_image.startswith("You answer questions about images.")
    assert without == with_image.replace(" about images", "")


def test_the_documentation_quotes_the_schemas() -> None:
    documented, tools = DOCS.read_text(encoding="utf-8"), described("paper")
    (schemas,) = re.findall(r"^```json\n(.*?)\n```$", documented, re.DOTALL | re.MULTILINE)
    # as text: a template renders the keys in their order
    assert json.dumps(json.loads(schemas)) == json.dumps(training.tool_schemas(tools))


def test_training_rows_have_no_instruction(tmp_path: Path) -> None:
    """As the documentation says: the user turn of RL and SFT rows is the source's question alone."""
    store = ImageStore(tmp_path)
    for kind in prompts.INSTRUCTIONS:
        problem = Problem(id="s/1", source="s", question="Which number?", answer="7", answer_type=kind)
        turn = {"role": "assistant", "content": "<answer>7</answer>"}
        shown = {"problem_id": "s/1", "model": "t", "sample": 0, "correct": True, "tool_calls": 0, "turns": [turn]}
        rollout = Rollout.model_validate(shown | {"images": []})
        assert rl_row(problem, 0, "train", [], store, True)["prompt"][1]["content"] == "Which number?"
        assert sft_row(problem, rollout, [], store, True)["messages"][1]["content"] == "Which number?"
        assert prompts.render("Which number?", kind) != "Which number?"
