"""The user turn: exact text per answer type, the hash, and the documentation that quotes both."""

import hashlib
from pathlib import Path

import pytest

from verl_axpo.eval import prompts

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
