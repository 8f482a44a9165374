"""What a person sees: reports of the stages -> the plan and the memory estimates as tables, findings in order."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verl_axpo.preflight.check import Report
from verl_axpo.preflight.problems import Finding


def show_plan(console: Console, reports: Sequence[Report]) -> None:
    """The stages with their figures, and the memory estimate of each training."""
    table = Table("stage", "rows", "steps", "tokens per step (most)", "memory per GPU (estimate)", title="Plan")
    for report in reports:
        table.add_row(escape(report.stage.name), *_figures(report))
    console.print(table)
    for report in reports:
        if report.phases and report.stage.gpu_gib:
            show_memory(console, report)


def _figures(report: Report) -> tuple[str, str, str, str]:
    if report.stage.done:
        return ("done", "", "", "")
    sizes = report.sizes
    if sizes is None:
        return ("", "", "", "")
    rows = f"{sizes.rows:,}" + ("" if sizes.counted else " (expected)")
    tokens = f"{sizes.tokens_per_step:,}"
    if sizes.rollouts_per_step:
        tokens += f" in {sizes.rollouts_per_step:,} + {sizes.continuations_per_step:,} rollouts"
    memory = ", ".join(f"{phase.name} {phase.gib:.1f} GiB" for phase in report.phases)
    return (rows, f"{sizes.steps:,}", tokens, memory if report.stage.gpu_gib else "not estimated: no GPU")


def show_memory(console: Console, report: Report) -> None:
    """The terms of a training's estimate, and what else it takes: room for keys and values, host memory, disk."""
    table = Table(
        "GiB", "what", title=f"{report.stage.name}: memory of one GPU of {report.stage.gpu_gib:g} GiB, estimated"
    )
    for phase in report.phases:
        for term in phase.terms:
            table.add_row(f"{term.gib:.1f}", escape(f"{phase.name}: {term.name}"))
        table.add_row(f"[bold]{phase.gib:.1f}[/]", f"[bold]{phase.name}[/]", end_section=True)
    console.print(table)
    if report.kv_tokens and report.sizes:
        at_once = report.kv_tokens // report.sizes.window
        console.print(
            f"keys and values: {report.kv_tokens:,} tokens a replica, {at_once} rollouts of full length at once"
        )
    if report.host.terms:
        terms = "; ".join(f"{term.gib:.1f} {term.name}" for term in report.host.terms)
        console.print(f"memory of a node: {report.host.gib:.0f} GiB ({terms})", soft_wrap=True)
    console.print(f"a checkpoint on disk: {report.checkpoint_gib:.1f} GiB")


def findings_of(reports: Sequence[Report]) -> list[Finding]:
    """All findings, each named after its stage; a stage of which all is well says so once."""
    lines: list[Finding] = []
    for report in reports:
        for one in report.findings:
            lines.append(Finding(name=f"{report.stage.name}: {one.name}", found=one.found, ok=one.ok, fix=one.fix))
        if report.ok and report.config is not None:
            found = "composed by Hydra, accepted by verl's dataclasses, validate_config and our rules"
            lines.append(Finding(name=f"{report.stage.name}: config", found=found, ok=True))
    return lines
