"""The three phases of a teacher on tokens, and the tokens that it predicts from, beside exact
references where there are any (paper: `curr_pcfg`, `curr_real`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.judge.phases import PhaseConfig
from common.judge.transition import NoTransition, Transition
from figures import loaders, style
from figures.contexts import Context

DIAMONDS = "diamond: best of all models"
PLATEAUS = "plateaus.csv"
"""Where there is one, the table tells which optimum plateaus are judged by."""
LONG = 50_000
"""Runs of so many steps have them counted in thousands, so that there is room for the ticks."""
REFERENCES = "references.csv"
"""Where there is one, the table tells what trained models reach that see less than the teacher."""
REFERENCE_LINES = {"unigram": ("frequencies of words", ":"), "bag": ("bag of words", "--")}
"""The label and the line of each, but for windows."""


class PublishedTeacher(NamedTuple):
    """The paper's teacher, beside whom ours is drawn."""

    figure: str
    """In `targets.csv`."""
    name: str
    """What it is, for a title."""
    has_two_axes: bool = False
    """Whether distances have an axis of their own, because losses are so much larger."""


@dataclass(frozen=True)
class Phases:
    """The figure of one experiment's teacher."""

    data_of: Callable[[Path], str]
    """What a run has learnt from, for a title."""
    context: Context
    highest_loss: float
    """Where the axes of losses end, nats."""
    published: PublishedTeacher | None
    """None: nothing is published."""
    lowest_loss: float = 0.0
    """Where they begin."""
    detector_of: Callable[[Path], PhaseConfig] = lambda _: PhaseConfig()
    """What finds the drop of an experiment's teachers."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `phases`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        num_panels = 1 + len(self.context.titles) + (self.published is not None)
        drawing, (loss, *others) = style.figure(num_panels, width=4.8)
        self._draw_loss(loss, home)
        distances = others[: len(self.context.titles)]
        self._draw_distances(distances, home)
        for axes in (loss, *distances):
            shade_drop(axes, home / "teacher", self.detector_of(home))
        if self.published is not None:
            published = others[-1]
            # A little more, so that points at zero are seen.
            published.set_ylim(self.lowest_loss - 0.02, self.highest_loss)
            draw_published(published, self.published)
            published.set_title(f"Published ({self.published.name})")
        return style.save(drawing, folder, "phases")

    def _draw_loss(self, axes: Axes, home: Path) -> None:
        """The teacher's loss, beside exact references where there are any."""
        teacher = home / "teacher"
        draw_loss(axes, teacher)
        axes.set_ylim(self.lowest_loss, self.highest_loss)
        draw_references(axes, home)
        exact = loaders.exact_of(home)
        if exact is not None:
            draw_exact(axes, exact, self.context.optimum)
            draw_judged(axes, home)
        has_drop = isinstance(drop_of(teacher, self.detector_of(home)), Transition)
        seen = "Plateau, drop, tail" if has_drop else "Loss"
        axes.set_title(f"{seen} ({self.data_of(teacher)})")
        if self.published is None:
            axes.legend(loc="upper right")
        else:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 0.06))

    def _draw_distances(self, panels: Sequence[Axes], home: Path) -> None:
        """The teacher's distances, a panel for each kind."""
        table, best = distances_of(home)
        for axes, (kind, title) in zip(panels, self.context.titles.items(), strict=True):
            best_of_kind = best[best.kind == kind].set_index("n")["median"]
            draw_distances(
                axes,
                table[table.kind == kind],
                best_of_kind,
                self.context.size,
                highest=self.context.highest,
            )
            axes.set_title(title)
            if self.published is not None:
                axis_of_norm(axes)
        panels[0].legend(
            loc="upper left",
            title=self._legend(has_exact=not best.empty),
            ncols=2,
            columnspacing=1,
            handlelength=1.2,
        )

    def _legend(self, has_exact: bool) -> str:
        """The title of the legend of distances."""
        if not has_exact:
            return self.context.legend
        return f"{self.context.legend} ({DIAMONDS})" if self.context.legend else DIAMONDS

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        text = f"Left: the teacher's loss on {self.context.held_out}"
        if (home / REFERENCES).exists():
            text += (
                ", beside that of models of the same size that see less of a row: a bag of words,"
                f" and {self.context.seen} and nothing else"
            )
        if loaders.exact_of(home) is not None:
            text += (
                f", with the exact optimum of a model that sees {self.context.seen} and nothing"
                " else (solid), or also knows the position (dotted), and of the best model of all"
            )
            if (chosen := judged_of(home)) is not None:
                text += f"; blue band: near the optimum of n={chosen.n}"
        if isinstance(drop_of(home / "teacher", self.detector_of(home)), Transition):
            text += ". Shaded: the drop that the detector finds in the mean curve; dotted: C1."
        else:
            text += ". The detector finds no drop in the mean curve."
        text += (
            f" Then: how far the teacher's prediction moves {self.context.distances}; median over"
            " positions, mean and middle half of the seeds."
        )
        table, best = distances_of(home)
        if set(table.n) & set(best.n):
            text += f" Diamonds: the same for {self.context.best}."
        return text if self.published is None else f"{text} Far right: the paper's teacher."


def distances_of(home: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The distances of the teacher's checkpoints, and those of the best of all models: no rows
    where they are not known."""
    probes, columns = home / "teacher" / "probes", ("kind", "n", "median")
    table = loaders.table_of(probes / "ngram.csv", "step", "seed", *columns)
    if loaders.exact_of(home) is None:
        return table, pd.DataFrame(columns=pd.Index(columns))
    return table, loaders.table_of(probes / "ceiling.csv", *columns)


def drop_of(teacher: Path, detector: PhaseConfig) -> Transition | NoTransition:
    """The drop in the mean of the seeds' losses, as the detector finds it."""
    steps, loss_SxE = positive_steps(teacher, "eval_loss")
    return detector.detect(steps.tolist(), np.mean(loss_SxE, axis=0).tolist())


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


class JudgedOptimum(NamedTuple):
    """The optimum that plateaus are judged by, in nats."""

    n: int
    loss: float
    tolerance: float


def judged_of(home: Path) -> JudgedOptimum | None:
    """That of an experiment; None if it judges no plateaus, or none of them lies on any optimum."""
    if not (home / PLATEAUS).exists():
        return None
    table = loaders.table_of(home / PLATEAUS, "plateaus", "n", "optimum", "tolerance", "chosen")
    chosen = table[table.chosen & (table.plateaus == "plateaus_with_position")]
    if chosen.empty:
        return None
    first = chosen.iloc[0]
    return JudgedOptimum(int(first.n), float(first.optimum), float(first.tolerance))


def draw_judged(axes: Axes, home: Path) -> None:
    """Where a loss lies on the optimum that plateaus are judged by."""
    chosen = judged_of(home)
    if chosen is not None:
        low, high = chosen.loss - chosen.tolerance, chosen.loss + chosen.tolerance
        axes.axhspan(low, high, color=style.BLUE, alpha=0.15, linewidth=0)


def draw_exact(axes: Axes, exact: dict, optimum: str) -> None:
    """The plateaus of the best models of n tokens (blind to their position, or not) and the ceiling
    of all models.

    Args:
        axes: of losses.
        exact: as `loaders.exact_of` returns it.
        optimum: what the former are called.
    """
    first_n = min(exact["plateaus"], key=int)
    for n, plateau in exact["plateaus"].items():
        # The labels of all but the first begin with an underscore: none.
        hint, placed = "" if n == first_n else "_", exact["plateaus_with_position"][n]
        axes.axhline(
            plateau["cross_entropy"], color=style.SKY, linewidth=1, label=f"{hint}{optimum}"
        )
        axes.axhline(
            placed["cross_entropy"],
            color=style.BLUE,
            linewidth=1,
            linestyle=":",
            label=f"{hint}the same, knowing its position",
        )
    losses = {n: plateau["cross_entropy"] for n, plateau in exact["plateaus"].items()}
    style.label_sizes(axes, losses, style.BLUE)
    axes.axhline(
        exact["ceiling"]["cross_entropy_here"],
        color=style.RED,
        linewidth=1.2,
        linestyle="--",
        label="best of all models",
    )


def draw_references(axes: Axes, home: Path) -> None:
    """What models reach that see less than the teacher, where there are any."""
    if not (home / REFERENCES).exists():
        return
    table = loaders.table_of(home / REFERENCES, "reference", "n", "loss")
    for reference, (label, line) in REFERENCE_LINES.items():
        for loss in table[table.reference == reference].loss:
            axes.axhline(loss, color=style.RED, linewidth=1, linestyle=line, label=label)
    windows = table[table.reference == "window"]
    for i, loss in enumerate(windows.loss):
        label = "window of n tokens" if i == 0 else None
        axes.axhline(loss, color=style.SKY, linewidth=1, label=label)
    sizes = windows.n.astype(int).astype(str)
    style.label_sizes(axes, dict(zip(sizes, windows.loss, strict=True)), style.BLUE)


def draw_distances(
    axes: Axes,
    table: pd.DataFrame,
    best: pd.Series,
    size: str,
    *,
    by: str = "n",
    highest: float | None = 0.8,
) -> None:
    """The median distance for every n, mean and middle half of the seeds; a diamond at the right is
    the value of the best model of all.

    Args:
        axes: of distances.
        table: those of one kind.
        best: those of the best model of all, by n.
        size: what a number of tokens is called, with `{n}` in it.
        by: the column that tells the curves apart.
        highest: where the axis ends; None: above the curves, with room for a legend.
    """
    for i, (n, own) in enumerate(table.groupby(by)):
        median_ExS = own[own.step > 0].pivot(index="step", columns="seed", values="median")
        style.curve_with_band(
            axes,
            median_ExS.index.to_numpy(),
            median_ExS.to_numpy().T,
            style.series_color(i),
            size.format(n=n),
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
    if highest is None:
        highest = 1.4 * float(table["median"].max())
    axes.set_ylim(-0.025 * highest, highest)
    step_axis(axes, np.asarray(sorted(table.step[table.step > 0].unique())))
    axes.set_ylabel("median total variation")


def axis_of_norm(axes: Axes) -> None:
    """A second axis of distances, in the units of the paper."""
    axes.secondary_yaxis(
        "right",
        functions=(lambda distance: np.multiply(distance, 2), lambda norm: np.divide(norm, 2)),
    ).set_ylabel("L1 norm, as published")


def shade_drop(axes: Axes, teacher: Path, detector: PhaseConfig) -> None:
    """The drop as the detector finds it, from the mean of the seeds' losses."""
    found = drop_of(teacher, detector)
    if isinstance(found, Transition):
        axes.axvspan(found.start, found.end, color=style.YELLOW, alpha=0.18, linewidth=0)
        axes.axvline(found.chosen, color=style.GREY, linewidth=1, linestyle=":")


def draw_published(axes: Axes, published: PublishedTeacher) -> None:
    """The paper's teacher; its L1 norms are halved."""
    losses = loaders.targets(published.figure, "validation_loss")
    norms = loaders.targets(published.figure, "m_robust_3gram_median")
    of_distances = axes
    if published.has_two_axes:
        of_distances = axes.twinx()
        of_distances.grid(visible=False)
        of_distances.set_ylabel("total variation", color=style.BLUE)
        of_distances.set_ylim(0, 0.7 * norms.y.max())  # with room for the legend
        axes.set_ylabel("validation loss (nats)")
    look: dict[str, Any] = {"linewidth": 1.2, "markersize": 6}
    loss = axes.plot(
        losses.x, losses.y, "o--", color=style.BLACK, label="validation loss (nats)", **look
    )
    distance = of_distances.plot(
        norms.x,
        0.5 * norms.y,
        "o--",
        color=style.BLUE,
        label="$M_{robust}$, 3 tokens (total variation)",
        **look,
    )
    (step,) = losses.x[losses.note == "C1"]
    c1 = axes.axvline(step, color=style.GREY, linewidth=1, linestyle=":", label="C1")
    step_axis(axes, losses.x.to_numpy())
    axes.legend(handles=[*loss, *distance, c1], loc="upper right")


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
    texts = [f"{tick:,.0f}" for tick in ticks]
    if steps[-1] >= LONG:
        texts = [style.examples_text(tick) for tick in ticks]
    axes.set_xticks(ticks, texts)
    axes.minorticks_off()
    axes.set_xlabel("step")
