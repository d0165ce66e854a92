"""One style for all figures: colour-blind safe (Okabe & Ito), readable at half size."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.runs.files import write_bytes

mpl.use("Agg")

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
RED = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#8c8c8c"
_SERIES = (SKY, BLUE, BLACK, ORANGE, GREEN, PURPLE, RED)
STRATEGY = {
    "teacher": BLACK,
    "ce": BLUE,
    "one-shot": ORANGE,
    "progressive": GREEN,
    "two-shot": RED,
    "projections": PURPLE,
    "till-saturate": SKY,
    "generations": ORANGE,
    "generations-two-shot": RED,
    "progressive-untrained": GREEN,
}
"""Colors of the teacher and of the arms. Those that learn from generated sentences have the color
of the arm that learns in the same order from the grammar's, and are told apart by `LINE`, as those
are that begin with another checkpoint."""
LINE = dict.fromkeys(STRATEGY, "-") | dict.fromkeys(
    ("generations", "generations-two-shot", "progressive-untrained"), "--"
)
HATCH = {name: "" if line == "-" else "///" for name, line in LINE.items()}
CANDIDATE = {"before": SKY, "during": RED, "after": PURPLE}
LABEL = {
    "teacher": "teacher",
    "ce": "labels (CE)",
    "one-shot": "one-shot",
    "progressive": "progressive",
    "two-shot": "2-shot",
    "projections": "projections",
    "till-saturate": "till-saturate",
    "generations": "generations",
    "generations-two-shot": "generations (C1 first)",
    "progressive-untrained": "progressive (from the first)",
}

# In force while panels are made and saved. What matplotlib looks up in between, for legends, lines
# and titles, is its default.
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}


def series_color(i: int) -> str:
    """The color of the i-th of some ordered curves; they repeat after seven."""
    return _SERIES[i % len(_SERIES)]


def figure(columns: int, width: float = 5.6, height: float = 4.3) -> tuple[Figure, list[Axes]]:
    """A row of panels in the shared style."""
    with mpl.rc_context(STYLE):
        drawing, axes = plt.subplots(1, columns, figsize=(columns * width, height), squeeze=False)
    return drawing, list(axes[0])


def grid(
    rows: int, columns: int, width: float = 5.6, height: float = 3.4
) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels in the shared style; those of a row share their y axis, those of a column
    their x axis."""
    with mpl.rc_context(STYLE):
        drawing, axes = plt.subplots(
            rows,
            columns,
            figsize=(columns * width, rows * height),
            squeeze=False,
            sharex="col",
            sharey="row",
        )
    return drawing, [list(row) for row in axes]


def save(drawing: Figure, folder: Path, name: str) -> Path:
    """Write NAME.png and NAME.pdf; returns the path of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for kind, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
            drawn = io.BytesIO()
            drawing.savefig(drawn, format=kind, metadata=metadata)
            write_bytes(folder / f"{name}.{kind}", drawn.getvalue())
    plt.close(drawing)
    return folder / f"{name}.png"


def curve_with_band(
    axes: Axes, x: np.ndarray, values_SxE: np.ndarray, color: str, label: str, linestyle: str = "-"
) -> None:
    """Draw the mean over seeds, and a band that holds the middle half of them."""
    axes.plot(x, np.nanmean(values_SxE, axis=0), color=color, label=label, linestyle=linestyle)
    axes.fill_between(
        x, *np.nanquantile(values_SxE, [0.25, 0.75], axis=0), color=color, alpha=0.15, linewidth=0
    )


def diamonds(
    axes: Axes,
    x: Sequence[float] | pd.Series,
    y: Sequence[float] | pd.Series,
    color: str,
    label: str,
    **options: Any,
) -> None:
    """Points of a published figure. They are too far apart for a line to connect them."""
    look = {"markersize": 8, "markerfacecolor": "none", "markeredgewidth": 2, "zorder": 4}
    axes.plot(x, y, "D", color=color, label=label, **(look | options))


def label_sizes(axes: Axes, level_of: Mapping[str, float], color: str) -> None:
    """Write n at the right end of horizontal lines, one for each n; lines that lie too close to
    each other for that share a label.

    Args:
        axes: of the lines; their limits are set.
        level_of: where the lines lie, by n.
        color: of the labels.
    """
    low, high = axes.get_ylim()
    groups: list[list[str]] = []
    for n, level in sorted(level_of.items(), key=lambda item: item[1]):
        if groups and level - level_of[groups[-1][-1]] < 0.045 * (high - low):
            groups[-1].append(n)
        else:
            groups.append([n])
    for sizes in groups:
        first, last = min(sizes, key=int), max(sizes, key=int)
        axes.annotate(
            f"n={first}" if first == last else f"n={first}-{last}",
            (1.01, sum(level_of[n] for n in sizes) / len(sizes)),
            xycoords=("axes fraction", "data"),
            fontsize=9,
            color=color,
            va="center",
            annotation_clip=False,
        )


def examples_axis(axes: Axes, largest: float) -> None:
    """Label an axis that counts examples, in thousands or millions, starting at zero."""
    unit, label = 1.0, "training examples"
    if largest >= 2e6:
        unit, label = 1e6, "training examples (millions)"
    elif largest >= 2e3:
        unit, label = 1e3, "training examples (thousands)"
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    axes.set_xlabel(label)
    axes.set_xlim(0, largest)


def examples_text(count: float) -> str:
    """A number of examples in millions or thousands: 2M, 500k."""
    return f"{count / 1e6:g}M" if count >= 1e6 else f"{count / 1e3:g}k"


def accuracy_axis(axes: Axes, chance: float = 0.5) -> None:
    """Label an axis of accuracies between chance and one."""
    height = 1 - chance
    axes.set_ylim(chance - 0.12 * height, 1 + 0.06 * height)
    axes.set_ylabel("accuracy")
    axes.axhline(chance, color=GREY, linewidth=1, linestyle=":")


def nice_log_ticks(values: Sequence[float]) -> list[float]:
    """1-2-5 ticks that cover some positive values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [digit * 10.0**power for power in range(low, high + 1) for digit in (1, 2, 5)]
    return [tick for tick in ticks if 0.7 * min(values) <= tick <= 1.4 * max(values)]
