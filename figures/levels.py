"""Hierarchical parity: accuracy at each level of the tree of labels over training, and when each
level has its transition."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures import style, tables


def draw(home: Path, folder: Path) -> Path:
    """Draw `levels`."""
    drawing, (accuracy, times) = style.figure(2)
    transitions = tables.levels(home)
    depth = int(transitions.level.max())
    largest = 0.0
    for level in range(1, depth + 1):
        examples, values_SxE = tables.level_curves(home, level, depth)
        color, largest = style.series_color(level), float(examples[-1])
        label = f"level {level}: {2**level} {'labels' if level == depth else 'nodes'}"
        style.curve_with_band(accuracy, examples, values_SxE, color, label)
        accuracy.axhline(0.5**level, color=color, linewidth=1, linestyle=":")
        draw_transitions(times, level, transitions[transitions.level == level], color)
    for axes in (accuracy, times):
        style.examples_axis(axes, largest)
    accuracy.set_ylim(0, 1.03)
    accuracy.set_ylabel("accuracy (dotted: chance)")
    accuracy.set_title(f"{transitions.seed.nunique()} seeds")
    accuracy.legend(loc="lower right")
    times.set_yticks(range(1, depth + 1), [f"level {level}" for level in range(1, depth + 1)])
    times.set_ylim(depth + 0.6, 0.4)
    times.set_title("Transition of each level (bar: median middle)")
    return style.save(drawing, folder, "levels")


def caption(home: Path) -> str:
    """What the figure shows, and the median transitions in numbers."""
    found = tables.levels(home).groupby("level").middle
    medians = ", ".join(f"{median:,.0f}" for median in found.median().dropna())
    return (
        "Hierarchical parity: the labels are the leaves of a tree whose inner nodes each own a"
        " parity of coordinates of their own. Left: accuracy of the most probable node at each"
        " level; mean and middle half of the seeds. Right: the detected transition of each level,"
        f" one line a seed; median middles at {medians or 'no'} examples."
    )


def draw_transitions(axes: Axes, level: int, table: pd.DataFrame, color: str) -> None:
    """For each seed a line from start to end of its transition, with a dot in its middle; a bar at
    the median. Seeds without a transition are counted in words."""
    seen = table[table.middle.notna()]
    offsets = np.linspace(-0.3, 0.3, max(len(seen), 1))
    for (_, row), offset in zip(seen.iterrows(), offsets, strict=False):
        axes.plot(
            [row["start"], row["end"]], [level + offset] * 2, color=color, linewidth=1.5, alpha=0.6
        )
        axes.plot(row["middle"], level + offset, "o", color=color, markersize=5)
    if len(seen):
        axes.plot(
            [seen.middle.median()] * 2, [level - 0.4, level + 0.4], color=style.BLACK, linewidth=2.5
        )
    if missing := len(table) - len(seen):
        axes.annotate(
            f"{missing} without",
            (0.98, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=10,
        )
