"""What a check has found: a line each, green, or red with what to change.

rules of the plugin, `verl-axpo check`, `verl-axpo doctor` -> Finding -> show() or the message of one refusal
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson
from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what is there, whether that is good, and what to do if it is not."""

    name: str
    found: str
    ok: bool
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def fine(name: str, found: str) -> Finding:
    """A green line."""
    return Finding(name, found, ok=True)


def problem(name: str, found: str, fix: str = "") -> Finding:
    """A red line with what to change."""
    return Finding(name, found, ok=False, fix=fix)


def show(console: Console, findings: Iterable[Finding], *, as_json: bool = False) -> bool:
    """Print a line per finding as it comes, and below a red one what to change; with `as_json` one object at the end.

    Returns:
        whether all are green.
    """
    shown = []
    for finding in findings:
        shown.append(finding)
        if not as_json:
            mark = "[green]ok  [/]" if finding.ok else "[bold red]fix [/]"
            console.print(f"{mark} {escape(finding.name)}: {escape(finding.found)}", soft_wrap=True)
            if finding.fix and not finding.ok:
                console.print(f"     {escape(finding.fix)}", style="yellow", soft_wrap=True)
    healthy = all(finding.ok for finding in shown)
    if as_json:
        print(orjson.dumps({"ok": healthy, "findings": [asdict(finding) for finding in shown]}).decode())
    return healthy
