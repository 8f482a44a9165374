"""The plots of a report: what is drawn is what its numbers say, and the same file each time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer

from tests.unit.eval.test_report import OUTCOMES, write
from verl_axpo.report import plots
from verl_axpo.report.evaluation import OUTCOMES as OUTCOMES_OF
from verl_axpo.report.evaluation import figures, summary
from verl_axpo.report.results import Evaluation, load_evaluation


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Of test_report: cold is "ccCu" and "ffff", warm "CwfW" and "wwww"; a capital letter made two calls."""
    return load_evaluation(write(tmp_path_factory.mktemp("evaluation"), OUTCOMES))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def heights(axes: Axes) -> dict[str, list[float]]:
    """Label of each set of bars -> their heights; "" for one without a label."""
    found = {}
    for bars in (drawn for drawn in axes.containers if isinstance(drawn, BarContainer)):
        # a histogram's label is its first bar's
        labels = [str(label) for label in (bars.get_label(), bars[0].get_label()) if not str(label).startswith("_")]
        found["".join(labels)] = [bar.get_height() for bar in bars]
    return found


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def test_bars_are_the_summarys_values(evaluation: Evaluation) -> None:
    numbers = summary(evaluation)
    measured = {word: [numbers[key][name] for name in ("cold", "warm")]
                for key, word in (("pass_1", "Pass@1"), ("pass_k", "Pass@4"))}  # fmt: skip
    (axes,) = plots.bars(measured, ["Cold", "Warm"]).axes
    # cold: 3 of 4 right, one unscored; warm: (1/3 + 0) / 2, and pink alone, which has none of four
    assert heights(axes)["Pass@1"] == pytest.approx([3 / 4, 1 / 6])
    assert heights(axes)["Pass@4"] == pytest.approx([1.0, 0.0])
    assert ticks(axes) == ["Cold", "Warm"]
    (whiskers, *_) = (lines for lines in axes.collections if isinstance(lines, LineCollection))
    low, high = numbers["pass_1"]["warm"].low, numbers["pass_1"]["warm"].high
    assert [height for _, height in whiskers.get_segments()[1]] == pytest.approx([low, high])


def test_lengths_by_outcome(evaluation: Evaluation) -> None:
    tokens = {
        name: [row.response_tokens for row in evaluation.rows if row.usable and row.correct is correct]
        for name, correct in OUTCOMES_OF.items()
    }
    (axes,) = plots.lengths(tokens).axes
    # warm: 1 right, 6 wrong; cold: 3 right, 1 unscored; stacked, so that heights are counts above the ones below
    assert {label: sum(bars) for label, bars in heights(axes).items()} == {"correct": 4, "wrong": 6, "unscored": 1}


def drawn(folder: Path) -> list[str]:
    evaluation = load_evaluation(folder)
    return [figure.name for figure in figures(evaluation, summary(evaluation))]


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    failed = write(tmp_path / "failed", {("warm", "red"): "ff"})
    assert drawn(failed) == ["accuracy", "tool_use"]
    silent = write(tmp_path / "silent", {("warm", "red"): "cw"})
    assert drawn(silent) == ["accuracy", "tool_use", "lengths"]
    assert not plt.get_fignums()  # closed, or a long-lived process would keep them


def test_a_plot_is_the_same_file_each_time_it_is_drawn() -> None:
    first, second = (plots.saved(plots.lengths({"correct": [3, 4], "wrong": [7]}), "lengths") for _ in range(2))
    assert first == second
    assert first.title == "Response length"
    assert first.content.startswith(b"<?xml")
