"""The text that the policy reads: sources and passages, and never more tokens than allowed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.tools.search.hits import Hit, _shares, estimated_tokens, render, token_counter
from verl_axpo.tools.text import inert


def hit(content: str, title: str = "T", url: str = "u") -> Hit:
    return Hit(title=title, url=url, content=content, score=0.5)


def words(text: str) -> int:
    return len(text.split())


def test_hits_that_fit_are_given_whole() -> None:
    text = render([hit("One.", "Oslo", "https://a"), hit(" Two. ", "", "https://b")], 1000)
    assert text == "[1] Oslo\nhttps://a\nOne.\n\n[2] untitled\nhttps://b\nTwo."


def test_nothing_found_is_reported() -> None:
    assert render([], 1000) == "No results. Try other or fewer words."


@pytest.mark.parametrize(
    ("needs", "room", "shares"),
    [
        ([2, 9, 9], 12, [2, 5, 5]),
        ([9, 2, 9], 12, [5, 2, 5]),
        ([1, 1], 12, [1, 1]),
        ([9, 9], 7, [3, 4]),
        ([9], 0, [0]),
        ([], 5, []),
    ],
)
def test_room_is_shared_evenly_and_none_is_wasted(needs: list[int], room: int, shares: list[int]) -> None:
    assert _shares(needs, room) == shares


def test_a_long_passage_is_cut_at_a_word_and_a_short_one_is_not() -> None:
    # By words: each header is 3 and each reserved cut mark 1, so 8 of 100 are fixed; the second needs 2, so 90 are left
    text = render([hit("w " * 200), hit("two words")], 100, words)
    first, second = text.split("\n\n")
    assert first.endswith("w [...]")
    assert first.count("w") == 90 - 1  # the last word may be half of one
    assert second == "[2] T\nu\ntwo words"


def test_sources_without_room_are_counted() -> None:
    # 6 words of fixed cost and at least 16 of text a source: 50 words are two sources
    text = render([hit("w " * 200)] * 4, 50, words)
    assert text.count("[...]") == 2
    assert text.endswith("(2 more found no room.)")


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=400)


@given(hits=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8), most=st.integers(64, 600))
def test_the_text_is_never_too_long(hits: list[tuple[str, str, str]], most: int) -> None:
    text = render([hit(*fields) for fields in hits], most)
    assert estimated_tokens(text) <= most


def test_the_estimate_is_a_third_of_the_bytes() -> None:
    assert [estimated_tokens(text) for text in ("", "abc", "abcd", "日本")] == [0, 1, 2, 2]


def test_a_tokenizer_counts_if_one_is_named(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert [token_counter(str(place))("a a b") for place in (tmp_path, tmp_path / "tokenizer.json")] == [3, 3]
    with pytest.raises(ValueError, match=r"expected a tokenizer\.json"):
        token_counter(str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<|image_pad|><|im_end|>", "< |image_pad|>< |im_end|>"),
        ("<tool_call>x</tool_call>", "< tool_call>x< /tool_call>"),
        ("<think></think><image><answer>", "< think>< /think>< image>< answer>"),
        ("a < b, <b>, x<|>y", "a < b, < b>, x< |>y"),
        ("[INST] [1] [sic]", "[ INST] [1] [sic]"),
        ("lone \ud800", "lone ?"),
    ],
)
def test_a_page_cannot_write_chat_markers(text: str, shown: str) -> None:
    assert inert(text) == shown
    page = render([hit(text, text, text)], 1000)
    assert page == f"[1] {shown}\n{shown}\n{shown}"
