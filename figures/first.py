"""Which first checkpoints make a two-shot student learn, and the correlations that they carry. The
paper has no such figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.judge.stats import proportion
from figures import loaders, style
from parity.presets import PRESETS


def draw(home: Path, folder: Path) -> Path:
    """Draw `first`."""
    drawing, (students, correlations, areas) = style.figure(3)
    table = students_of(home)
    if table.empty:
        students.set_title("No teacher has a transition, so that there is no first checkpoint")
        return style.save(drawing, folder, "first")
    table["away"] = table.offset * PRESETS[home.name].config.teacher.training.batch_size
    draw_students(students, table[table.degree == 1])
    draw_correlations(correlations, table)
    for axes in (students, correlations):
        axes.axvline(0, color=style.GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("first checkpoint (thousand examples after the detected)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:+g}" if value else "0")
    draw_areas(areas, loaders.claims(home))
    return style.save(drawing, folder, "first")


def caption(home: Path) -> str:
    """What the figure shows."""
    if students_of(home).empty:
        return (
            "Two-shot students of first checkpoints: no teacher has a transition to take them from."
        )
    return (
        "Two-shot students of first checkpoints across the transition. Left: share that learns (95%"
        " intervals) and the checkpoint's accuracy. Middle: its correlations with the support's"
        " monomials, mean over teachers. Right: how well the correlations of one degree tell who"
        " learns."
    )


def students_of(home: Path) -> pd.DataFrame:
    """The sweep over first checkpoints, one row a student and degree."""
    of_student = ("teacher_seed", "offset", "degree", "learnt", "teacher_accuracy")
    correlations = ("in_support", "off_support")
    return loaders.table_of(home / "first_checkpoints.csv", *of_student, *correlations)


def draw_students(axes: Axes, table: pd.DataFrame) -> None:
    """Share of students that learn, with exact 95% intervals, and the accuracy of the checkpoint
    that taught them first."""
    by_offset = table.groupby("away")
    away = np.asarray(sorted(table.away.unique()))
    shares = [proportion(int(own.learnt.sum()), len(own)) for _, own in by_offset]
    value, low, high = np.asarray([[share.value, share.low, share.high] for share in shares]).T
    axes.errorbar(
        away,
        value,
        [value - low, high - value],
        fmt="o-",
        color=style.RED,
        capsize=3,
        label="2-shot students that learn",
    )
    accuracy = by_offset.teacher_accuracy
    axes.plot(away, accuracy.mean(), color=style.BLACK, label="accuracy of the first checkpoint")
    axes.fill_between(
        away,
        accuracy.quantile(0.25),
        accuracy.quantile(0.75),
        color=style.BLACK,
        alpha=0.12,
        linewidth=0,
    )
    axes.set_ylim(-0.03, 1.3)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_title("Students, by their first checkpoint")
    axes.legend(loc="upper left")


def draw_correlations(axes: Axes, table: pd.DataFrame) -> None:
    """Mean |correlation| with the support's monomials of each degree, averaged over teachers;
    degree 1 off the support beside it."""
    for i, (degree, own) in enumerate(table.groupby("degree")):
        by_offset = own.groupby("away")
        axes.plot(
            sorted(own.away.unique()),
            by_offset.in_support.mean(),
            "o-",
            markersize=4,
            color=style.series_color(i),
            label=f"degree {degree}",
        )
        if degree == 1:
            axes.plot(
                sorted(own.away.unique()),
                by_offset.off_support.mean(),
                color=style.GREY,
                linestyle="--",
                label="degree 1, off the support",
            )
    axes.set_yscale("log")
    axes.set_ylim(top=30)  # room for the legend; no correlation exceeds 1, so no tick does
    axes.set_yticks([10.0**power for power in range(-4, 1) if 10.0**power >= axes.get_ylim()[0]])
    axes.set_title("What the checkpoint carries")
    axes.set_ylabel("mean |correlation| in the support")
    axes.legend(loc="upper left", ncols=2, fontsize=9.5)


def draw_areas(axes: Axes, claims: list[dict[str, Any]]) -> None:
    """How well the correlations of each degree tell who learns."""
    measured = loaders.judged(next(claim for claim in claims if claim["claim"] == "F"))
    for i, item in enumerate(measured):
        if item["value"] is None:
            continue
        few = item["low"] is None  # of too few teachers there is no interval
        error = None if few else [[item["value"] - item["low"]], [item["high"] - item["value"]]]
        axes.errorbar(
            i + 1,
            item["value"],
            error,
            fmt="o",
            color=style.series_color(i),
            capsize=4,
            markersize=9,
        )
    axes.axhline(0.5, color=style.GREY, linewidth=1, linestyle=":")
    axes.set_xticks(range(1, len(measured) + 1))
    axes.set_xlim(0.5, len(measured) + 0.5)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("degree")
    axes.set_ylabel("area under ROC (0.5: says nothing)")
    axes.set_title("Which correlations tell who learns")
