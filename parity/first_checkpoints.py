"""Claim F: what a first checkpoint must carry to teach a two-shot student. The paper has no such
sweep."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.judge.stats import Estimate, area_under_roc
from common.judge.transition import NoTransition
from common.judge.verdict import Measurement, Verdict
from common.runs.directory import RunDirectory
from common.runs.transitions import transitions
from common.runs.tuning import learning_times
from parity.evidence import Evidence
from parity.presets import ReplicaConfig
from parity.probe import read_strata


class _Student(NamedTuple):
    """A two-shot student of the sweep over first checkpoints; see `first_table`."""

    teacher: str
    teacher_seed: int
    seed: int
    offset: int
    first_step: int
    after_detected: int
    teacher_accuracy: float
    t90: float | None
    learnt: bool
    final_accuracy: float


def first_checkpoint_claim(evidence: Evidence) -> Verdict:
    """F: degree-1 correlations tell which first checkpoints teach."""
    table = first_table(evidence)
    if table.empty:
        return Verdict("F", None, (), ("no teacher has a transition",))
    areas = first_areas(table)
    best = max((area.value for degree, area in areas.items() if degree > 1), default=math.nan)
    holds = areas[1].value >= 0.8 and areas[1].value >= best
    one = table[table.degree == 1]
    # The random initial weights give every coordinate a correlation. The ratio to that off the
    # support may tell more.
    ratio = _area(one, one.in_support / one.off_support)
    measurements = [
        Measurement(f"area under ROC of degree {degree}", area) for degree, area in areas.items()
    ]
    measurements.append(
        Measurement(
            "area under ROC of degree 1, in over off support (not judged: thought of after the"
            " first results)",
            ratio,
        )
    )
    # Baseline: it takes no probe to see that a checkpoint answers better than chance.
    measurements.append(
        Measurement(
            "area under ROC of the first checkpoint's accuracy (not judged: a baseline)",
            _area(one, one.teacher_accuracy),
        )
    )
    # At the switch the final checkpoint has not taught yet.
    early = int((one.t90.astype(float) <= switch(evidence)).sum())
    note = (
        f"{int(one.learnt.sum())} of {len(one)} students learnt, {early} of them before the switch,"
        " from the first checkpoint alone (not judged)"
    )
    return Verdict("F", holds, tuple(measurements), (note,))


def switch(evidence: Evidence) -> int:
    """Student examples after which the final checkpoint takes over from the first one."""
    assert evidence.experiment.first is not None
    return evidence.experiment.first.first_steps * evidence.experiment.student.training.batch_size


def first_areas(table: pd.DataFrame) -> dict[int, Estimate]:
    """For each degree, the area under ROC with which a first checkpoint's correlations in the
    support tell whether its student learns."""
    return {int(str(degree)): _area(own, own.in_support) for degree, own in table.groupby("degree")}


def _area(table: pd.DataFrame, scores: pd.Series) -> Estimate:
    return area_under_roc(scores.tolist(), table.learnt.tolist(), table.teacher_seed.tolist())


def first_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each two-shot student of the sweep and each degree. Students whose teacher has no
    transition are left out.

    Columns: teacher, teacher_seed, seed, offset (asked for), first_step, after_detected (teacher
        steps), teacher_accuracy (of the first checkpoint), t90 (empty where censored), learnt,
        final_accuracy, degree, in_support and off_support (mean |correlation| with 2p - 1).
    """
    assert evidence.experiment.first is not None
    names = teachers(evidence)
    rows = []
    for name in names:
        for offset in evidence.experiment.first.offsets:
            rows += _students(evidence, evidence.run(name), name, offset)
    correlations = pd.concat([_correlations(evidence, name) for name in names])
    return pd.DataFrame(rows, columns=_Student._fields).merge(
        correlations, on=["teacher", "teacher_seed", "first_step"]
    )


def teachers(evidence: Evidence) -> list[str]:
    """The experiment's teacher, and its replicas."""
    return ["teacher", *(replica_name(replica) for replica in evidence.experiment.replicas)]


def replica_name(replica: ReplicaConfig) -> str:
    """The run of a further teacher."""
    return f"teacher-{replica.seed}"


def first_run(teacher: str, offset: int) -> str:
    """The run of the two-shot students of one first checkpoint."""
    return f"first/{teacher}/at{offset:+d}"


def _students(
    evidence: Evidence, teacher: RunDirectory, name: str, offset: int
) -> Iterator[_Student]:
    run = evidence.run(first_run(name, offset))
    schedules, final = run.manifest["schedules"], run.metrics()[-1]["accuracy"]
    config = run.record["config"]
    detected = transitions(teacher, evidence.experiment.student.detector)
    accuracy = {record["step"]: record["accuracy"] for record in teacher.metrics()}
    for lane, (seed, time) in enumerate(
        zip(run.manifest["seeds"], learning_times(run), strict=True)
    ):
        teacher_seed = seed if config["teacher_seed"] is None else config["teacher_seed"]
        teacher_lane = teacher.manifest["seeds"].index(teacher_seed)
        first = schedules["distinct"][schedules["of_lane"][lane]]["segments"][0]["teacher_step"]
        transition = detected[teacher_lane]
        if isinstance(transition, NoTransition):
            continue  # its final checkpoint taught alone, whatever the offset
        yield _Student(
            teacher=name,
            teacher_seed=teacher_seed,
            seed=seed,
            offset=offset,
            first_step=first,
            after_detected=first - transition.chosen,
            teacher_accuracy=accuracy[first][teacher_lane],
            t90=time if np.isfinite(time) else None,
            learnt=bool(np.isfinite(time)),
            final_accuracy=final[lane],
        )


def _correlations(evidence: Evidence, teacher: str) -> pd.DataFrame:
    table = read_strata(evidence.home / teacher)
    strata = table.rename(columns={"seed": "teacher_seed", "step": "first_step"}).assign(
        teacher=teacher
    )
    key = ["teacher", "teacher_seed", "first_step", "degree"]
    inside = strata[strata.overlap == strata.degree].rename(columns={"mean_abs": "in_support"})
    outside = strata[strata.overlap == 0].rename(columns={"mean_abs": "off_support"})
    return inside[[*key, "in_support"]].merge(outside[[*key, "off_support"]], on=key)
