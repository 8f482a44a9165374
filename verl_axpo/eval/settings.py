"""What an evaluation is asked to do: options -> Settings -> the manifest's values."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from verl_axpo.agent.conversation import CONVERSATIONS, Dialect
from verl_axpo.eval.manifest import in_words
from verl_axpo.eval.prompts import prompt_hash
from verl_axpo.eval.sampling import Limits, Sampling
from verl_axpo.tools.configs import settings_of

SAMPLES, SAMPLE_BYTES = 64, 1 << 16  # of a file: 4 MB say as much as all of its 5 GB, and take no minute to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may not change between two runs into one folder, but for a judge that comes later; the defaults are the
    paper's (section 4).

    Attributes:
        model: the name that the server has it under.
        rollouts: of each question (Pass@k's k).
        agent: with tools; False asks for one turn without.
        dialect: see `verl_axpo.agent.conversation`.
        judge: the judge's model; None: rules alone.
        chat_template_kwargs: for the server's chat template; {} sends none.
    """

    model: str
    rollouts: int = 4
    agent: bool = True
    dialect: Dialect = "text"
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    judge: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rollouts < 1:
            raise ValueError(f"rollouts: got {self.rollouts}, expected at least 1")
        if self.dialect not in CONVERSATIONS:
            raise ValueError(f"dialect: got {self.dialect!r}; choose from {sorted(CONVERSATIONS)}")

    @classmethod
    def of(cls, options: Mapping[str, Any], chat_template_kwargs: Mapping[str, Any]) -> "Settings":
        """From the options of `verl-axpo eval run`, by their names; without tools there is one turn."""
        kinds: tuple[Any, ...] = (cls, Sampling, Limits)
        own, sampling, limits = (
            {each.name: options[each.name] for each in fields(kind) if each.name in options} for kind in kinds
        )
        if not options["agent"]:
            limits["max_turns"] = 1
        parts: dict[str, Any] = {
            "sampling": Sampling(**sampling),
            "limits": Limits(**limits),
            "judge": options["judge_model"],
        }
        return cls(**{**own, **parts, "chat_template_kwargs": chat_template_kwargs})

    def for_manifest(self, tools: str | None) -> dict[str, Any]:
        """Plain values, with the options of each tool, a hash of the prompts' texts and, of a local checkpoint, which
        weights it holds. What of `sampling` is left to the server is `manifest.NOT_SENT`."""
        return {
            **asdict(self),
            "sampling": in_words(asdict(self.sampling)),
            "prompts": prompt_hash(),
            "weights": weights_hash(self.model),
            "tools": {} if tools is None else settings_of(tools),
        }


def weights_hash(model: str | Path) -> str | None:
    """Which weights a local checkpoint holds, in 16 hex digits; None for a hub id or a server's own name.

    A file of at most 4 MB counts whole, a larger file by 64 stretches of 64 KiB, evenly spread.
    """
    files = sorted(path for kind in ("*.safetensors", "*.bin") for path in Path(model).glob(kind))
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for at in range(0, size, max(SAMPLE_BYTES, size // SAMPLES)):
                file.seek(at)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
