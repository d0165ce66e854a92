"""What figures of a transition show where there is one, and where there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import first, loaders, spike, style, tables, transition
from parity.presets import PRESETS
from tests.commands import REPOSITORY


def made_up(middles: list[float]) -> transition.Tables:
    """Teachers whose accuracy rises around some step; one that never learns where it is
    infinite."""
    steps = np.arange(0, 100_000, 5000)
    curves = [
        pd.DataFrame(
            {
                "run": "teacher",
                "seed": seed,
                "examples": steps,
                "accuracy": 0.5 + 0.5 / (1 + np.exp((middle - steps) / 3000)),
            }
        )
        for seed, middle in enumerate(middles)
    ]
    correlations = [
        curve[["run", "seed", "examples"]].assign(
            degree=degree, in_support=0.02, off_support=0.01, noise_floor=0.001
        )
        for curve in curves
        for degree in (1, 2)
    ]
    return transition.Tables(pd.concat(curves), pd.concat(correlations), None)


def test_teachers_without_a_transition_are_left_out() -> None:
    found = transition.teachers(made_up([50_000, np.inf, 30_000]), batch_size=1)
    assert [(teacher.seed, teacher.transition.chosen) for teacher in found] == [
        (0, 50_000),
        (2, 30_000),
    ]
    assert set(found[1].correlations.seed) == {2}


def test_the_sweep_refines_the_curve() -> None:
    """Its steps are updates, the curve's examples."""
    plain = made_up([50_000])
    first = pd.DataFrame(
        {
            "teacher": ["teacher"] * 2,
            "teacher_seed": 0,
            "first_step": [5200, 5300],
            "teacher_accuracy": [0.7, 0.95],
        }
    )
    (teacher,) = transition.teachers(
        transition.Tables(plain.curves, plain.correlations, first), batch_size=10
    )
    assert teacher.accuracy.loc[50_000:55_000].index.tolist() == [50_000, 52_000, 53_000, 55_000]
    assert teacher.transition.chosen == 52_000


def test_published_correlations_are_doubled_and_aligned() -> None:
    points = transition.published_points()
    peak = points[points.series == "in_support"].set_index("away").value
    assert peak[0] == pytest.approx(0.19) and peak[200_000] == pytest.approx(0.02)
    assert points[points.panel == "teacher_accuracy"].set_index("away").value.to_dict() == {
        -500_000: 0.5,
        0: 0.75,
        600_000: 1.0,
    }


def test_the_detected_checkpoints_are_those_of_the_runs() -> None:
    """At published scale, from the thinned curves: the students' first checkpoint at offset 0 is
    the one that their runs detected."""
    folder = REPOSITORY / "results" / "parity" / loaders.PUBLISHED_SCALE
    curves, correlations, first = (
        pd.read_csv(folder / name) for name in (tables.CURVES, tables.CORRELATIONS, tables.FIRST)
    )
    batch_size = PRESETS[loaders.PUBLISHED_SCALE].config.teacher.training.batch_size
    found = transition.teachers(transition.Tables(curves, correlations, first), batch_size)
    detected = first[first.offset == 0].groupby("teacher").first_step.first() * batch_size
    assert {teacher.run: teacher.transition.chosen for teacher in found} == detected.to_dict()


def test_published_students_stand_beside_ours() -> None:
    """One series for each first checkpoint, in the color of ours."""
    _, (axes,) = style.figure(1)
    spike.draw_published_students(axes)
    drawn = {line.get_color(): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert drawn == {
        style.CANDIDATE["before"]: [0.5],
        style.CANDIDATE["during"]: [0.71, 0.74, 0.96, 1.0],
        style.CANDIDATE["after"]: [0.5],
    }


def test_a_sweep_over_first_checkpoints_of_teachers_that_never_learn_is_drawn(
    tmp_path: Path,
) -> None:
    columns = (
        "teacher,teacher_seed,seed,offset,learnt,teacher_accuracy,degree,in_support,off_support"
    )
    (home := tmp_path / "quick").mkdir()
    (home / "first_checkpoints.csv").write_text(columns + "\n")
    assert first.draw(home, tmp_path).stat().st_size > 1000
