"""The three phases of a teacher of masked prediction, and the windows that it predicts from, beside
exact references where there are any (paper: `curr_pcfg`, `curr_real`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.judge.phases import PhaseConfig
from common.judge.transition import NoTransition, Transition
from figures import loaders, style


@dataclass(frozen=True)
class Phases:
    """The figure of one experiment's teacher."""

    data_of: Callable[[Path], str]
    """What a run has learnt from, for a title."""
    highest_loss: float
    """Where the axes of losses end, nats."""
    published: str
    """The paper's figure of its own teacher, in `targets.csv`."""
    published_teacher: str
    """What that teacher is, for a title."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `phases`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        teacher = home / "teacher"
        drawing, (loss, robust, close, published) = style.figure(4, width=4.8)
        draw_loss(loss, teacher)
        exact = loaders.exact_of(home)
        if exact is not None:
            draw_exact(loss, exact)
        loss.set_ylim(0, self.highest_loss)
        loss.set_title(f"Plateau, drop, tail ({self.data_of(teacher)})")
        loss.legend(loc="lower left", bbox_to_anchor=(0, 0.06))
        table, best = distances_of(home)
        for axes, kind, title in (
            (robust, "robust", "Window masked: $M_{robust}$"),
            (close, "close", "All but the window masked: $M_{close}$"),
        ):
            best_of_kind = best[best.kind == kind].set_index("n")["median"]
            draw_distances(axes, table[table.kind == kind], best_of_kind, title)
        robust.legend(
            loc="upper left",
            title="window of" if best.empty else "window of (diamond: best of all models)",
            ncols=2,
            columnspacing=1,
            handlelength=1.2,
        )
        for axes in (loss, robust, close):
            shade_drop(axes, teacher)
        draw_published(published, self.published)
        published.set_ylim(-0.02, self.highest_loss)
        published.set_title(f"Published ({self.published_teacher})")
        return style.save(drawing, folder, "phases")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        text = "Left: the teacher's loss on held-out sentences"
        if loaders.exact_of(home) is not None:
            text += (
                ", with the exact optimum of a model that sees n tokens around a position and"
                " nothing else (solid), or also knows the position (dotted), and of the best model"
                " of all"
            )
        if isinstance(drop_of(home / "teacher"), Transition):
            text += ". Shaded: the drop that the detector finds in the mean curve; dotted: C1."
        else:
            text += ". The detector finds no drop in the mean curve."
        text += (
            " Then: how far the teacher's prediction moves when a window around the position is"
            " masked, or all but the window; median over positions, mean and middle half of the"
            " seeds."
        )
        table, best = distances_of(home)
        if set(table.n) & set(best.n):
            text += " Diamonds: the same for the best model that learns from such sentences."
        return f"{text} Far right: the paper's teacher."


def distances_of(home: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """M_robust and M_close of the teacher's checkpoints, and those of the best of all models: no
    rows where they are not known."""
    probes, columns = home / "teacher" / "probes", ("kind", "n", "median")
    table = loaders.table_of(probes / "ngram.csv", "step", "seed", *columns)
    if loaders.exact_of(home) is None:
        return table, pd.DataFrame(columns=pd.Index(columns))
    return table, loaders.table_of(probes / "ceiling.csv", *columns)


def drop_of(teacher: Path) -> Transition | NoTransition:
    """The drop in the mean of the seeds' losses, as the detector finds it."""
    steps, loss_SxE = positive_steps(teacher, "eval_loss")
    return PhaseConfig().detect(steps.tolist(), np.mean(loss_SxE, axis=0).tolist())


def draw_loss(axes: Axes, teacher: Path) -> None:
    """The validation loss of every seed."""
    steps, loss_SxE = positive_steps(teacher, "eval_loss")
    for i, loss_E in enumerate(loss_SxE):
        axes.plot(
            steps,
            loss_E,
            color=style.BLACK,
            linewidth=1.5,
            label="teacher, each seed" if i == 0 else None,
        )
    step_axis(axes, steps)
    axes.set_ylabel("validation loss (nats)")


def draw_exact(axes: Axes, exact: dict) -> None:
    """The plateaus of n-gram models (blind to their position, or not) and the ceiling of all
    models."""
    first_step, _ = axes.get_xlim()
    for n, plateau in exact["plateaus"].items():
        # The labels of all but the first begin with an underscore: none.
        hint, placed = "" if n == "1" else "_", exact["plateaus_with_position"][n]
        axes.axhline(
            plateau["cross_entropy"], color=style.SKY, linewidth=1, label=f"{hint}best n-gram model"
        )
        axes.axhline(
            placed["cross_entropy"],
            color=style.BLUE,
            linewidth=1,
            linestyle=":",
            label=f"{hint}the same, knowing its position",
        )
        axes.annotate(
            f"n={n}",
            (first_step, plateau["cross_entropy"]),
            fontsize=9,
            color=style.BLUE,
            va="bottom",
        )
    axes.axhline(
        exact["ceiling"]["cross_entropy_here"],
        color=style.RED,
        linewidth=1.2,
        linestyle="--",
        label="best of all models",
    )


def draw_distances(axes: Axes, table: pd.DataFrame, best: pd.Series, title: str) -> None:
    """The median distance of every window, mean and middle half of the seeds; a diamond at the
    right is the value of the best model of all."""
    for i, (n, own) in enumerate(table.groupby("n")):
        median_ExS = own[own.step > 0].pivot(index="step", columns="seed", values="median")
        style.curve_with_band(
            axes,
            median_ExS.index.to_numpy(),
            median_ExS.to_numpy().T,
            style.series_color(i),
            f"{n} tokens",
        )
        if n in best.index:
            axes.plot(
                median_ExS.index[-1] * 1.06,
                best[n],
                "D",
                color=style.series_color(i),
                markersize=6,
                clip_on=False,
            )
    axes.set_ylim(-0.02, 0.8)
    step_axis(axes, np.asarray(sorted(table.step[table.step > 0].unique())))
    axes.set_ylabel("median total variation")
    axes.secondary_yaxis(
        "right",
        functions=(lambda distance: np.multiply(distance, 2), lambda norm: np.divide(norm, 2)),
    ).set_ylabel("L1 norm, as published")
    axes.set_title(title)


def shade_drop(axes: Axes, teacher: Path) -> None:
    """The drop as the detector finds it, from the mean of the seeds' losses."""
    found = drop_of(teacher)
    if isinstance(found, Transition):
        axes.axvspan(found.start, found.end, color=style.YELLOW, alpha=0.18, linewidth=0)
        axes.axvline(found.chosen, color=style.GREY, linewidth=1, linestyle=":")


def draw_published(axes: Axes, figure: str) -> None:
    """The paper's teacher; its L1 norms are halved."""
    for panel, scale, color, label in (
        ("validation_loss", 1.0, style.BLACK, "validation loss (nats)"),
        ("m_robust_3gram_median", 0.5, style.BLUE, "$M_{robust}$, 3 tokens (total variation)"),
    ):
        points = loaders.targets(figure, panel)
        axes.plot(
            points.x, scale * points.y, "o--", color=color, label=label, linewidth=1.2, markersize=6
        )
    loss = loaders.targets(figure, "validation_loss")
    (c1,) = loss.x[loss.note == "C1"]
    axes.axvline(c1, color=style.GREY, linewidth=1, linestyle=":", label="C1")
    step_axis(axes, loss.x.to_numpy())
    axes.legend(loc="upper right")


def positive_steps(run: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps after 0 `(E,)` and a metric `(S, E)`."""
    table = loaders.metrics(run).pivot(index="step", columns="lane", values=name)
    table = table[table.index > 0]
    return table.index.to_numpy(), table.to_numpy(np.float64).T


def step_axis(axes: Axes, steps: np.ndarray) -> None:
    """A logarithmic axis of steps, with room at the right for the values of the best model."""
    axes.set_xscale("log")
    axes.set_xlim(steps[0], steps[-1] * 1.15)
    ticks = style.nice_log_ticks([float(steps[0]), float(steps[-1])])
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("step")
