"""The verdicts: each criterion on learning times on either side of it."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from parity import evidence as parity_evidence
from parity import first_checkpoints
from parity import verdicts as claims
from parity.presets import PRESETS, FirstCheckpointConfig
from parity.probe import BY_STRATUM

EXPERIMENT = PRESETS["quick"].config
INF = math.inf
LABEL_BUDGET = EXPERIMENT.label_steps * EXPERIMENT.student.training.batch_size
SEEDS = list(range(10))


class MadeUp(parity_evidence.Evidence):
    """Learning times as given, on ten paired seeds."""

    def run(self, name: str) -> Any:
        return SimpleNamespace(manifest={"seeds": SEEDS})


def evidence(**times: list[float]) -> MadeUp:
    return MadeUp(
        Path(),
        EXPERIMENT,
        {
            name.replace("_", "-").replace("student-", "student/"): values
            for name, values in times.items()
        },
    )


def ten(*values: float) -> list[float]:
    return list(values) * (10 // len(values))


@pytest.mark.parametrize(
    ("w100", "w300", "w1000", "holds"),
    [
        (ten(300), ten(200), ten(100), True),
        (ten(300), ten(300), ten(100), False),  # does not fall
        (ten(300), ten(200), ten(250), False),
        ([INF] * 2 + [300] * 8, ten(200), ten(100), True),
        ([INF] * 3 + [300] * 7, ten(200), ten(100), False),  # too many censored
        (ten(INF), ten(INF), ten(100), None),  # who knows which of the first two is slower
        (ten(INF), ten(INF), ten(INF), None),
        (ten(INF), ten(100), ten(200), False),
        (ten(INF), ten(200), ten(INF), False),
    ],
)
def test_width(
    w100: list[float], w300: list[float], w1000: list[float], holds: bool | None
) -> None:
    found = claims.width_claim(
        evidence(student_ce_w100=w100, student_ce_w300=w300, teacher=w1000, student_ce_w50=ten(1))
    )
    assert found.holds is holds


@pytest.mark.parametrize(
    ("labels", "one_shot", "holds"),
    [
        (ten(100), ten(124), True),
        (ten(100), ten(126), False),
        (ten(100), ten(81), True),
        (ten(100), ten(79), False),
        (ten(100), ten(100, INF), False),
        (ten(INF), ten(INF), None),
        (ten(INF), ten(100), False),
    ],
)
def test_one_shot(labels: list[float], one_shot: list[float], holds: bool | None) -> None:
    found = claims.one_shot_claim(
        evidence(student_ce_w50=labels, student_one_shot=one_shot, student_one_shot_soft=one_shot)
    )
    assert found.holds is holds


@pytest.mark.parametrize(
    ("teacher", "progressive", "labels", "holds"),
    [
        (ten(100), ten(150), ten(375), True),
        (ten(100), ten(151), ten(1000), False),  # does not keep up
        (ten(100), ten(150), ten(374), False),  # CE is too good
        (ten(100, 200), ten(150, 300), ten(INF), True),
        (ten(LABEL_BUDGET / 2.5), ten(LABEL_BUDGET / 2.5), ten(INF), True),
        (
            ten(LABEL_BUDGET / 2.4),
            ten(LABEL_BUDGET / 2.4),
            ten(INF),
            None,
        ),  # labels may need less than 2.5 times that
        (ten(100, 200), ten(150, INF), ten(INF), False),
        (ten(INF), ten(INF), ten(INF), None),
        (ten(100), ten(INF), ten(INF), False),  # whatever labels would have needed
        ([INF] * 6 + [100] * 4, [INF] * 6 + [150] * 4, ten(INF), None),
        (
            [INF] * 4 + [100] * 6,
            [INF] * 4 + [150] * 6,
            ten(INF),
            True,
        ),  # those that neither learnt are left out
        ([INF] * 4 + [100] * 6, [INF] * 4 + [151] * 6, ten(INF), False),
    ],
)
def test_progressive(
    teacher: list[float], progressive: list[float], labels: list[float], holds: bool | None
) -> None:
    found = claims.progressive_claim(
        evidence(teacher=teacher, student_progressive=progressive, student_ce_w50=labels)
    )
    assert found.holds is holds


@pytest.mark.parametrize(
    ("during", "before", "after", "holds"),
    [(8, 0, 2, True), (7, 0, 0, False), (10, 3, 0, False), (10, 0, 3, False), (10, 2, 2, True)],
)
def test_two_shot(during: int, before: int, after: int, holds: bool) -> None:
    times = {
        name: [1.0] * n + [INF] * (10 - n)
        for name, n in (("", during), ("_before", before), ("_after", after))
    }
    found = claims.two_shot_claim(
        evidence(**{f"student_two_shot{name}": values for name, values in times.items()})
    )
    assert found.holds is holds


@pytest.mark.parametrize(
    ("labels", "projections", "holds"),
    [
        (ten(250), ten(100), True),
        (ten(249), ten(100), False),
        (ten(INF), [INF] * 2 + [100] * 8, True),
        (ten(INF), [INF] * 3 + [100] * 7, False),  # too many censored
        (ten(INF), ten(INF), None),
        (ten(100), ten(INF), False),
    ],
)
def test_projections(labels: list[float], projections: list[float], holds: bool | None) -> None:
    found = claims.projections_claim(
        evidence(
            student_ce_w50=labels, student_progressive=ten(100), student_projections=projections
        )
    )
    assert found.holds is holds


@pytest.mark.parametrize(
    ("degree_1", "degree_2", "holds"),
    [
        ((1, 2, 3, 4), (1, 1, 1, 1), True),
        ((4, 3, 2, 1), (1, 1, 1, 1), False),
        ((1, 3, 2, 4), (1, 2, 3, 4), False),
    ],
)
def test_first_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
    degree_1: tuple[int, ...],
    degree_2: tuple[int, ...],
    holds: bool,
) -> None:
    """Two students that do not learn, then two that do."""
    monkeypatch.setattr(
        first_checkpoints, "first_table", lambda _: students({1: degree_1, 2: degree_2})
    )
    assert first_checkpoints.first_checkpoint_claim(evidence()).holds == holds


def students(
    in_support: dict[int, tuple[int, ...]], t90: tuple[float | None, ...] = (None, None, 9, 9)
) -> pd.DataFrame:
    """The sweep's table: four students, each of a teacher of its own, with correlations by
    degree."""
    rows = [
        {
            "degree": degree,
            "in_support": value,
            "off_support": 1,
            "teacher_accuracy": 0.5,
            "t90": t90[i],
            "teacher_seed": i,
        }
        for degree, values in in_support.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(learnt=lambda table: table.t90.notna())


def test_first_checkpoints_beside_their_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither baseline is judged: the accuracy of the checkpoint, and who learns before the final
    one has taught."""
    at = first_checkpoints.switch(evidence())
    assert at == 2432 * 32
    table = students({1: (1, 2, 3, 4), 2: (1, 1, 1, 1)}, t90=(None, at + 1, at, at - 1))
    monkeypatch.setattr(first_checkpoints, "first_table", lambda _: table)
    found = first_checkpoints.first_checkpoint_claim(evidence())
    assert found.notes == (
        (
            "3 of 4 students learnt, 2 of them before the switch, from the first checkpoint alone"
            " (not judged)"
        ),
    )
    for accuracies, area in (((0.6, 0.8, 0.7, 0.9), 1.0), ((0.9, 0.8, 0.7, 0.6), 0.0)):
        table["teacher_accuracy"] = accuracies * 2
        found = first_checkpoints.first_checkpoint_claim(evidence())
        assert found.holds and [
            item.estimate.value
            for item in found.measurements
            if "accuracy (not judged" in item.name
        ] == [area]


@pytest.mark.parametrize("learnt", [(False, True), (False, False)])
def test_students_of_a_teacher_without_a_transition_are_no_first_checkpoints(
    tmp_path: Path, learnt: tuple[bool, bool]
) -> None:
    """Two teachers of which the first has learnt nothing, or neither; its student had the final
    checkpoint from the start."""
    experiment = replace(
        EXPERIMENT,
        first=FirstCheckpointConfig((0, 10), first_steps=1, steps=2, eval_every=1, num_seeds=2),
    )
    steps, flat = list(range(0, 70, 10)), [0.5] * 7
    curves = [[0.5, 0.5, 0.7, 0.9, 1.0, 1.0, 1.0] if lane else flat for lane in learnt]
    records = [
        {"step": step, "examples": step, "accuracy": [curve[i] for curve in curves]}
        for i, step in enumerate(steps)
    ]
    firsts = [30 if lane else 60 for lane in learnt]

    class OfRuns(parity_evidence.Evidence):
        def run(self, name: str) -> Any:
            distinct = [{"segments": [{"teacher_step": first}]} for first in firsts]
            manifest = {
                "seeds": [7, 8],
                "checkpoints": dict.fromkeys(map(str, steps), ""),
                "schedules": {"distinct": distinct, "of_lane": [0, 1]},
            }
            return SimpleNamespace(
                metrics=lambda: records,
                manifest=manifest,
                record={"config": {"teacher_seed": None}},
            )

    probes = tmp_path / "teacher" / "probes"
    probes.mkdir(parents=True)
    same = {"degree": 1, "mean_abs": 0.1, "noise_floor": 0.01}
    rows = [
        {"seed": seed, "step": step, "overlap": overlap} | same
        for seed in (7, 8)
        for step in steps
        for overlap in (0, 1)
    ]
    pd.DataFrame(rows).to_csv(probes / BY_STRATUM, index=False)
    made_up = OfRuns(tmp_path, experiment)
    table = first_checkpoints.first_table(made_up)
    assert sorted(set(table.teacher_seed)) == [8] * any(learnt)
    assert len(table) == 2 * any(learnt)
    assert first_checkpoints.first_checkpoint_claim(made_up).holds is (
        False if any(learnt) else None
    )


@pytest.mark.parametrize(
    ("one_shot", "holds", "undecided"),
    [
        (ten(100, 110), True, False),
        (ten(180, 190), False, False),
        (ten(50, 52), False, False),
        (ten(100, 160), None, True),
        ([INF] * 3 + [100] * 7, None, False),
    ],
)
def test_equivalence_of_one_shot_and_labels(
    one_shot: list[float], holds: bool | None, undecided: bool
) -> None:
    times = {"equivalence/ce": ten(100), "equivalence/one-shot-soft": one_shot}
    found = claims.equivalence_claim(MadeUp(Path(), EXPERIMENT, times))
    assert (found.holds, found.undecided) == (holds, undecided)
