"""What all reports are written with: tables of text, figures, and the Jinja environment of a package's templates."""

import base64
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

Table = list[list[str]]  # the header first


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A plot and its words; `path` is relative to the report."""

    path: str
    title: str
    caption: str
    data: str  # base64, so that the HTML stands alone


def read_figure(out: Path, path: str, title: str, caption: str) -> Figure:
    """The figure that was drawn to `out / path`."""
    data = base64.b64encode((out / path).read_bytes()).decode()
    return Figure(path=path, title=title, caption=caption, data=data)


def environment(package: str) -> jinja2.Environment:
    """Templates of `package/templates`: HTML is escaped, an unknown name is an error.

    Filters: `markdown_table` and `cell`, the text of a Markdown table's cell.
    """
    folder = resources.files(package) / "templates"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text())
    made = jinja2.Environment(
        loader=loader,
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["markdown_table"] = markdown_table
    made.filters["cell"] = _cell
    return made


def markdown_table(table: Table) -> str:
    """A table in Markdown."""
    header, *rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """What the policy wrote must not end a table's cell or row."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
