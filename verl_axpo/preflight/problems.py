"""What a check says: the doctor's Finding, `fine` and `problem` to make one, `show` to print them."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from verl_axpo.doctor import Finding

__all__ = ["Finding", "fine", "problem", "show"]


def fine(name: str, found: str) -> Finding:
    """A green line."""
    return Finding(name=name, found=found, ok=True)


def problem(name: str, found: str, fix: str) -> Finding:
    """A red line with what to change."""
    return Finding(name=name, found=found, ok=False, fix=fix)


def show(console: Console, findings: Iterable[Finding]) -> bool:
    """One line per finding as it comes, green or red, below a red one what to change.

    Returns:
        whether all are green.
    """
    healthy = True
    for one in findings:
        healthy &= one.ok
        mark = "[green]ok  [/]" if one.ok else "[bold red]fix [/]"
        console.print(f"{mark} {escape(one.name)}: {escape(one.found)}", soft_wrap=True)
        if not one.ok:
            console.print(f"     {escape(one.fix)}", style="yellow", soft_wrap=True)
    return healthy
