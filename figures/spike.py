"""The teacher's transition: its three candidate checkpoints, its degree-1 correlations, and the
2-shot students of each candidate."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from common.runs.directory import RunDirectory
from figures import loaders, style


def draw(home: Path, folder: Path) -> Path:
    """Draw `spike`: for one teacher seed (the one of median learning time) its accuracy and
    correlations; for all seeds the students."""
    drawing, (teacher, correlations, students) = style.figure(3)
    seed, lane = median_seed(home)
    candidates = candidates_of(home, lane)

    examples, accuracy_SxE = loaders.curves(home / "teacher")
    teacher.plot(examples, accuracy_SxE.T, color=style.GREY, linewidth=0.8, alpha=0.5)
    teacher.plot(examples, accuracy_SxE[lane], color=style.BLACK, label=f"teacher, seed {seed}")
    for name, at in candidates.items():
        value = accuracy_SxE[lane][np.searchsorted(examples, at)]
        teacher.plot(
            at,
            value,
            "o",
            color=style.CANDIDATE[name],
            markersize=11,
            label=f"checkpoint {name}",
            zorder=5,
            clip_on=False,
        )
    style.accuracy_axis(teacher)
    teacher.set_title("Teacher")
    teacher.legend(loc="lower right")

    draw_correlations(correlations, home / "teacher", seed)
    for axes in (teacher, correlations):
        style.examples_axis(axes, float(examples[-1]))
    for at in candidates.values():
        correlations.axvline(at, color=style.GREY, linewidth=1, linestyle=":")

    draw_students(students, home)
    return style.save(drawing, folder, "spike")


def caption(home: Path) -> str:
    """What the figure shows."""
    seed, lane = median_seed(home)
    median = f"the one of median learning time (seed {seed}, black)"
    if candidates_of(home, lane):
        teachers = f"Left: the teachers (grey), and {median} with its three candidate checkpoints."
    else:
        teachers = f"Left: the teachers (grey), and {median}, which has no transition."
    text = (
        f"{teachers} Middle: its degree-1 correlations with 2p - 1. Right: students taught first by"
        " one candidate, then by the final checkpoint; mean over seeds, and the middle half of"
        " them."
    )
    return f"{text} Diamonds: the paper's." if home.name == loaders.PUBLISHED_SCALE else text


def candidates_of(home: Path, lane: int) -> dict[str, int]:
    """The candidate checkpoints of one teacher in examples; none if it has no transition."""
    transition = RunDirectory(home / "student" / "two-shot").manifest["transitions"][lane]
    if "chosen" not in transition:
        return {}
    steps = {
        "before": transition["before"],
        "during": transition["chosen"],
        "after": transition["after"],
    }
    batch_size = loaders.config_of(home / "teacher")["training"]["batch_size"]
    return {name: step * batch_size for name, step in steps.items()}


def median_seed(home: Path) -> tuple[int, int]:
    """Seed and lane of the teacher with the (lower) median learning time, which is typical."""
    times = loaders.table_of(home / "learning_times.csv", "run", "seed", "t90")
    of_teacher = times[times.run == "teacher"]
    ordered = of_teacher.sort_values(["t90", "seed"], na_position="last").seed.tolist()
    seed = int(ordered[(len(ordered) - 1) // 2])
    seeds: list[int] = RunDirectory(home / "teacher").manifest["seeds"]
    return seed, seeds.index(seed)


def draw_correlations(axes: Axes, teacher: Path, seed: int) -> None:
    """|degree-1 correlation| with 2p-1: a line for each coordinate of the support, a band for all
    others."""
    columns = ("seed", "degree", "examples", "coordinates", "with_2p_minus_1")
    inside = loaders.table_of(teacher / "probes" / "correlations_in_support.csv", *columns)
    inside = inside[(inside.seed == seed) & (inside.degree == 1)].assign(
        size=lambda table: table.with_2p_minus_1.abs()
    )
    for i, (_, line) in enumerate(inside.groupby("coordinates")):
        axes.plot(
            line.examples,
            line["size"],
            color=style.RED,
            linewidth=0.9,
            alpha=0.5,
            label="in the support, each" if i == 0 else None,
        )
    mean = inside.groupby("examples")["size"].mean()
    axes.plot(mean.index, mean, color=style.RED, label="in the support, mean")
    strata = loaders.strata_of(teacher)
    outside = strata[(strata.seed == seed) & (strata.degree == 1) & (strata.overlap == 0)]
    axes.fill_between(
        outside.examples,
        outside.low,
        outside.high,
        color=style.BLUE,
        alpha=0.25,
        linewidth=0,
        label="all others, 5% to 95%",
    )
    axes.plot(outside.examples, outside.mean_abs, color=style.BLUE, label="all others, mean")
    axes.plot(
        outside.examples,
        outside.noise_floor,
        color=style.BLACK,
        linestyle=":",
        linewidth=1.5,
        label="noise floor",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("|degree-1 correlation|")
    axes.set_title(f"Degree-1 correlations, seed {seed}")
    axes.legend(loc="upper right")


def draw_students(axes: Axes, home: Path) -> None:
    """Accuracy of the 2-shot students, mean and band over seeds."""
    config = loaders.config_of(home / "student" / "two-shot")
    for candidate, name in (
        ("before", "two-shot-before"),
        ("after", "two-shot-after"),
        ("during", "two-shot"),
    ):
        examples, accuracy_SxE = loaders.curves(home / "student" / name)
        style.curve_with_band(
            axes,
            examples,
            accuracy_SxE,
            style.CANDIDATE[candidate],
            f"first checkpoint {candidate}",
        )
        style.examples_axis(axes, float(examples[-1]))
    axes.axvline(
        config["supervision"]["first_steps"] * config["training"]["batch_size"],
        color=style.GREY,
        linewidth=1,
        linestyle=":",
    )
    if home.name == loaders.PUBLISHED_SCALE:
        draw_published_students(axes)
    style.accuracy_axis(axes)
    axes.set_title("2-shot students (dotted: switch to the final one)")
    axes.legend()


def draw_published_students(axes: Axes) -> None:
    """The paper's 2-shot students, which switch after as many examples as ours. Points that
    coincide are nested."""
    table = loaders.targets("spike_parity", "two_shot_1M")
    for i, candidate in enumerate(("before", "during", "after")):
        own = table[table.series == f"candidate_{i + 1}"]
        style.diamonds(
            axes,
            own.x,
            own.y,
            style.CANDIDATE[candidate],
            f"published, {candidate}",
            markersize=6 + 2 * i,
            clip_on=False,
        )
