"""A report and its files: tables and figures -> NAME.html, NAME.md, NAME.json and NAME/{tables,plots}/.

    training.py, evaluation.py, compare.py -> Report -> write()

The page stands alone: its plots are inside. Whoever changes what a report is made of calls `drop_report` first.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import orjson

from verl_axpo.eval.store import drop_report
from verl_axpo.files import write_atomically
from verl_axpo.report.table import Table, markdown_cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A plot, or a picture of the run; `content` is the file's, `caption` comes after the one of `captions.jinja`."""

    name: str
    title: str
    content: bytes
    caption: str = ""
    suffix: str = ".svg"

    @property
    def url(self) -> str:
        kind = {".svg": "svg+xml"}.get(self.suffix, "png")
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Its tables, then its figures; an empty title for the first."""

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`warnings` come after the first section: what a reader must know first. `data`: more for the JSON."""

    title: str
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Table]:
        return {table.name: table for section in self.sections for table in section.tables}

    def json(self) -> bytes:
        """Every number: `data`, the warnings and the tables; NaN as null."""
        tables = {name: table.records() for name, table in self.tables.items()}
        value = {"title": self.title, **self.data, "warnings": list(self.warnings), "tables": tables}
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n"


def write(report: Report, out: str | Path, name: str = "report") -> Path:
    """Write the report's files; returns NAME.md, which is written last: where it is, the others are."""
    folder = Path(out)
    drop_report(folder, name)
    for kind in ("tables", "plots"):
        (folder / name / kind).mkdir(parents=True, exist_ok=True)
    for table in report.tables.values():
        (folder / name / "tables" / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8", newline="")
        (folder / name / "tables" / f"{table.name}.json").write_bytes(orjson.dumps(table.records()) + b"\n")
    for section in report.sections:
        for figure in section.figures:
            (folder / name / "plots" / f"{figure.name}{figure.suffix}").write_bytes(figure.content)
    pages = templates()
    html = pages.get_template("page.html.jinja").render(report=report)
    write_atomically(folder / f"{name}.html", html.encode("utf-8", "replace"))
    write_atomically(folder / f"{name}.json", report.json())
    text = pages.get_template("page.md.jinja").render(report=report, folder=name)
    write_atomically(folder / f"{name}.md", text.encode("utf-8", "replace"))
    return folder / f"{name}.md"


def templates() -> jinja2.Environment:
    """HTML is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("verl_axpo.report"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["cell"] = markdown_cell
    return made
