"""The data card: every number of the funnel, next to the parquet that it led to, for people and for programs.

stage.json of each stage -> collect() -> card.json and card.md
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.data.sources import SOURCES
from verl_axpo.data.stage import Numbers, read_record
from verl_axpo.data.workspace import Workspace
from verl_axpo.files import write_atomically

# What the paper reports for the same steps (section 4); a set made from other files or models will differ.
PAPER = {
    "SFT trajectories": 64_274,
    "SFT share with a tool call": 0.25,
    "RL problems from the SFT set": 15_591,
    "RL problems of the hard set": 22_000,
}


def hash_of(value: Any) -> str:
    """SHA-256 of anything JSON can hold."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def collect(work: Workspace) -> Numbers:
    """The records of all finished stages in order, the sources' licences, and the paper's numbers."""
    folders = [work.problems(name) for name in work.ingested()] + [work.dedup, work.sft, work.rl]
    records = [record for folder in folders if (record := read_record(folder)) is not None]
    named = [record["numbers"]["source"] for record in records if "source" in record["numbers"]]
    sources = {
        name: {"repository": SOURCES[name].repo, "licence": SOURCES[name].licence, "schema": SOURCES[name].known_from}
        for name in named
    }
    return {"sources": sources, "stages": records, "paper": PAPER}


def write(work: Workspace, out: Path) -> None:
    """Write `card.json` and `card.md` into `out`."""
    collected = collect(work)
    write_atomically(out / "card.json", orjson.dumps(collected, option=orjson.OPT_INDENT_2), flush=True)
    write_atomically(out / "card.md", render(collected).encode(), flush=True)


def render(collected: Mapping[str, Any]) -> str:
    """The card as markdown: sources, then a table per stage with its settings and inputs."""
    sources = ((name, about["repository"], about["licence"]) for name, about in collected["sources"].items())
    lines = ["# Data card", "", *_table(("source", "repository", "licence"), sources)]
    for record in collected["stages"]:
        lines += ["", f"## {record['stage']}", "", *_table(("", ""), _flat(record["numbers"]))]
        lines += ["", "Versions: " + _inline(record["versions"]), "", "Settings: " + _inline(record["settings"])]
        lines += ["", "Inputs: " + ", ".join(f"`{name}` {value[:12]}" for name, value in record["inputs"].items())]
    lines += ["", "## The paper's numbers", "", *_table(("", ""), collected["paper"].items()), ""]
    return "\n".join(lines)


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested numbers as lines `outer: inner`."""
    rows: list[tuple[str, Any]] = []
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}: ")
        else:
            rows.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows


def _inline(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in _flat(settings))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    marked = [" | ".join(_cell(value) for value in row) for row in rows]
    return [f"| {line} |" for line in (" | ".join(head), " | ".join("---" for _ in head), *marked)]


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
