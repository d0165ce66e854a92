"""Learning time on labels against the size of the model: every seed at the best learning rate, and
the sweep that chose it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.base.size import Size
from figures import loaders, style
from parity.presets import PRESETS


def draw(home: Path, folder: Path) -> Path:
    """Draw `width`."""
    path = home / "tuning.csv"
    has_sweep = loaders.says_something(path)
    drawing, (by_size, *of_sweep) = style.figure(2 if has_sweep else 1)
    times = loaders.table_of(home / "learning_times.csv", "run", "seed", "t90", "budget")
    runs = PRESETS[home.name].config.label_runs
    draw_seeds(by_size, times, runs)
    by_size.set_title(
        f"Seeds at the {'best' if has_sweep else 'given'} rate (bar: median; ^: censored)"
    )
    for axes in of_sweep:
        table = loaders.table_of(path, "run", "learning_rate", "median_t90")
        draw_sweep(axes, table, list(runs))
    return style.save(drawing, folder, "width")


def draw_seeds(axes: Axes, times: pd.DataFrame, runs: Mapping[Size, str]) -> None:
    """The learning time of every seed, with the median where most have learnt.

    Args:
        axes: where.
        times: columns run, t90 (missing where censored) and budget.
        runs: the run of each size.
    """
    for i, run in enumerate(runs.values()):
        own, color = times[times.run == run], style.series_color(i)
        learnt, censored = own[own.t90.notna()], own[own.t90.isna()]
        jitter = np.linspace(-0.12, 0.12, len(own)) if len(own) > 1 else np.zeros(1)
        x_learnt, x_censored = np.split(i + jitter, [len(learnt)])
        axes.plot(x_learnt, learnt.t90, "o", color=color, alpha=0.75, markersize=7)
        axes.plot(x_censored, censored.budget, "^", color=color, fillstyle="none", markersize=9)
        middle = own.t90.fillna(np.inf).median()
        if np.isfinite(middle):
            axes.plot([i - 0.25, i + 0.25], [middle, middle], color=style.RED, linewidth=3)
    axes.set_xticks(range(len(runs)), [str(size.value) for size in runs])
    axes.set_xlim(-0.5, len(runs) - 0.5)
    axes.set_xlabel(next(iter(runs)).name)
    shown = times[times.run.isin(runs.values())]
    _time_axis(axes, shown.t90.fillna(shown.budget))


def caption(home: Path) -> str:
    """What the figure shows."""
    config = PRESETS[home.name].config
    text = "each seed, by the size of the model; bar: their median, where most have learnt."
    if config.tuning is None:
        return (
            f"Learning time on labels: {text} There is no sweep: the preset gives the learning"
            " rates."
        )
    return (
        f"Learning time on labels. Left: {text} Each size has its best learning rate. Right: the"
        " sweep that chose it, on other seeds; where a point is missing, too few of them had learnt"
        " when the sweep ended, which it does at twice the best median."
    )


def draw_sweep(axes: Axes, table: pd.DataFrame, sizes: list[Size]) -> None:
    """Median learning time against learning rate, on the tuning seeds, for every size with a
    sweep."""
    for i, size in enumerate(sizes):
        own = table[(table.run == f"ce-{size.tag}") & table.median_t90.notna()]
        if len(own):
            axes.plot(
                own.learning_rate,
                own.median_t90,
                "o-",
                color=style.series_color(i),
                label=size.text(),
            )
    shown = table[table.run.str.startswith("ce-") & table.median_t90.notna()]
    if shown.empty:
        text = "at no rate did half of the tuning seeds learn"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.set_xscale("log")
        rates = sorted(shown.learning_rate.unique())
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        _time_axis(axes, shown.median_t90)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xlabel("learning rate")
    axes.set_title("Tuning sweep (median, other seeds)")


def _time_axis(axes: Axes, times: pd.Series) -> None:
    axes.set_yscale("log")
    ticks = style.nice_log_ticks(times.tolist() or [1.0])
    axes.set_yticks(ticks, [style.examples_text(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("examples to 90% accuracy")
