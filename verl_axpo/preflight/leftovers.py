"""Checkpoints that verl has forgotten: `python -m verl_axpo.preflight.leftovers KIND -- COMMAND...` removes them.

    command line -> Saving -> the checkpoint it goes on from, whole? -> what lies beside it -> removed

verl deletes the old checkpoints of one process; the list starts empty with each (`previous_saved_paths` in its
checkpoint_manager.py), so that every start again would leave behind all that the last one kept. A recipe calls this
before it starts a training again. Nothing goes unless the checkpoint that verl will go on from is whole.
"""

import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_axpo.preflight.memory import GIB
from verl_axpo.preflight.stages import TRAINERS, Stage

TRACKER = "latest_checkpointed_iteration.txt"  # verl writes it last; it decides what a start goes on from
INSIDE = {"sft": ".", "rl": "actor"}  # where in global_step_N the model lies
KEEP = {"sft": "trainer.max_ckpt_to_keep", "rl": "trainer.max_actor_ckpt_to_keep"}
PARTS = ("model", "optim", "extra_state")  # of every rank; verl reads all three


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What a training's command line says of its checkpoints; `keep`: 0 keeps all, as verl does without a limit."""

    folder: Path
    inside: str
    keep: int
    resumes: bool  # from the last one in `folder`, and not from one that the user names

    @classmethod
    def of(cls, stage: Stage) -> "Saving | None":
        """Read from the overrides, the last of a key counts; None without a trainer or a folder of its own."""
        if TRAINERS[stage.kind] not in stage.argv:
            return None
        words = dict(word.lstrip("+").split("=", 1) for word in stage.overrides if "=" in word)
        folder, keep = words.get("trainer.default_local_dir", ""), words.get(KEEP[stage.kind], "")
        if not folder:
            return None
        return cls(
            folder=Path(folder),
            inside=INSIDE[stage.kind],
            keep=int(keep) if keep.isdigit() else 0,
            resumes=words.get("trainer.resume_mode", "auto") == "auto"
            and words.get("trainer.resume_from_path", "null") == "null",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What lies in a training's folder beside what it goes on from.

    Attributes:
        step: of the checkpoint that verl goes on from; 0: there is none, or the user names one.
        surplus: folders to remove.
        doubt: why nothing is removed although something lies there; empty otherwise.
    """

    step: int = 0
    surplus: tuple[Path, ...] = ()
    doubt: str = ""

    @property
    def gib(self) -> float:
        """What removing them frees: a file that is linked from elsewhere, as an exported model's, stays."""
        files = [entry.lstat() for folder in self.surplus for entry in folder.rglob("*") if not entry.is_dir()]
        return sum(one.st_size for one in files if one.st_nlink == 1) / GIB


def leftovers_of(stage: Stage) -> Leftovers:
    """The checkpoints of earlier processes that verl would neither go on from nor ever delete.

    As many stay as verl itself keeps while it writes the next: one less than its limit, the newest of them the one that
    it goes on from. What is newer than that was not finished, or is about to be written again.
    """
    saving = Saving.of(stage)
    found = _checkpoints(saving.folder) if saving else {}
    if saving is None or not found:
        return Leftovers()
    step, doubt = _latest(saving, found)
    if not saving.resumes:
        return Leftovers()
    if doubt or not saving.keep:
        return Leftovers(step=step, doubt=doubt)
    whole = [one for one in sorted(found, reverse=True) if one <= step and not flaw_of(found[one] / saving.inside)]
    staying = whole[: max(1, saving.keep - 1)]
    surplus = (found[one] for one in sorted(found) if one not in staying)
    return Leftovers(step=step, surplus=tuple(one for one in surplus if not one.is_symlink()))


def flaw_of(folder: Path) -> str:
    """What is missing for verl to load this checkpoint of an FSDP model; empty if it is whole."""
    config = folder / "fsdp_config.json"
    try:
        ranks = int(json.loads(config.read_text())["world_size"])
    except (OSError, ValueError, KeyError, TypeError):
        ranks = 0
    if ranks < 1:
        return f"{config} is missing or broken"
    names = (f"{part}_world_size_{ranks}_rank_{rank}.pt" for part in PARTS for rank in range(ranks))
    # torch.save writes a zip file, whose directory is at its end: one that was cut short has none
    return next((f"{folder / name} is missing or cut short" for name in names if not _is_zip(folder / name)), "")


def _latest(saving: Saving, found: dict[int, Path]) -> tuple[int, str]:
    """(the step that verl goes on from, what is wrong with it)."""
    tracker = saving.folder / TRACKER
    try:
        step = int(tracker.read_text())
    except (OSError, ValueError):
        return 0, f"{tracker} is missing or names no step"
    if step not in found:
        return 0, f"{tracker} names step {step}, which is not there"
    return step, flaw_of(found[step] / saving.inside)


def _checkpoints(folder: Path) -> dict[int, Path]:
    entries = folder.iterdir() if folder.is_dir() else ()
    numbered = ((re.fullmatch(r"global_step_(\d+)", entry.name), entry) for entry in entries if entry.is_dir())
    return {int(match[1]): entry for match, entry in numbered if match}


def _is_zip(file: Path) -> bool:
    return file.is_file() and zipfile.is_zipfile(file)


def remove(leftovers: Leftovers) -> str:
    """Remove them.

    Returns:
        what was done, or why nothing was; empty where there is nothing to say.

    Raises:
        OSError: one cannot be removed.
    """
    if leftovers.doubt:
        return f"no checkpoint is removed: {leftovers.doubt}"
    if not leftovers.surplus:
        return ""
    gib, names = leftovers.gib, ", ".join(str(one) for one in leftovers.surplus)
    for folder in leftovers.surplus:
        shutil.rmtree(folder)
    return f"removed what earlier starts left ({gib:.1f} GiB): {names}; training goes on from step {leftovers.step}"


def main(
    kind: Annotated[str, typer.Argument(help="sft or rl.")],
    command: Annotated[list[str], typer.Argument(help="The training's command line, behind --.")],
) -> None:
    """Remove the checkpoints that verl has forgotten, before this training starts again."""
    console = Console(stderr=True)
    if kind not in INSIDE:
        raise typer.BadParameter(f"got {kind!r}, expected one of {sorted(INSIDE)}")
    try:
        said = remove(leftovers_of(Stage(name=kind, kind=kind, argv=tuple(command))))
    except OSError as error:
        console.print(f"{error}\nremove it by hand, then start again", style="red", soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    if said:
        console.print(said, soft_wrap=True, markup=False)


if __name__ == "__main__":
    typer.run(main)
