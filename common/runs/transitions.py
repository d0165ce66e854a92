"""The transitions of a run's lanes, found in its metrics and placed at its checkpoints."""

from collections.abc import Sequence
from dataclasses import replace

from common.judge.transition import Detector, NoTransition, Transition
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory


def transitions(run: RunDirectory, detector: Detector) -> list[Transition | NoTransition]:
    """The transition of every lane of a run, its candidates being steps at which a checkpoint was
    saved."""
    saved = Trajectory(run).steps()
    records = [
        record for record in run.metrics() if detector.reads_all or record["step"] in set(saved)
    ]
    steps, curves = (
        [record["step"] for record in records],
        [record[detector.metric] for record in records],
    )
    found = (
        detector.detect(steps, [values_L[lane] for values_L in curves])
        for lane in range(len(run.manifest["seeds"]))
    )
    return [_at_checkpoints(transition, saved) for transition in found]


def _at_checkpoints(
    found: Transition | NoTransition, saved: Sequence[int]
) -> Transition | NoTransition:
    if isinstance(found, NoTransition):
        return found

    def nearest(wanted: int) -> int:
        return min(saved, key=lambda step: abs(step - wanted))

    return replace(
        found,
        chosen=nearest(found.chosen),
        before=nearest(found.before),
        after=nearest(found.after),
    )
