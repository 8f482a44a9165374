"""A few example trees of a step, in the run's own loggers: next to the metrics that verl logs there.

    records of the trace -> report.tree -> Tree -> the loggers of verl's `Tracking`, each in the form that it shows

`algorithm.axpo.example_trees` says how many; without a logger that shows any, or with 0, nothing is read or drawn.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_axpo.core.config import AxpoConfig
from verl_axpo.trace.records import TrajectoryRecord

if TYPE_CHECKING:
    from verl_axpo.report.tree import Tree

logger = logging.getLogger(__name__)

KEY = "axpo/example"  # and the number of the example, from 1


def show_examples(
    records: Sequence[TrajectoryRecord], config: AxpoConfig, loggers: Mapping[str, Any], step: int
) -> None:
    """Log the step's example trees.

    Args:
        records: of the whole step.
        config: names the trace's folder, which has the pictures, and the number of trees.
        loggers: verl's `Tracking.logger`, by backend.
        step: under which verl logs the step's metrics.
    """
    shown = [(put, loggers[backend]) for backend, put in _PUT.items() if backend in loggers]
    if not shown or not config.example_trees or config.trace_dir is None:
        return
    from verl_axpo.report.tree import examples, tree

    trees = [tree(question, Path(config.trace_dir)) for question in examples(records, config.example_trees)]
    for number, example in enumerate(trees, start=1):
        for put, backend in shown:
            try:
                put(backend, f"{KEY}_{number}", example, step)
            except Exception as error:  # a picture in a logger is not worth a training
                logger.warning("step %d: example %d was not logged: %r", step, number, error)


def _tensorboard(adapter: Any, key: str, tree: "Tree", step: int) -> None:
    import numpy as np

    adapter.writer.add_text(key, tree.markdown, step)
    for number, picture in enumerate(tree.pictures, start=1):
        image = np.asarray(picture.image.convert("RGB"))
        adapter.writer.add_image(f"{key}/picture_{number}", image, step, dataformats="HWC")


def _wandb(wandb: Any, key: str, tree: "Tree", step: int) -> None:
    pictures = [wandb.Image(picture.image, caption=picture.caption) for picture in tree.pictures]
    shown = {key: wandb.Html(tree.html, inject=False), **({f"{key}/pictures": pictures} if pictures else {})}
    wandb.log(shown, step=step)


def _mlflow(adapter: Any, key: str, tree: "Tree", step: int) -> None:
    mlflow = import_module("mlflow")  # not in our requirements: whoever names the logger has it
    mlflow.log_text(tree.html, f"{key}/step_{step:06d}.html")
    for number, picture in enumerate(tree.pictures, start=1):
        mlflow.log_image(picture.image, key=f"{key}/picture_{number}", step=step, synchronous=True)


def _trackio(adapter: Any, key: str, tree: "Tree", step: int) -> None:
    trackio = adapter.trackio
    pictures = {
        f"{key}/picture_{number}": trackio.Image(picture.image, caption=picture.caption)
        for number, picture in enumerate(tree.pictures, start=1)
    }
    trackio.log({key: trackio.Markdown(tree.markdown), **pictures}, step=step)


_PUT: dict[str, Callable[[Any, str, "Tree", int], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
