"""The training data's sources, one module each.

base.py          what a source is
virl39k.py fvqa.py pyvision.py   problems for SFT and RL (paper, section 4)
mmfinereason.py  the hard set, for RL alone
"""

from verl_axpo.data.sources import fvqa, mmfinereason, pyvision, virl39k
from verl_axpo.data.sources.base import Source

SOURCES: dict[str, Source] = {module.SOURCE.name: module.SOURCE for module in (virl39k, fvqa, pyvision, mmfinereason)}
HARD = mmfinereason.SOURCE.name


def source_of(name: str) -> Source:
    """The source called `name`.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in SOURCES:
        raise ValueError(f"source: got {name!r}; choose from {list(SOURCES)}")
    return SOURCES[name]
