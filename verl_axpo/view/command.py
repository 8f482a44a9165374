"""`verl-axpo view DIR` without a step: a folder -> its source -> a server and a browser, or one file."""

import os
import re
import sys
import webbrowser
from pathlib import Path

from rich.console import Console

from verl_axpo.eval.store import MANIFEST
from verl_axpo.trace.reader import list_steps
from verl_axpo.view.evaluation import EvaluationSource
from verl_axpo.view.page import write
from verl_axpo.view.server import ViewServer
from verl_axpo.view.source import Source
from verl_axpo.view.training import TrainingSource

_RANGE = re.compile(r"(\d+)-(\d+)")


def source_of(folder: Path, trace: Path) -> Source:
    """The evaluation or training in a folder.

    Args:
        folder: of an evaluation, a run or a trace.
        trace: of the run; `folder` itself where that is a trace.

    Raises:
        ValueError: neither is there.
    """
    if (folder / MANIFEST).exists():
        return EvaluationSource(folder)
    list_steps(trace)
    return TrainingSource(trace, folder)


def serve(source: Source, port: int, console: Console, *, browser: bool) -> None:
    """Serve until Ctrl-C. Where no browser opens, the address and a tunnel's command are there to copy."""
    with ViewServer(source, port) as server:
        console.print(f"{server.url}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        if not (browser and _has_screen() and webbrowser.open(server.url)):
            port = server.server_address[1]
            console.print(f"from another machine: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE", soft_wrap=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("stopped")


def _has_screen() -> bool:
    """Without one, Python would open a browser of letters in this terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def save(source: Source, wanted: str | None, out: Path, console: Console, *, tokens: bool = False) -> None:
    """Write the self-contained file with the steps or benchmarks that are wanted; by default the last step, or all."""
    keys = chosen(source, wanted)
    size = write(source, keys, out, tokens=tokens)
    console.print(f"wrote {out} ({size / 1e6:.1f} MB) with {', '.join(keys)}", soft_wrap=True)


def chosen(source: Source, wanted: str | None) -> list[str]:
    """Keys of chapters, from words like `1,5-7` or `vstar,hrbench8k`.

    Raises:
        ValueError: one that is not there, or nothing to show.
    """
    run = source.run()
    there = [chapter["key"] for chapter in run["chapters"]]
    if not there:
        raise ValueError(f"view: {source.folder} has no step and no benchmark yet")
    if wanted is None:
        return there if run["kind"] == "evaluation" else there[-1:]
    words = [word.strip() for word in wanted.split(",")]
    ranges = [_RANGE.fullmatch(word) for word in words]
    asked = {
        str(step): None
        for word, pair in zip(words, ranges, strict=True)
        for step in (range(int(pair[1]), int(pair[2]) + 1) if pair else ()) or [word]
    }
    missing = [key for key in asked if key not in there]
    if missing:
        shown = f"{there[0]} to {there[-1]}" if run["kind"] == "training" else ", ".join(there)
        raise ValueError(f"view: {', '.join(missing)} is not there; there are {shown}")
    return list(asked)
