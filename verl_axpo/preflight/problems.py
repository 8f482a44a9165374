"""What a check says: Finding (one line of the table), `problem` and `fine` to make one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, what is there, and what to do if that is not good."""

    name: str
    found: str
    ok: bool
    fix: str = ""


def fine(name: str, found: str) -> Finding:
    """A green line."""
    return Finding(name=name, found=found, ok=True)


def problem(name: str, found: str, fix: str) -> Finding:
    """A red line with what to change."""
    return Finding(name=name, found=found, ok=False, fix=fix)


def prefixed(stage: str, findings: Sequence[Finding]) -> Iterator[Finding]:
    """The same findings, each named after its stage."""
    for one in findings:
        yield Finding(name=f"{stage}: {one.name}", found=one.found, ok=one.ok, fix=one.fix)
