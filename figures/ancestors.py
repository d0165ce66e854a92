"""How well probes read the non-terminals above every token off the hidden states of teachers and
students."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures import loaders, style
from figures.students import MIN_SEEDS_OF_MEAN, mean_and_margin


@dataclass(frozen=True)
class Ancestors:
    """The figure of one experiment's non-terminals."""

    reads: str
    """Which non-terminals its probes read, and off what, for the caption."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `ancestors`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        table = students_of(home)
        drawing, (probes, checkpoints, students) = style.figure(3)
        columns = ("step", "seed", "probe", "level", "accuracy", "chance")
        teacher = loaders.table_of(home / "teacher" / "probes" / "nonterminals.csv", *columns)
        draw_probes(probes, teacher, loaders.grammar_of(home / "teacher"))
        draw_checkpoints(checkpoints, teacher[teacher.probe == "linear"])
        draw_students(students, table[table.probe == "linear"])
        return style.save(drawing, folder, "ancestors")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        text = f"How well {self.reads}."
        has_margin = students_of(home).seed.nunique() >= MIN_SEEDS_OF_MEAN
        return f"{text} Intervals of the students: 95% over seeds." if has_margin else text


def students_of(home: Path) -> pd.DataFrame:
    """The probes of all students."""
    columns = ("step", "seed", "probe", "level", "accuracy", "chance", "strategy")
    return loaders.table_of(home / "student_nonterminals.csv", *columns)


def draw_probes(axes: Axes, table: pd.DataFrame, grammar: str) -> None:
    """How well each probe reads each level's ancestors off the teacher, untrained and trained, mean
    over seeds."""
    mean = table.groupby(["probe", "step", "level"])["accuracy"].mean()
    steps = (table.step.min(), table.step.max())
    bars = [(probe, step) for probe in ("linear", "mixing") for step in steps]
    colors = (style.GREY, style.BLACK, style.SKY, style.BLUE)
    for i, ((probe, step), color) in enumerate(zip(bars, colors, strict=True)):
        own, state = mean[probe][step], "untrained" if step == 0 else "trained"
        axes.bar(
            own.index + 0.2 * (i - 1.5), own, width=0.19, color=color, label=f"{probe}, {state}"
        )
    by_level(axes, table, width=0.8)
    axes.set_title(f"Teacher, by probe ({grammar})")


def draw_checkpoints(axes: Axes, table: pd.DataFrame) -> None:
    """The linear probe over the teacher's training, mean over seeds; the untrained model at the
    left."""
    for i, (level, own) in enumerate(table.groupby("level")):
        curve = own.groupby("step").accuracy.mean()
        axes.plot(
            curve.index,
            curve,
            "o-",
            markersize=4,
            color=style.series_color(i),
            label=f"level {level}",
        )
        axes.axhline(own.chance.iloc[0], color=style.series_color(i), linewidth=1, linestyle=":")
    axes.set_ylim(0, 1.35)
    axes.set_yticks(np.linspace(0, 1, 5))
    axes.set_xlabel("step of the teacher")
    axes.set_ylabel("accuracy of the ancestor, linear probe")
    axes.set_title("Teacher, by checkpoint")
    axes.legend(loc="upper center", ncols=2, title="dotted: the commonest symbol")


def draw_students(axes: Axes, table: pd.DataFrame) -> None:
    """The linear probe on the trained students, mean over seeds with Student's 95% interval; the
    untrained student beside them."""
    trained = table[table.step > 0]
    arms = [str(name) for name in table.strategy.unique()]
    # Those of one arm, because all begin with the same weights.
    untrained = table[(table.step == 0) & (table.strategy == arms[0])]
    groups = [(style.GREY, "", "untrained", untrained)]
    groups += [
        (style.STRATEGY[name], style.HATCH[name], style.LABEL[name], of_arm)
        for name, of_arm in ((name, trained[trained.strategy == name]) for name in arms)
    ]
    width = 0.8 / len(groups)
    for i, (color, hatch, label, own) in enumerate(groups):
        mean, margin = mean_and_margin(own, "level", "accuracy")
        axes.bar(
            mean.index + width * (i - (len(groups) - 1) / 2),
            mean,
            width=0.94 * width,
            yerr=margin,
            capsize=2,
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=label,
        )
    by_level(axes, table, width=0.8)
    axes.set_title("Students, linear probe")


def by_level(axes: Axes, table: pd.DataFrame, width: float) -> None:
    """Set up groups of bars, one for each level, with the accuracy of its commonest symbol."""
    chance = table.groupby("level").chance.first()
    axes.hlines(
        chance,
        chance.index - width / 2,
        chance.index + width / 2,
        color=style.RED,
        linewidth=2,
        label="commonest symbol",
    )
    axes.set_axisbelow(True)
    axes.set_xticks(chance.index, [f"level {level}" for level in chance.index])
    handles, _ = axes.get_legend_handles_labels()
    rows_of_legend = math.ceil(len(handles) / 2)
    axes.set_ylim(0, 1.05 + 0.1 * rows_of_legend)
    axes.set_yticks(np.linspace(0, 1, 5))
    axes.set_ylabel("accuracy of the ancestor")
    axes.legend(loc="upper center", ncols=2)
