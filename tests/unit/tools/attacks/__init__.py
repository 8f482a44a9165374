"""Hostile programs for the python tool, by what they go after; see corpus.py for how they are written."""

from tests.unit.tools.attacks.corpus import ESCAPED, PRELUDE, Attack
from tests.unit.tools.attacks.files import FILES
from tests.unit.tools.attacks.interpreter import INTERPRETER
from tests.unit.tools.attacks.memory import MEMORY
from tests.unit.tools.attacks.network import NETWORK
from tests.unit.tools.attacks.others import OTHERS
from tests.unit.tools.attacks.output import OUTPUT
from tests.unit.tools.attacks.processes import PROCESSES
from tests.unit.tools.attacks.protocol import PROTOCOL

ATTACKS: dict[str, Attack] = PROCESSES | OTHERS | MEMORY | FILES | NETWORK | OUTPUT | PROTOCOL | INTERPRETER

__all__ = ["ATTACKS", "ESCAPED", "PRELUDE", "Attack"]
