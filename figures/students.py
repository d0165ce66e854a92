"""Students on tokens: accuracy by arm, length of the run and first checkpoint, beside exact
references and published accuracies where there are any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from matplotlib.axes import Axes

from common.base.size import size_of
from common.sequence.student_claims import CHOICE, best_first
from common.sequence.students import C1
from figures import loaders, style
from figures.contexts import Context

LOW = 0.5
"""Curves that stay below this accuracy have an axis of their own height."""
MIN_SEEDS_OF_MEAN = 3
"""Fewer values say little of how far their mean may be off: no interval is drawn."""


class Published(NamedTuple):
    """The paper's students, beside whom ours are drawn."""

    models: str
    """What they are, for titles."""
    batch_size: int
    lengths: tuple[str, str]
    """Figure and panel, in `targets.csv`, of their final accuracy by the length of the run."""
    firsts: tuple[str, str] | None
    """The same of 2-shot by the first checkpoint; None: not published."""
    source: str
    """Of `lengths`, for the caption: "the paper's Figure 1 (right)"."""


class PublishedFirsts(NamedTuple):
    """Final accuracies of the paper's 2-shot students."""

    models: str
    points: pd.DataFrame
    """x: step of the first checkpoint; y: accuracy."""


@dataclass(frozen=True)
class Students:
    """The figure of one experiment's students."""

    data_of: Callable[[Path], str]
    """What a run has learnt from, for a title."""
    context: Context
    published: Published | None
    """None: nothing is published."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `students`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        num_panels, width = (3, 5.4) if self.published is None else (4, 4.8)
        drawing, (training, ends, firsts, *published) = style.figure(num_panels, width=width)
        exact = loaders.exact_of(home)
        final = final_of(home)
        draw_training(training, home, arms_of(final), self.context)
        training.set_title(f"Over training ({self.data_of(home / 'teacher')})")
        if exact is not None:
            draw_plateaus(training, exact)
        if has_lengths(final):
            draw_lengths(ends, final, self.context.examples)
        else:
            draw_arms(ends, final)
        swept = firsts_of(home)
        has_transition = bool(swept.in_drop.any())
        if has_transition:
            theirs = None if self.published is None else published_firsts(self.published)
            draw_firsts(firsts, swept, choice_of(home), theirs)
        else:
            firsts.set_title("No teacher has a transition,\nso that there is no first checkpoint")
            firsts.set_axis_off()
        if exact is not None:
            accuracy = exact["ceiling"]["accuracy_here"]
            draw_ceiling(training, accuracy)
            if has_transition:
                draw_ceiling(firsts, accuracy)
            if has_lengths(final):
                draw_ceiling(ends, accuracy)
            else:
                draw_ceiling_across(ends, accuracy)
        is_low = training.get_ylim()[1] <= 1
        training.legend(
            loc="upper left" if is_low else "lower right",
            fontsize=9 if len(arms_of(final)) > 4 else None,
        )
        if self.published is not None:
            draw_published(published[0], self.published)
        return style.save(drawing, folder, "students")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        final = final_of(home)
        has_exact = loaders.exact_of(home) is not None
        has_margin = final[final.strategy != "teacher"].seed.nunique() >= MIN_SEEDS_OF_MEAN
        margin = " with its 95% interval" if has_margin else ""
        sentences = [
            f"From the left: accuracy on the {self.context.scored} of {self.context.held_out}, mean"
            " over seeds and the middle half of them"
        ]
        if has_exact:
            sentences[0] += (
                f"; thin lines: the best models that see {self.context.seen} (solid), or also know"
                " the position (dotted); dashed: the best of all models"
            )
        if has_lengths(final):
            ends = f"Accuracy at the end of runs of several lengths, mean over seeds{margin}"
        else:
            ends = f"Accuracy at the end, every seed and the mean{margin}"
            ends += "; dashed: the best of all models" if has_exact else ""
        firsts = "Accuracy of 2-shot students by their first checkpoint"
        firsts += ", the same" if has_margin else ""
        if not firsts_of(home).in_drop.any():
            firsts += ": no teacher has a transition to take one from"
        elif choice_of(home) is not None:
            firsts += "; grey: students of other seeds, by whom the best (star) was chosen"
        sentences += [ends, firsts]
        if self.published is not None:
            sentences.append(f"Points of {self.published.source}")
        return "".join(f"{sentence}. " for sentence in sentences).rstrip()


def final_of(home: Path) -> pd.DataFrame:
    """How far every run came."""
    columns = ("run", "strategy", "heads", "seed", "examples", "accuracy")
    return loaders.table_of(home / "final_accuracy.csv", *columns)


def firsts_of(home: Path) -> pd.DataFrame:
    """The 2-shot students of every first checkpoint."""
    return _sweep_of(home / "first_checkpoints.csv")


def choice_of(home: Path) -> pd.DataFrame | None:
    """Those by whom the best one was chosen; None where it was on no seeds of their own."""
    return _sweep_of(home / CHOICE) if (home / CHOICE).exists() else None


def _sweep_of(path: Path) -> pd.DataFrame:
    return loaders.table_of(path, "first", "seed", "first_step", "in_drop", "accuracy")


def arms_of(final: pd.DataFrame) -> list[str]:
    """What students are compared under, in the order of the experiment."""
    return [str(name) for name in final.strategy.unique() if name != "teacher"]


def has_lengths(final: pd.DataFrame) -> bool:
    """Whether there are students of several lengths or sizes."""
    students = final[final.strategy != "teacher"]
    return students.examples.nunique() > 1 or students.heads.nunique() > 1


def draw_training(axes: Axes, home: Path, arms: Sequence[str], context: Context) -> None:
    """Accuracy over training, of the teacher and of every arm, on what is scored."""
    runs = {"teacher": home / "teacher", **{name: home / "student" / name for name in arms}}
    curves = {name: loaders.curves(run) for name, run in runs.items()}
    # Of a student: its teacher's training may be much longer.
    longest = float(curves[arms[-1]][0][-1])
    for name, (examples, accuracy_SxE) in curves.items():
        style.curve_with_band(
            axes,
            examples,
            accuracy_SxE,
            style.STRATEGY[name],
            f"{style.LABEL[name]} ({len(accuracy_SxE)} seeds)",
            style.LINE[name],
        )
    style.examples_axis(axes, longest)
    axes.set_xlabel(axes.get_xlabel().replace("examples", context.examples))
    shown = [accuracy_SxE[:, examples <= longest] for examples, accuracy_SxE in curves.values()]
    highest = max(float(np.nanmax(accuracy_SxE)) for accuracy_SxE in shown)
    # Low curves fill the panel, with room for the legend above them.
    axes.set_ylim(0, 1.02 if highest > LOW else 2 * highest)
    axes.set_ylabel(f"accuracy on {context.scored}")


def draw_plateaus(axes: Axes, exact: dict) -> None:
    """The accuracy of the best n-gram models, blind to their position (solid) and knowing it
    (dotted)."""
    for n, plateau in exact["plateaus"].items():
        placed = exact["plateaus_with_position"][n]["accuracy"]
        axes.axhline(plateau["accuracy"], color=style.SKY, linewidth=0.8, zorder=1)
        axes.axhline(placed, color=style.BLUE, linewidth=0.8, linestyle=":", zorder=1)
    accuracies = {n: plateau["accuracy"] for n, plateau in exact["plateaus"].items()}
    style.label_sizes(axes, accuracies, style.BLUE)


def draw_ceiling(axes: Axes, accuracy: float) -> None:
    """The accuracy of the best model of all, in axes whose limits are set; where it lies above
    them, its number alone."""
    low, high = axes.get_ylim()
    if accuracy > high:
        text, place, side = f"best of all models: {accuracy:.3f}", high, "top"
    else:
        axes.axhline(accuracy, color=style.GREY, linestyle="--", linewidth=1.2)
        has_room_above = accuracy + 0.07 * (high - low) < high
        text, place, side = "best of all models", accuracy, "bottom" if has_room_above else "top"
    axes.annotate(
        text,
        (0.02, place),
        xytext=(0, 3 if side == "bottom" else -3),
        textcoords="offset points",
        xycoords=("axes fraction", "data"),
        fontsize=9,
        color=style.GREY,
        va=side,
    )


def draw_ceiling_across(axes: Axes, accuracy: float) -> None:
    """The same in axes whose accuracies run from left to right."""
    axes.axvline(accuracy, color=style.GREY, linestyle="--", linewidth=1.2)
    axes.annotate(
        "best of all models",
        (accuracy, 0.02),
        xytext=(-3, 0),
        textcoords="offset points",
        xycoords=("data", "axes fraction"),
        fontsize=9,
        color=style.GREY,
        rotation=90,
        ha="right",
        va="bottom",
    )


def draw_lengths(axes: Axes, final: pd.DataFrame, examples: str) -> None:
    """Final accuracy against the length of the run, mean over seeds with Student's 95% interval;
    every point is a run of its own.

    Students of further sizes are dashed, with another marker for each size.
    """
    lengths = sorted(final.examples.unique())
    for i, name in enumerate((*arms_of(final), "teacher")):
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
                markerfacecolor=style.STRATEGY[name] if style.LINE[name] == "-" else "white",
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
    axes.set_xlabel(f"{examples} of the run (thousands)")
    axes.set_ylabel("final accuracy")
    axes.set_title("By the length of the run")


def draw_arms(axes: Axes, final: pd.DataFrame) -> None:
    """Final accuracy of the teacher and of every arm: each seed, and the mean with Student's 95%
    interval."""
    names = ["teacher", *arms_of(final)]
    for place, name in enumerate(names):
        own = final[final.strategy == name]
        color = style.STRATEGY[name]
        is_solid = style.LINE[name] == "-"
        axes.plot(own.accuracy, [place + 0.25] * len(own), "|", color=color, markersize=8)
        mean, margin = mean_and_margin(own, "strategy", "accuracy")
        axes.errorbar(
            mean,
            [place],
            xerr=margin,
            fmt="o",
            color=color,
            markerfacecolor=color if is_solid else "white",
            capsize=3,
            markersize=7,
        )
    axes.set_yticks(range(len(names)), [style.LABEL[name] for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first at the top
    axes.set_xlabel("final accuracy")
    axes.set_title("At the end")


def draw_firsts(
    axes: Axes, table: pd.DataFrame, choice: pd.DataFrame | None, published: PublishedFirsts | None
) -> None:
    """Final accuracy of 2-shot students against the teacher step of their first checkpoint, in
    units of C1, and that of the students by whom the best is chosen, and published, where there are
    such."""
    # In the order of the table, from the earliest: labels are no numbers.
    in_order = table.assign(first=pd.Categorical(table["first"], table["first"].unique()))
    mean, margin = mean_and_margin(in_order, "first", "accuracy")
    steps = in_units_of_c1(table)
    axes.errorbar(
        steps, mean, margin, fmt="o-", color=style.RED, capsize=3, markersize=6, label="ours"
    )
    in_drop = (table.groupby("first", sort=False).in_drop.mean() > 0.5).to_numpy()
    axes.plot(
        steps[in_drop],
        mean[in_drop],
        "o",
        color=style.YELLOW,
        markersize=12,
        zorder=0,
        label="ours, in the drop of most teachers",
    )
    if choice is not None:
        draw_choice(axes, choice)
    # Room for the legend.
    if published is None:
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.8 * (high - low), high + 0.15 * (high - low))
    else:
        draw_published_firsts(axes, published)
        axes.set_ylim(mean.min() - 0.2, 1.02)
    axes.legend(loc="lower right")
    axes.axvline(1, color=style.GREY, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    ticks = (0.5, 1, 2, 4, 8)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("teacher step of the first checkpoint / C1")
    axes.set_ylabel("final accuracy")
    axes.set_title("2-shot, by first checkpoint")


def in_units_of_c1(table: pd.DataFrame) -> pd.Series:
    """The step of every first checkpoint, as a multiple of the teacher's C1; mean over teachers."""
    c1_of = table[table["first"] == C1.label].set_index("seed").first_step
    return (table.first_step / table.seed.map(c1_of)).groupby(table["first"], sort=False).mean()


def draw_choice(axes: Axes, choice: pd.DataFrame) -> None:
    """The mean of the students by whom the best first checkpoint is chosen, and a star at it."""
    mean, steps = choice.groupby("first", sort=False).accuracy.mean(), in_units_of_c1(choice)
    axes.plot(steps, mean, "s-", color=style.GREY, markersize=4, linewidth=1.2, label="other seeds")
    best = best_first(choice)
    axes.plot(
        steps[best],
        mean[best],
        "*",
        color=style.BLACK,
        markersize=12,
        label="chosen on other seeds",
    )


def published_firsts(published: Published) -> PublishedFirsts | None:
    """The paper's 2-shot students by first checkpoint, where there are any."""
    if published.firsts is None:
        return None
    return PublishedFirsts(published.models, loaders.targets(*published.firsts))


def draw_published_firsts(axes: Axes, published: PublishedFirsts) -> None:
    """The paper's, in units of its C1."""
    theirs = published.points
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
