"""Accuracy and correlations of the teachers, close around their transitions.

Drawn from the published tables alone, so that it can be drawn again where the runs are gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from common.judge.transition import DetectorConfig, Transition, detect_on_metric
from figures import loaders, style, tables
from parity.presets import PRESETS

NAME = "transition"
_MOST = 3
_MARGIN = 1.25
"""Widths of the widest transition that are shown on either side of the detected checkpoint."""
_LABELS = (
    "accuracy",
    "mean |correlation with 2p - 1|,\ndegree 1",
    "the same, in the support,\nhigher degrees",
)


@dataclass(frozen=True)
class Tables:
    """What is drawn; columns as in `figures.tables`."""

    curves: pd.DataFrame
    correlations: pd.DataFrame
    first: pd.DataFrame | None
    """The sweep over first checkpoints, if there is one: it has their accuracy at more points than
    a long run's thinned curve."""


@dataclass(frozen=True)
class Teacher:
    """One teacher around its transition; all in examples."""

    run: str
    seed: int
    accuracy: pd.Series
    """By examples."""
    correlations: pd.DataFrame
    transition: Transition


def draw(home: Path, folder: Path) -> Path:
    """Draw `transition` from the runs, by way of the tables that are published of them."""
    return draw_tables(tables_of(home), home.name, folder)


def draw_published_tables(published: Path, folder: Path) -> Path:
    """Draw `transition` from `results/parity/<preset>`."""
    found = Tables(_curves(published), _correlations(published), _first(published))
    return draw_tables(found, published.name, folder)


def tables_of(home: Path) -> Tables:
    """The tables that are published of the runs of a preset."""
    probed = tables.probed(home)
    curves = pd.concat([tables.curve(home, teacher.name) for teacher in probed])
    return Tables(curves, pd.concat(map(tables.correlations, probed)), _first(home))


def caption(home: Path) -> str:
    """What the figure shows."""
    batch_size = PRESETS[home.name].config.teacher.training.batch_size
    if not teachers(tables_of(home), batch_size):
        return "The transitions of teachers: none has one."
    text = (
        f"At most {_MOST} teachers around their transitions (shaded; dotted: the detected"
        " checkpoint). Above: accuracy. Middle: mean |correlation| with 2p - 1 of the coordinates"
        " of the support and of the others. Below: of the support's monomials of higher degrees."
    )
    if home.name != loaders.PUBLISHED_SCALE:
        return text
    return (
        f"{text} Diamonds: the paper's points, read by eye; its correlations are with p and are"
        " shown doubled, and its checkpoint inside the transition, of 75% accuracy, is laid on the"
        " detected one; its checkpoints lie 100k examples apart."
    )


def draw_tables(found: Tables, preset: str, folder: Path) -> Path:
    """Draw `transition`: a column for each of the first three teachers that have one."""
    having = teachers(found, PRESETS[preset].config.teacher.training.batch_size)
    shown = having[:_MOST]
    drawing, rows = style.grid(3, max(len(shown), 1), width=5.8)
    widths = [teacher.transition.end - teacher.transition.start for teacher in shown]
    reach = _MARGIN * max(widths, default=1)
    for teacher, column in zip(shown, zip(*rows, strict=True), strict=False):
        draw_teacher(column, teacher, reach)
        if preset == loaders.PUBLISHED_SCALE:
            draw_published(*column[:2])
    if shown:
        for row in rows[1:]:
            # What lies lower is noise, and would only stretch the axis.
            row[0].set_ylim(bottom=found.correlations.noise_floor.min())
        for row in rows:
            row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=12)
    for row, label in zip(rows, _LABELS, strict=True):
        row[0].set_ylabel(label)
    drawing.suptitle(_title(len(shown), len(having)), fontsize=14)
    drawing.supxlabel("thousand examples from the detected checkpoint", fontsize=13)
    return style.save(drawing, folder, NAME)


def _title(num_shown: int, num_having: int) -> str:
    if not num_shown:
        return "No teacher has a transition"
    which = "Teachers"
    if num_having > num_shown:
        which = f"The first {num_shown} of {num_having} teachers"
    return f"{which} around their transitions (shaded)"


def teachers(found: Tables, batch_size: int) -> list[Teacher]:
    """The teachers that have a transition, in the order of their runs and seeds."""
    seen = found.curves[["run", "seed", "examples", "accuracy"]]
    if found.first is not None:
        examples = found.first.first_step * batch_size
        finer = found.first.assign(
            run=found.first.teacher,
            seed=found.first.teacher_seed,
            examples=examples,
            accuracy=found.first.teacher_accuracy,
        )
        seen = pd.concat([seen, finer[seen.columns]])
    result = []
    for (run, seed), correlations in found.correlations.groupby(["run", "seed"]):
        own = seen[(seen.run == run) & (seen.seed == seed)]
        accuracy = own.groupby("examples").accuracy.first()
        transition = detect_on_metric(accuracy.index.tolist(), accuracy.tolist(), DetectorConfig())
        if isinstance(transition, Transition):
            result.append(Teacher(str(run), int(str(seed)), accuracy, correlations, transition))
    return result


def published_points() -> pd.DataFrame:
    """The paper's points in our units. Its correlations are with p; those with 2p - 1, which we
    draw, are twice as large.

    Columns: panel, series, away (examples from the paper's checkpoint inside the transition),
    value.
    """
    accuracy = loaders.targets("spike_parity", "teacher_accuracy")
    degree_1 = loaders.targets("spike_parity", "degree1_correlation")
    during = accuracy[accuracy.note == "during"].x.item()
    both = pd.concat([accuracy.assign(value=accuracy.y), degree_1.assign(value=2 * degree_1.y)])
    return both.assign(away=both.x - during)[["panel", "series", "away", "value"]]


def draw_teacher(column: Sequence[Axes], teacher: Teacher, reach: float) -> None:
    """One teacher: accuracy, degree-1 correlations, those of higher degrees.

    Args:
        column: the three panels.
        teacher: what is drawn.
        reach: examples shown on either side of the detected checkpoint.
    """
    accuracy, degree_1, higher = column
    found = teacher.transition
    accuracy.plot(
        teacher.accuracy.index - found.chosen,
        teacher.accuracy,
        ".-",
        color=style.BLACK,
        label="teacher",
    )
    accuracy.axhline(0.5, color=style.GREY, linewidth=1, linestyle=":")
    accuracy.set_ylim(0.44, 1.03)
    accuracy.set_title(f"Seed {teacher.seed}: detected at {_number(found.chosen)} examples")
    near = teacher.correlations.assign(away=teacher.correlations.examples - found.chosen)
    draw_correlations(degree_1, higher, near)
    for axes in column:
        axes.axvspan(
            found.start - found.chosen,
            found.end - found.chosen,
            color=style.YELLOW,
            alpha=0.2,
            linewidth=0,
        )
        axes.axvline(0, color=style.GREY, linewidth=1, linestyle=":")
        axes.set_xlim(-reach, reach)
    higher.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:+g}" if value else "0")


def draw_correlations(degree_1: Axes, higher: Axes, table: pd.DataFrame) -> None:
    """Correlations of one teacher by examples from its detected checkpoint (column away): those of
    degree 1 in one panel, those of higher degrees in the other."""
    for degree, own in table.groupby("degree"):
        if degree != 1:
            color, label = style.series_color(int(str(degree)) - 1), f"degree {degree}"
            higher.plot(own.away, own.in_support, color=color, label=label)
            continue
        degree_1.plot(
            own.away,
            own.in_support,
            ".-",
            color=style.RED,
            linewidth=1,
            markersize=5,
            label="in the support",
        )
        degree_1.plot(own.away, own.off_support, color=style.BLUE, label="off the support")
        for axes in (degree_1, higher):
            axes.plot(
                own.away, own.noise_floor, color=style.BLACK, linestyle=":", label="noise floor"
            )
    for axes in (degree_1, higher):
        axes.set_yscale("log")


def draw_published(accuracy: Axes, degree_1: Axes) -> None:
    """The paper's points, with its checkpoint inside the transition laid on the detected one."""
    points = published_points()
    of_teacher = points[points.panel == "teacher_accuracy"]
    style.diamonds(accuracy, of_teacher.away, of_teacher.value, style.GREY, "published")
    for series, color, where in (("in_support", style.RED, "in"), ("rest", style.BLUE, "off")):
        own = points[points.series == series]
        style.diamonds(
            degree_1,
            own.away,
            own.value,
            color,
            f"published, {where}\nthe support\n(with p, doubled)",
        )


def _number(examples: int) -> str:
    return f"{examples / 1e6:.4g}M" if examples >= 1e6 else f"{examples / 1e3:.3g}k"


def _first(folder: Path) -> pd.DataFrame | None:
    path = folder / tables.FIRST
    columns = ("teacher", "teacher_seed", "first_step", "teacher_accuracy")
    return loaders.table_of(path, *columns) if path.exists() else None


def _curves(folder: Path) -> pd.DataFrame:
    return loaders.table_of(folder / tables.CURVES, "run", "seed", "examples", "accuracy")


def _correlations(folder: Path) -> pd.DataFrame:
    columns = ("run", "seed", "examples", "degree", "in_support", "off_support", "noise_floor")
    return loaders.table_of(folder / tables.CORRELATIONS, *columns)
