"""Figures of students of tokens, drawn from made-up tables."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from common.sequence.students import FirstPhaseConfig
from figures import style
from figures.student_windows import StudentWindows, draw_half_way
from figures.students import draw_firsts, draw_lengths
from mlm.page import PAGE

WORDS = {"function": "function words", "content": "content words"}


@pytest.fixture
def axes() -> Iterator[Axes]:
    drawing, panel = plt.subplots()
    yield panel
    plt.close(drawing)


def final_table(arms: dict[str, dict[int, float]]) -> pd.DataFrame:
    """Accuracies by arm and examples, three seeds of each."""
    rows = [
        {"run": arm, "strategy": arm, "heads": 1, "seed": seed, "examples": examples}
        | {"accuracy": accuracy + 0.01 * seed}
        for arm, of_length in arms.items()
        for examples, accuracy in of_length.items()
        for seed in (-1, 0, 1)
    ]
    return pd.DataFrame(rows)


def test_lengths_are_joined_in_their_order(axes: Axes) -> None:
    """Of which the experiment's own need not be the shortest."""
    arms = ("ce", "progressive", "progressive-untrained")
    final = final_table({arm: {8000: 0.7, 2000: 0.5, 16_000: 0.8} for arm in arms})
    draw_lengths(axes, final, "rows")
    bars = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    points = [bar.lines[0] for bar in bars if bar.lines[0] is not None]
    drawn = [line for line in points if len(np.asarray(line.get_xdata(), np.float64))]
    assert len(drawn) == len(arms)
    for line in drawn:
        assert np.all(np.diff(np.asarray(line.get_xdata(), np.float64)) > 0)
        np.testing.assert_allclose(np.asarray(line.get_ydata(), np.float64), [0.5, 0.7, 0.8])
    faces = [to_hex(line.get_markerfacecolor()) for line in drawn]
    assert faces == [style.BLUE.lower(), style.GREEN.lower(), "#ffffff"]
    assert "rows" in axes.get_xlabel()


def test_first_checkpoints_stand_in_their_order(axes: Axes) -> None:
    """Whose labels are not in the order of the alphabet."""
    firsts = FirstPhaseConfig(before=("before", "start"), after=("end", "after")).firsts
    labels = [first.label for first in firsts]
    assert labels == ["plateau", "start", "C1", "end", "tail"]
    table = pd.DataFrame(
        [
            {"first": label, "seed": seed, "first_step": 100 * 2**i, "in_drop": 0 < i < 4}
            | {"accuracy": 0.5 + 0.05 * i + 0.01 * seed}
            for i, label in enumerate(labels)
            for seed in (-1, 0, 1)
        ]
    )
    draw_firsts(axes, table, None, None)
    (bar,) = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    line = bar.lines[0]
    assert line is not None
    np.testing.assert_allclose(np.asarray(line.get_xdata(), np.float64), [0.25, 0.5, 1, 2, 4])
    np.testing.assert_allclose(
        np.asarray(line.get_ydata(), np.float64), [0.5, 0.55, 0.6, 0.65, 0.7]
    )
    (inside,) = [line for line in axes.get_lines() if "in the drop" in str(line.get_label())]
    np.testing.assert_allclose(np.asarray(inside.get_xdata(), np.float64), [0.5, 1, 2])
    np.testing.assert_allclose(np.asarray(inside.get_ydata(), np.float64), [0.55, 0.6, 0.65])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("start", "before"), ("end",)),
        (("start", "start"), ("end",)),
        (("start",), ("after", "end")),
    ],
)
def test_places_stand_once_and_in_order(before: tuple, after: tuple) -> None:
    with pytest.raises(ValueError, match="each place once, in the order"):
        FirstPhaseConfig(before=before, after=after)


def test_which_words_come_first(axes: Axes) -> None:
    """Relative to function words, in every run; a student on its plateau has no such steps."""
    steps = {"teacher": (100.0, 150.0), "student/ce": (np.nan, np.nan), "student/x": (40.0, 20.0)}
    table = pd.DataFrame(
        [
            {"run": run, "tokens": tokens, "seed": seed, "step": step}
            for run, of_run in steps.items()
            for tokens, step in zip(WORDS, of_run, strict=True)
            for seed in (1, 2)
        ]
    )
    arms = {"teacher": "teacher", "ce": "student/ce", "two-shot": "student/x"}
    draw_half_way(axes, table, arms, WORDS)
    medians = [line for line in axes.get_lines() if line.get_marker() == "o"]
    drawn = [float(np.asarray(line.get_xdata(), np.float64)[0]) for line in medians]
    np.testing.assert_allclose(drawn, [1.5, np.nan, 0.5])
    assert "function words" in axes.get_xlabel()


def test_windows_of_students_are_on_the_page_of_text() -> None:
    figure = PAGE.figures["student_windows"]
    assert isinstance(figure, StudentWindows)
    assert figure.name_of_run("two-shot") == "student/two-shot"
    assert "function words" in figure.caption(Path())
