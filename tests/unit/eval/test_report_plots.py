"""The plots of a report: what is drawn is what its numbers say, benchmark by benchmark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from tests.unit.eval.test_report import OUTCOMES, write
from verl_axpo.report import plots
from verl_axpo.report.evaluation import MULTIPLES, Breakdowns, breakdown, figures, small_frames, summary
from verl_axpo.report.evaluation import OUTCOMES as OUTCOMES_OF
from verl_axpo.report.results import Evaluation, load_evaluation


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Of test_report: cold is "ccCu" and "ffff", warm "CwfW" and "wwww"; a capital letter made two calls."""
    return load_evaluation(write(tmp_path_factory.mktemp("evaluation"), OUTCOMES))


@pytest.fixture
def found(evaluation: Evaluation) -> Breakdowns:
    return {result.column: breakdown(result) for result in evaluation.results}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def draw(name: str, found: Breakdowns) -> Any:
    title, unit = MULTIPLES[name]
    return plots.multiples(small_frames(name, found), title, unit, stacked=name == "outcomes")


def heights(axes: Axes) -> dict[str, list[float]]:
    """Label of each set of bars -> their heights; "" for one without a label."""
    found = {}
    for one in (some for some in axes.containers if isinstance(some, BarContainer)):
        # a histogram's label is its first bar's
        labels = [str(label) for label in (one.get_label(), one[0].get_label()) if not str(label).startswith("_")]
        found["".join(labels)] = [bar.get_height() for bar in one]
    return found


def cells(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def test_statuses(found: Breakdowns) -> None:
    drawn = cells(draw("statuses", found))
    assert list(drawn) == ["Cold", "Warm"]
    assert ticks(drawn["Warm"]) == ["ok", "truncated", "infra\nfailure"]
    assert heights(drawn["Warm"]) == {"": [7, 0, 1]}
    assert heights(drawn["Cold"]) == {"": [4, 0, 4]}


def test_tool_use_by_outcome(found: Breakdowns) -> None:
    figure = draw("outcomes", found)
    drawn = cells(figure)
    assert ticks(drawn["Warm"]) == ["tool", "no tool"]
    assert heights(drawn["Warm"]) == {"correct": [1, 0], "wrong": [1, 5], "unscored": [0, 0]}
    assert heights(drawn["Cold"]) == {"correct": [1, 2], "wrong": [0, 0], "unscored": [0, 1]}
    wrong = drawn["Warm"].containers[1]
    assert [bar.get_y() for bar in wrong] == [1, 0]  # on top of the correct ones
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["correct", "wrong", "unscored"]


def test_call_and_error_rates_of_each_tool(found: Breakdowns) -> None:
    drawn = cells(draw("tools", found))
    assert ticks(drawn["Warm"]) == ["image_zoom_in", "undecodable"]
    # 2 of warm's 7 usable rollouts made one call of each kind, 1 of cold's 4; what nobody can read always fails
    for name, share in (("Warm", 2 / 7), ("Cold", 1 / 4)):
        assert heights(drawn[name]) == {"rollouts that call it": [share, share], "its calls that fail": [0.0, 1.0]}


def test_turns(found: Breakdowns) -> None:
    longer = {**found, "Cold": {**found["Cold"], "turns": {3: 2, 5: 1}}}
    drawn = cells(draw("turns", longer))
    assert heights(drawn["Warm"]) == {"": [7, 0, 0, 0, 0]}
    assert heights(drawn["Cold"]) == {"": [0, 0, 2, 0, 1]}  # the same axis, 1 to 5


def test_four_benchmarks_take_two_rows(found: Breakdowns) -> None:
    four = {f"{name}{at}": one for at in (1, 2) for name, one in found.items()}
    figure = draw("statuses", four)
    assert list(cells(figure)) == list(four)
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2


def test_bars_are_the_summarys_values(evaluation: Evaluation) -> None:
    numbers = summary(evaluation)
    measured = {word: [numbers[key][name] for name in ("cold", "warm")]
                for key, word in (("pass_1", "Pass@1"), ("pass_k", "Pass@4"))}  # fmt: skip
    (axes,) = plots.bars(measured, ["Cold", "Warm"]).axes
    # cold: 3 of 4 right, one unscored; warm: (1/3 + 0) / 2, and pink alone, which has none of four
    assert heights(axes)["Pass@1"] == pytest.approx([3 / 4, 1 / 6])
    assert heights(axes)["Pass@4"] == pytest.approx([1.0, 0.0])
    assert ticks(axes) == ["Cold", "Warm"]
    (whiskers, *_) = (one for one in axes.collections if isinstance(one, LineCollection))
    low, high = numbers["pass_1"]["warm"].low, numbers["pass_1"]["warm"].high
    assert [height for _, height in whiskers.get_segments()[1]] == pytest.approx([low, high])


def test_lengths_by_outcome(evaluation: Evaluation) -> None:
    tokens = {
        name: [row.response_tokens for row in evaluation.rows if row.usable and row.correct is correct]
        for name, correct in OUTCOMES_OF.items()
    }
    (axes,) = plots.lengths(tokens).axes
    # warm: 1 right, 6 wrong; cold: 3 right, 1 unscored; stacked, so that heights are counts above the ones below
    assert {label: sum(some) for label, some in heights(axes).items()} == {"correct": 4, "wrong": 6, "unscored": 1}


def drawn(folder: Path) -> list[str]:
    evaluation = load_evaluation(folder)
    found = {result.column: breakdown(result) for result in evaluation.results}
    return [figure.name for figure in figures(evaluation, summary(evaluation), found)]


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    failed = write(tmp_path / "failed", {("warm", "red"): "ff"})
    assert drawn(failed) == ["accuracy", "tool_use", "statuses"]
    silent = write(tmp_path / "silent", {("warm", "red"): "cw"})
    assert drawn(silent) == ["accuracy", "tool_use", "statuses", "outcomes", "turns", "lengths"]
    assert not plt.get_fignums()  # closed, or a long-lived process would keep them


def test_a_plot_is_the_same_file_each_time_it_is_drawn(found: Breakdowns) -> None:
    first, second = (plots.saved(draw("turns", found), "turns") for _ in range(2))
    assert first == second
    assert first.title == "Turns"
    assert first.content.startswith(b"<?xml")
