"""A table of numbers and its forms: text, Markdown, CSV, JSON, the terminal's.

A row names its cells; a cell is text, a number, an `Estimate` or None. Text forms round. CSV and JSON have every digit
and an `Estimate` with its four numbers ("Pass@1 %.value", "Pass@1 %.low", ...), which are shares in [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from verl_axpo.report.stats import Estimate

if TYPE_CHECKING:  # rich takes a moment, and not every command needs it
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table as RichTable

Cell = str | int | float | Estimate | None
WIDEST = 10_000  # columns: wide enough for every table
Rows = list[dict[str, Any]]  # column -> Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`name` is that of its files, and of its caption in `templates/captions.jinja`."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    title: str = ""

    def lines(self) -> list[list[str]]:
        """The header and the rows as text; a row without a cell has none there."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        return [columns, *([text_of(row.get(column)) for column in columns] for row in self.rows)]

    def markdown(self) -> str:
        header, *rows = self.lines()
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)

    def records(self) -> list[dict[str, Any]]:
        """A dictionary per row, ready for JSON."""
        return [{column: _plain(cell) for column, cell in row.items()} for row in self.rows]

    def csv(self) -> str:
        import pandas as pd  # takes a moment, and not every command needs it

        return str(pd.json_normalize(self.records()).to_csv(index=False))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """For a terminal, which takes the text as it is, without markup. A wide table lies on its side where it does
        not fit: `eval report` has a column per benchmark."""
        lines = self.lines()
        upright = _rich_table(lines, self.title)
        width = upright.__rich_measure__(console, options.update(max_width=WIDEST)).maximum
        on_its_side = width > options.max_width and len(lines[0]) > len(lines)
        yield _rich_table([list(line) for line in zip(*lines, strict=True)], self.title) if on_its_side else upright


def _rich_table(lines: Sequence[Sequence[str]], title: str) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=title or None)
    for heading in lines[0]:
        table.add_column(Text(heading))
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    return table


def text_of(cell: Cell) -> str:
    """Three digits of a small number, no decimals of a large one, "-" for NaN, nothing for None."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return "-" if cell != cell else f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def markdown_cell(text: str) -> str:
    """What the policy wrote must not end a table's cell or row."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").split())


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return asdict(cell)
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell
