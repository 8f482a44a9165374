"""Where the pipeline's files lie: one folder, named once.

raw/<source>/        as downloaded
images/              every image, once
problems/<source>/   problems.jsonl, bad_rows.jsonl
benchmarks.jsonl     what must not be trained on
dedup/               problems.jsonl, hard.jsonl, dropped.jsonl, report.md
sft/  rl/            parquet, data card
"""

from dataclasses import dataclass
from pathlib import Path

from verl_axpo.data.images import ImageLimits, ImageStore


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders in `root`, and the RL set's."""

    root: Path
    rl_out: Path | None = None  # of the RL set, which is one SFT model's own; None: rl/

    def raw(self, source: str) -> Path:
        """A source's files as downloaded."""
        return self.root / "raw" / source

    def problems(self, source: str) -> Path:
        """The folder of a source's problems."""
        return self.root / "problems" / source

    @property
    def dedup(self) -> Path:
        """What is left after de-duplication, and why the rest is not."""
        return self.root / "dedup"

    @property
    def sft(self) -> Path:
        """The SFT set."""
        return self.root / "sft"

    @property
    def rl(self) -> Path:
        """The RL set."""
        return self.rl_out or self.root / "rl"

    def store(self, limits: ImageLimits | None = None) -> ImageStore:
        """The image store."""
        return ImageStore(self.root / "images", limits)

    def ingested(self) -> list[str]:
        """The sources that have problems, sorted."""
        return sorted(path.parent.name for path in self.root.glob("problems/*/problems.jsonl"))

    @property
    def benchmarks(self) -> Path:
        """The benchmarks' entries, for `dedup`."""
        return self.root / "benchmarks.jsonl"
