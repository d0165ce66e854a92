"""What students predict from: M_robust(3) over their training, by arm, and by which words they
leave the plateau, beside their teachers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from common.sequence.windows import read_distances
from figures import loaders, style
from figures.phases import axis_of_norm, step_axis
from figures.students import arms_of, final_of

SIZE = 3
HALF_WAY = "half_way.csv"


@dataclass(frozen=True)
class StudentWindows:
    """The figure of windows of students."""

    titles: Mapping[str, str]
    """Of the panels, by kind of distance."""
    words: Mapping[str, str]
    """What kinds of tokens are called, in order."""
    name_of_run: Callable[[str], str]
    """The run of an arm."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `student_windows`."""
        drawing, (*panels, kinds) = style.figure(len(self.titles) + 1)
        arms = arms_of(final_of(home))
        for axes, (kind, title) in zip(panels, self.titles.items(), strict=True):
            for arm in arms:
                draw_curve(axes, home / self.name_of_run(arm), kind, arm)
            axes.set_ylabel("median total variation")
            axis_of_norm(axes)
            axes.set_title(title)
        panels[0].legend(loc="upper left", fontsize=9)
        run_of = {"teacher": "teacher", **{arm: self.name_of_run(arm) for arm in arms}}
        draw_half_way(kinds, half_way_of(home), run_of, self.words)
        return style.save(drawing, folder, "student_windows")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        return (
            f"M_robust({SIZE}) of the students over their training, by arm; median over positions,"
            " mean and middle half of the seeds. Right: the step at which it (token masked) is"
            " half-way to its highest value, for each kind of token at the position, over that for"
            f" the {next(iter(self.words.values()))} of the same run; every seed, and the median."
        )


def half_way_of(home: Path) -> pd.DataFrame:
    """When M_robust(3) is half-way up for each kind of token, for teachers and students."""
    return loaders.table_of(home / HALF_WAY, "run", "tokens", "seed", "step")


def draw_curve(axes: Axes, run: Path, kind: str, arm: str) -> None:
    """One arm's distances over its steps."""
    table = read_distances(run)
    own = table[(table.kind == kind) & (table.n == SIZE) & (table.step > 0)]
    median_ExS = own.pivot(index="step", columns="seed", values="median")
    steps_E = median_ExS.index.to_numpy()
    look = style.STRATEGY[arm], style.LABEL[arm], style.LINE[arm]
    style.curve_with_band(axes, steps_E, median_ExS.to_numpy().T, *look)
    step_axis(axes, steps_E)


def draw_half_way(
    axes: Axes, table: pd.DataFrame, run_of: Mapping[str, str], words: Mapping[str, str]
) -> None:
    """For each run, when each kind of token is half-way up, over when the first kind is.

    Args:
        axes: of ratios.
        table: `half_way_of` all runs.
        run_of: the runs by arm.
        words: what kinds of tokens are called.
    """
    first, *others = (kind for kind in words if kind in set(table.tokens))
    for place, run in enumerate(run_of.values()):
        step = table[table.run == run].pivot(index="seed", columns="tokens", values="step")
        for i, kind in enumerate(others):
            ratio_S = step[kind] / step[first]
            height = place + 0.18 * (i - (len(others) - 1) / 2)
            color = style.series_color(i + 1)
            axes.plot(ratio_S, [height] * len(ratio_S), "|", color=color, markersize=7)
            label = words[kind] if place == 0 else None
            axes.plot(ratio_S.median(), height, "o", color=color, markersize=6, label=label)
    axes.axvline(1, color=style.GREY, linewidth=1, linestyle=":")
    _name_rows(axes, list(run_of))
    axes.set_xlabel(f"half-way step / that of {words[first]}")
    axes.set_title("Which words leave the plateau first")
    axes.legend(loc="lower center", ncols=3, fontsize=9)


def _name_rows(axes: Axes, arms: Sequence[str]) -> None:
    axes.set_yticks(range(len(arms)), [style.LABEL[arm] for arm in arms])
    axes.set_ylim(len(arms) + 0.3, -0.6)  # the first at the top, room for the legend below
