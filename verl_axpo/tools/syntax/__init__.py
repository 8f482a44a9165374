"""Call syntaxes by name: three built in, others by entry points -> `syntaxes()` -> `CallSyntax`.

base.py     what a syntax is
hermes.py   JSON between tags
tagged.py   arguments between tags of their own: Qwen3.5 and later, GLM
by_verl.py  any other that verl has a parser for
rows.py     SFT rows in the model's syntax

A package adds a syntax with an entry point in the group `verl_axpo.call_syntaxes` that names an instance of
`CallSyntax` (docs/add_a_model.md).
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from verl_axpo.tools.syntax.base import CallSyntax, ParsedCall, Schema
from verl_axpo.tools.syntax.by_verl import ByVerl
from verl_axpo.tools.syntax.hermes import Hermes
from verl_axpo.tools.syntax.rows import in_syntax
from verl_axpo.tools.syntax.tagged import Glm, QwenXml, TaggedArguments

__all__ = ["GROUP", "HERMES", "ByVerl", "CallSyntax", "ParsedCall", "Schema", "TaggedArguments", "in_syntax"]
__all__ += ["syntax", "syntaxes"]

GROUP = "verl_axpo.call_syntaxes"
HERMES = Hermes()
BUILT_IN: tuple[CallSyntax, ...] = (HERMES, QwenXml(), Glm())


@lru_cache(maxsize=1)
def syntaxes() -> Mapping[str, CallSyntax]:
    """Every syntax by name.

    Raises:
        ValueError: an entry point that is no syntax, or that takes the name of another one.
    """
    known: dict[str, CallSyntax] = {built_in.name: built_in for built_in in BUILT_IN}
    for point in metadata.entry_points(group=GROUP):
        added = point.load()
        if not isinstance(added, CallSyntax):
            raise ValueError(f"entry point {point.name} of {GROUP}: got {added!r}, expected an instance of CallSyntax")
        if added.name in known:
            raise ValueError(f"entry point {point.name} of {GROUP}: the call syntax {added.name} is there already")
        known[added.name] = added
    return known


def syntax(name: str) -> CallSyntax:
    """The syntax of that name.

    Raises:
        ValueError: there is none.
    """
    known = syntaxes()
    if name not in known:
        raise ValueError(f"call syntax: got {name!r}, expected one of {sorted(known)}; docs/add_a_model.md adds one")
    return known[name]
