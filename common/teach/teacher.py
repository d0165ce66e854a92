"""A finished run as a teacher: which of its lanes teaches which student lane, its checkpoints, its
transitions."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from common.base.errors import UserError
from common.judge.transition import Detector, NoTransition, Transition
from common.nn.functional import Params
from common.runs.directory import RunDirectory, refuse_unfinished
from common.runs.lineage import result_hash
from common.runs.trajectory import Trajectory
from common.runs.transitions import transitions
from common.teach.settings import Student
from common.train.fit import Supervision
from common.train.schedule import ScheduleConfig, build, reads_transition


class TeacherRun:
    """The trajectory of a finished run, seen from the lanes of a student run."""

    def __init__(
        self, run: RunDirectory, student_seeds_L: Sequence[int], teacher_seed: int | None
    ) -> None:
        """Pair every student lane with a teacher lane.

        Args:
            run: the teacher's run.
            student_seeds_L: seed of every student lane.
            teacher_seed: the teacher lane of all of them; None pairs equal seeds.

        Raises:
            UserError: the run is unfinished, a sweep, or lacks a seed.
        """
        refuse_unfinished(run, "teacher")
        self.run = run
        path = run.path
        seeds: list[int] = self.run.manifest["seeds"]
        if len(set(seeds)) < len(seeds):
            raise UserError(
                f"the teacher {path} is a sweep over learning rates; train one with a single"
                " --optim.learning-rate"
            )
        wanted_L = [seed if teacher_seed is None else teacher_seed for seed in student_seeds_L]
        if absent := sorted(set(wanted_L) - set(seeds)):
            raise UserError(
                f"the teacher {path} has seeds {seeds}, not {absent}; train it with those seeds,"
                " choose others (--training.seed, --training.num-seeds), or let one seed teach all"
                " (--teacher-seed)"
            )
        self.lane_L = tuple(seeds.index(seed) for seed in wanted_L)
        self.seeds_L = tuple(wanted_L)
        self.trajectory = Trajectory(self.run)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher")
        self._loading: dict[int, Future[Params]] = {}
        self._transitions: dict[Detector, list[Transition | NoTransition]] = {}

    @property
    def hash(self) -> str:
        """Identity of the teacher: what was asked for and what came out."""
        return result_hash(self.run)

    def last_step(self) -> int:
        """Step of the final checkpoint."""
        return self.trajectory.steps()[-1]

    def stacked(self, wanted: Sequence[tuple[int, int]]) -> Params:
        """The teachers of some student lanes, pairs (lane, teacher step), stacked along a leading
        axis."""
        steps = {step for _, step in wanted}
        self._load(steps)
        self._loading = {step: self._loading[step] for step in steps}
        checkpoints = {step: loading.result() for step, loading in self._loading.items()}
        teachers = [
            jax.tree.map(lambda leaf, lane=lane: leaf[self.lane_L[lane]], checkpoints[step])
            for lane, step in wanted
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *teachers)

    def prefetch(self, steps: Iterable[int]) -> None:
        """Begin to read the checkpoints that are needed next, beside the training; at most these
        and the present ones are in memory."""
        self._load(steps)

    def _load(self, steps: Iterable[int]) -> None:
        for step in sorted(set(steps) - self._loading.keys()):
            self._loading[step] = self._loader.submit(self.trajectory.restore, step)

    def first_steps(self, config: ScheduleConfig, detector: Detector) -> tuple[int, ...]:
        """The first checkpoint for every student lane, read off its teacher's curve.

        Args:
            config: which candidate, and how far from it.
            detector: finds the candidates.

        Raises:
            UserError: a teacher has no transition, and why; unless its final checkpoint is to teach
                alone.
        """
        found = self.transitions(detector)
        steps_L = []
        for seed, lane in zip(self.seeds_L, self.lane_L, strict=True):
            transition = found[lane]
            if isinstance(transition, NoTransition) and config.without_transition == "final":
                steps_L.append(self.last_step())
                continue
            if isinstance(transition, NoTransition):
                raise UserError(
                    f"the teacher {self.run.path}, seed {seed}, has no transition to teach from:"
                    f" {transition.reason}"
                )
            candidate = {
                "before": transition.before,
                "start": transition.start,
                "during": transition.chosen,
                "end": transition.end,
                "after": transition.after,
            }[config.candidate]
            steps_L.append(
                min(self.trajectory.steps(), key=lambda step: abs(step - candidate - config.offset))
            )
        return tuple(steps_L)

    def transitions(self, detector: Detector) -> list[Transition | NoTransition]:
        """The transition of every lane of the teacher; its curves are read once."""
        if detector not in self._transitions:
            self._transitions[detector] = transitions(self.run, detector)
        return self._transitions[detector]


def supervise(config: Student, teacher: TeacherRun, num_layers: int) -> Supervision:
    """The schedule of every student lane under a teacher.

    Args:
        config: which schedule, with what parameters.
        teacher: paired with the lanes.
        num_layers: hidden layers of student and teacher, for projections.

    Raises:
        UserError: the schedule reads a teacher's transition, and there is none.
    """
    firsts_L = (
        teacher.first_steps(config.supervision, config.detector)
        if reads_transition(config.schedule, config.supervision)
        else (None,) * len(teacher.lane_L)
    )
    arguments = config.schedule, config.supervision, config.training.steps, teacher.last_step()
    return Supervision(tuple(build(*arguments, first, num_layers) for first in firsts_L), teacher)
