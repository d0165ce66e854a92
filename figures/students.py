"""Students of masked prediction: accuracy by strategy, length of the run and first checkpoint,
beside exact references where there are any, and the published accuracies."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from matplotlib.axes import Axes

from common.base.size import size_of
from common.sequence.students import STRATEGIES
from figures import loaders, style

MIN_SEEDS_OF_MEAN = 3
"""Fewer values say little of how far their mean may be off: no interval is drawn."""


class Published(NamedTuple):
    """The paper's students, beside whom ours are drawn."""

    models: str
    """What they are, for titles."""
    batch_size: int
    lengths: tuple[str, str]
    """Figure and panel, in `targets.csv`, of their final accuracy by the length of the run."""
    firsts: tuple[str, str]
    """The same of 2-shot by the first checkpoint."""
    source: str
    """Of `lengths`, for the caption: "the paper's Figure 1 (right)"."""


@dataclass(frozen=True)
class Students:
    """The figure of one experiment's students."""

    data_of: Callable[[Path], str]
    """What a run has learnt from, for a title."""
    published: Published

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `students`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        drawing, (training, lengths, firsts, published) = style.figure(4, width=4.8)
        exact = loaders.exact_of(home)
        final = final_of(home)
        draw_training(training, home, self.data_of(home / "teacher"))
        if exact is not None:
            draw_plateaus(training, exact)
        draw_lengths(lengths, final)
        columns = ("offset", "seed", "first_step", "in_drop", "accuracy")
        table = loaders.table_of(home / "first_checkpoints.csv", *columns)
        draw_firsts(firsts, table, self.published)
        if exact is not None:
            for axes in (training, lengths, firsts):
                draw_ceiling(axes, exact["ceiling"]["accuracy_here"])
        training.legend(loc="lower right")
        draw_published(published, self.published)
        return style.save(drawing, folder, "students")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        final = final_of(home)
        students = final[final.strategy != "teacher"]
        lengths = "runs of several lengths" if students.examples.nunique() > 1 else "the runs"
        margin = " with its 95% interval" if students.seed.nunique() >= MIN_SEEDS_OF_MEAN else ""
        best = ""
        if loaders.exact_of(home) is not None:
            best = (
                "; thin lines: the best models that see n tokens (solid), or also know the position"
                " (dotted)"
            )
        return (
            "From the left: accuracy on the selected tokens of held-out sentences, mean over seeds"
            f" and the middle half of them{best}. Accuracy at the end of {lengths}, mean over"
            f" seeds{margin}. Accuracy of 2-shot students by their first"
            f" checkpoint{', the same' if margin else ''}. Points of {self.published.source}."
        )


def final_of(home: Path) -> pd.DataFrame:
    """How far every run came."""
    columns = ("run", "strategy", "heads", "seed", "examples", "accuracy")
    return loaders.table_of(home / "final_accuracy.csv", *columns)


def draw_training(axes: Axes, home: Path, data: str) -> None:
    """Accuracy over training, of the teacher and of every strategy."""
    runs = {"teacher": home / "teacher", **{name: home / "student" / name for name in STRATEGIES}}
    longest = 0.0
    for name, run in runs.items():
        examples, accuracy_SxE = loaders.curves(run)
        style.curve_with_band(
            axes,
            examples,
            accuracy_SxE,
            style.STRATEGY[name],
            f"{style.LABEL[name]} ({len(accuracy_SxE)} seeds)",
        )
        longest = float(examples[-1])  # of a student: its teacher's training may be much longer
    style.examples_axis(axes, longest)
    axes.set_xlabel(axes.get_xlabel().replace("examples", "sentences"))
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy on selected tokens")
    axes.set_title(f"Over training ({data})")


def draw_plateaus(axes: Axes, exact: dict) -> None:
    """The accuracy of the best n-gram models, blind to their position (solid) and knowing it
    (dotted)."""
    for n, plateau in exact["plateaus"].items():
        placed = exact["plateaus_with_position"][n]["accuracy"]
        axes.axhline(plateau["accuracy"], color=style.SKY, linewidth=0.8, zorder=1)
        axes.axhline(placed, color=style.BLUE, linewidth=0.8, linestyle=":", zorder=1)
        axes.annotate(
            f"n={n}",
            (0.01, plateau["accuracy"]),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color=style.BLUE,
            va="bottom",
        )


def draw_ceiling(axes: Axes, accuracy: float) -> None:
    """The accuracy of the best model of all."""
    axes.axhline(accuracy, color=style.GREY, linestyle="--", linewidth=1.2)
    axes.annotate(
        "best of all models",
        (0.02, accuracy - 0.015),
        xycoords=("axes fraction", "data"),
        fontsize=9,
        color=style.GREY,
        va="top",
    )


def draw_lengths(axes: Axes, final: pd.DataFrame) -> None:
    """Final accuracy against the length of the run, mean over seeds with Student's 95% interval;
    every point is a run of its own.

    Students of further sizes are dashed, with another marker for each size.
    """
    lengths = sorted(final.examples.unique())
    for i, name in enumerate((*STRATEGIES, "teacher")):
        own = final[final.strategy == name]
        shift = 1.02 ** (i - 1.5)  # so that intervals can be told apart
        for heads, marks in zip(
            own.heads.unique(), ("o-", "s--", "^--", "v--"), strict=False
        ):  # the student's own size comes first
            mean, margin = mean_and_margin(own[own.heads == heads], "examples", "accuracy")
            label = f"{style.LABEL[name]}, {size_of({'heads': heads}).text()}"
            axes.errorbar(
                mean.index * shift,
                mean,
                margin,
                fmt=marks,
                color=style.STRATEGY[name],
                label=label,
                capsize=3,
                markersize=6,
            )
    if final[final.strategy != "teacher"].heads.nunique() > 1:
        axes.legend(fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(lengths, [f"{length / 1000:g}" for length in lengths])
    axes.minorticks_off()
    axes.set_xlim(lengths[0] / 1.3, lengths[-1] * 1.3)
    axes.set_xlabel("sentences of the run (thousands)")
    axes.set_ylabel("final accuracy")
    axes.set_title("By the length of the run")


def draw_firsts(axes: Axes, table: pd.DataFrame, published: Published) -> None:
    """Final accuracy of 2-shot students against the teacher step of their first checkpoint, in
    units of C1, ours and published."""
    mean, margin = mean_and_margin(table, "offset", "accuracy")
    c1_of = table[table.offset == 0].set_index("seed").first_step
    steps = (table.first_step / table.seed.map(c1_of)).groupby(table.offset).mean()
    axes.errorbar(
        steps, mean, margin, fmt="o-", color=style.RED, capsize=3, markersize=6, label="ours"
    )
    in_drop = table.groupby("offset").in_drop.mean() > 0.5
    axes.plot(
        steps[in_drop],
        mean[in_drop],
        "o",
        color=style.YELLOW,
        markersize=12,
        zorder=0,
        label="ours, in the drop of most teachers",
    )
    theirs = loaders.targets(*published.firsts)
    c1 = float(theirs.x.iloc[int(theirs.y.argmax())])  # the best one, as its note says
    axes.plot(
        theirs.x / c1,
        theirs.y,
        "o--",
        color=style.GREY,
        linewidth=1.2,
        markersize=6,
        label=f"published ({published.models})",
    )
    axes.legend(loc="lower right")
    axes.axvline(1, color=style.GREY, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    ticks = (0.5, 1, 2, 4, 8)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(mean.min() - 0.2, 1.02)  # room for the legend
    axes.set_xlabel("teacher step of the first checkpoint / C1")
    axes.set_ylabel("final accuracy")
    axes.set_title("2-shot, by first checkpoint")


def mean_and_margin(table: pd.DataFrame, by: str, column: str) -> tuple[pd.Series, np.ndarray]:
    """Mean of a column for each value of another, and half the width of Student's 95% interval; 0
    for fewer than `MIN_SEEDS_OF_MEAN` values."""
    groups = table.groupby(by)[column]
    count = groups.size().to_numpy()
    quantile = scipy.special.stdtrit(np.maximum(count - 1, 1), 0.975)
    return groups.mean(), np.where(
        count >= MIN_SEEDS_OF_MEAN,
        quantile * groups.std().fillna(0).to_numpy() / np.sqrt(count),
        0.0,
    )


def draw_published(axes: Axes, published: Published) -> None:
    """The paper's final accuracy against the length of the run."""
    table = loaders.targets(*published.lengths)
    for series, points in table.groupby("series", sort=False):
        name = str(series).replace("_", "-")
        axes.plot(
            points.x,
            points.y,
            "o--",
            color=style.STRATEGY[name],
            label=style.LABEL[name],
            linewidth=1.2,
            markersize=7,
        )
    axes.set_xscale("log")
    axes.set_xticks(sorted(table.x.unique()), [f"{x:,.0f}" for x in sorted(table.x.unique())])
    axes.minorticks_off()
    axes.set_xlabel(f"steps of the run (batches of {published.batch_size})")
    axes.set_ylabel("final accuracy")
    axes.set_title(f"Published ({published.models})")
    axes.legend(loc="lower right")
