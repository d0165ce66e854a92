"""Learning time on labels against width: every seed at the best learning rate, and the sweep it was chosen from."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures import loaders, style


def draw(home: Path, folder: Path) -> Path:
    """Draw `width`."""
    drawing, (by_width, sweep) = style.figure(2)
    times = pd.read_csv(home / "learning_times.csv")
    widths = sorted(runs_by_width(home))
    for i, width in enumerate(widths):
        own = times[times.run == runs_by_width(home)[width]]
        learnt, censored = own[own.t90.notna()], own[own.t90.isna()]
        jitter = np.linspace(-0.12, 0.12, max(len(own), 1))
        by_width.plot(i + jitter[: len(learnt)], learnt.t90, "o", color=style.series_color(i), alpha=0.75, markersize=7)
        by_width.plot(i + jitter[len(learnt) :], censored.budget, "^", color=style.series_color(i), fillstyle="none", markersize=9)
        middle = own.t90.fillna(np.inf).median()
        if np.isfinite(middle):
            by_width.plot([i - 0.25, i + 0.25], [middle, middle], color=style.RED, linewidth=3)
    by_width.set_xticks(range(len(widths)), [str(width) for width in widths])
    by_width.set_xlim(-0.5, len(widths) - 0.5)
    by_width.set_xlabel("width")
    _time_axis(by_width, times[times.run.isin(runs_by_width(home).values())])
    by_width.set_title("Seeds at the best rate (bar: median; ^: censored)")
    draw_sweep(sweep, home, widths)
    return style.save(drawing, folder, "width")


def runs_by_width(home: Path) -> dict[int, str]:
    """Which run trained on labels at which width."""
    teacher = loaders.read_json(home / "teacher" / "config.json")["config"]["model"]["width"]
    label_runs = {int(run.name.removeprefix("ce-w")): f"student/{run.name}" for run in (home / "student").glob("ce-w*")}
    return {teacher: "teacher"} | label_runs


def draw_sweep(axes: Axes, home: Path, widths: list[int]) -> None:
    """Median learning time against learning rate, on the tuning seeds; a width without a sweep was not tuned."""
    path = home / "tuning.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["run", "learning_rate", "median_t90"])
    for i, width in enumerate(widths):
        own = table[(table.run == f"ce-w{width}") & table.median_t90.notna()]
        if len(own):
            axes.plot(own.learning_rate, own.median_t90, "o-", color=style.series_color(i), label=f"width {width}")
    shown = table[table.run.str.startswith("ce-w") & table.median_t90.notna()]
    if len(shown):
        axes.set_xscale("log")
        rates = sorted(shown.learning_rate.unique())
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        _time_axis(axes, shown.rename(columns={"median_t90": "t90"}))
        axes.legend()
    axes.set_xlabel("learning rate")
    axes.set_title("Tuning sweep (median, other seeds)")


def _time_axis(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_yscale("log")
    finite = table.t90.dropna().tolist() or [1.0]
    ticks = style.nice_log_ticks(finite)
    axes.set_yticks(ticks, [f"{tick / 1e6:g}M" if tick >= 1e6 else f"{tick / 1e3:g}k" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("examples to 90% accuracy")
