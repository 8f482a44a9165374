"""Tool calls in text, by the very rules that training applies to token ids.

    text -> TaggedText: each tag one id, each stretch between tags one id -> ToolCallParser -> calls

A server answers in text; `verl_axpo.tools.parser` reads ids. Its rules only ask where tags are and what stands between
them, so that ids made of the text itself lead to the same calls as the policy's own.
"""

import re

from verl_axpo.tools.parser import TAGS, ParsedCall, ToolCallParser

_PIECES = re.compile("(" + "|".join(re.escape(tag) for tag in TAGS) + ")")


class TaggedText:
    """The tokenizer of one text: ids 0 to 3 are the tags, higher ones number the stretches between them."""

    def __init__(self, text: str) -> None:
        pieces = [piece for piece in _PIECES.split(text) if piece]
        stretches = [piece for piece in pieces if piece not in TAGS]
        self._pieces = [*TAGS, *stretches]
        numbers = iter(range(len(TAGS), len(self._pieces)))
        self.ids = [TAGS.index(piece) if piece in TAGS else next(numbers) for piece in pieces]

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """As a Hugging Face tokenizer's, for the tags."""
        return TAGS.index(tokens) if tokens in TAGS else None

    def decode(self, token_ids: list[int]) -> str:
        """The text of the ids."""
        return "".join(self._pieces[token_id] for token_id in token_ids)


def calls_in(text: str) -> list[ParsedCall]:
    """The calls of one complete assistant turn, in order; an undecodable one carries its problem."""
    tokens = TaggedText(text)
    parser = ToolCallParser(tokens, starts_in_think=False)
    return [parser.parse(tokens.ids, span) for span in parser.spans(tokens.ids)]
