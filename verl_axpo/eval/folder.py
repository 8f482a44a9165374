"""Which files of an evaluation's folder rest on which, and where a path may lead.

    questions, rollouts, scores, manifest --write--> drop_report() ... build_report() --> report.json, .html, .md

A report that is there reports what is there: whoever changes the folder takes the report away first, so that a run
which dies in between leaves none rather than an old one.
"""

from pathlib import Path

MANIFEST, ROLLOUTS, SCORES, QUESTIONS = "manifest.json", "rollouts.jsonl", "scores.jsonl", "questions"
REPORT = ("report.md", "report.json", "report.html")  # the first is written last: where it is, the others are


def drop_report(folder: Path) -> None:
    """Take the report away before what it rests on changes."""
    for path in (folder / name for name in REPORT):
        if path.exists():
            path.unlink()


def inside(folder: Path, path: str) -> Path:
    """Where a path that a line names leads.

    Raises:
        ValueError: out of the folder, by its words or by a link.
    """
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise ValueError(f"{path!r} leads out of {folder}")
    return found
