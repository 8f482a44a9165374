"""Where the pipeline's files lie: one folder, named once.

raw/<source>/        as downloaded
images/              every image, once
problems/<source>/   problems.jsonl, bad_rows.jsonl
benchmarks.jsonl     what must not be trained on
dedup/               problems.jsonl, hard.jsonl, dropped.jsonl, data card
sft/  rl/            parquet, data card
"""

from pathlib import Path

from verl_axpo.data.images import ImageStore


class Workspace:
    """The folders in `root`. The RL set is one SFT model's own and may lie elsewhere: `rl`."""

    def __init__(self, root: Path, rl: Path | None = None) -> None:
        self.root, self.benchmarks = root, root / "benchmarks.jsonl"
        self.dedup, self.sft, self.rl = root / "dedup", root / "sft", rl or root / "rl"

    def raw(self, source: str) -> Path:
        """A source's files as downloaded."""
        return self.root / "raw" / source

    def problems(self, source: str) -> Path:
        """The folder of a source's problems."""
        return self.root / "problems" / source

    def store(self) -> ImageStore:
        """The image store."""
        return ImageStore(self.root / "images")

    def ingested(self) -> list[str]:
        """The sources that have problems, sorted."""
        return sorted(path.parent.name for path in self.root.glob("problems/*/problems.jsonl"))
