"""Which files of an evaluation's folder rest on which, and where a path may lead.

    questions, rollouts, scores, manifest --write--> drop_report() ... build_report() --> report.json, .html, .md

A report that is there reports what is there: whoever changes the folder takes the report away first, so that a run
which dies in between leaves none rather than an old one.
"""

from pathlib import Path

MANIFEST, ROLLOUTS, SCORES, QUESTIONS = "manifest.json", "rollouts.jsonl", "scores.jsonl", "questions"
REPORT = ("report.md", "report.json", "report.html")  # the first is written last: where it is, the others are


def drop_report(folder: Path, name: str = "report") -> None:
    """Take the report away before what it rests on changes, with its files in NAME/tables and NAME/plots."""
    for path in (folder / f"{name}{Path(file).suffix}" for file in REPORT):
        if path.exists():
            path.unlink()
    if (folder / name).is_dir():  # only what a report writes: the folder may hold something else
        for kind in ("tables/*.csv", "tables/*.json", "plots/*.svg", "plots/*.png"):
            for path in (folder / name).glob(kind):
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
