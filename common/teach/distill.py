"""The run of a student, whatever it learns: its teacher found and checked, its schedule built, its
record written."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from common.base.config import flags_of, to_dict
from common.base.errors import UserError
from common.judge.transition import Watch
from common.runs.directory import RunDirectory
from common.runs.lineage import MADE_FROM, PlannedRun
from common.runs.tuning import TunedBy
from common.teach.teacher import Distills, TeacherRun, supervise
from common.train import schedule
from common.train.command import TrainingCommand
from common.train.engine import Engine, Problem, ScanEngine
from common.train.fit import Supervision
from common.train.stage import Stage

TeacherT = TypeVar("TeacherT")
"""Configuration of a teacher."""


@dataclass(frozen=True)
class Distillation(Generic[TeacherT]):
    """What an experiment knows of its students; None in place of a teacher's configuration where
    the data's labels supervise."""

    experiment: str
    config: Distills
    problem: Callable[[TeacherT | None], Problem]
    read_teacher: Callable[[RunDirectory], TeacherT]
    """Raises UserError if that teacher cannot teach this student."""
    shared_layers: Callable[[TeacherT], int]
    """How many hidden layers of student and teacher correspond."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the run besides its configuration."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Further manifest entries."""
    engine: Callable[[Problem, int], Engine] = ScanEngine
    watch: Watch = Watch()
    """When a student's transition begins and is done."""
    tells_speed: bool = False
    """Whether a run measures itself beside what its device can do."""

    def stage(
        self, command: TrainingCommand[Any], path: Path | None
    ) -> tuple[Stage, tuple[int, ...]]:
        """The run that a command asks for, and the steps of the teacher's checkpoints.

        Args:
            command: where the run is kept, and what chose its rate.
            path: the teacher's run directory; labels do without.

        Raises:
            UserError: the teacher is missing, unfinished, or was trained on other data; or there is
                one, and labels supervise.
        """
        config = self.config
        paths = {"teacher": str(path or ""), "tuned_by": str(command.tuned_by or "")}
        record = student_record(self.experiment, config) | dict(self.identity) | {"paths": paths}
        made_from = command.made_from(config)
        if config.schedule == "ce":
            if path is not None:
                raise UserError(
                    "--schedule ce learns from the data's labels, which need no teacher; leave out"
                    " --teacher, or choose another --schedule"
                )
            problem = self.problem(None)
            supervision = Supervision(
                tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None
            )
            return (
                self._stage(command.run_dir, record, problem, supervision, {MADE_FROM: made_from}),
                (),
            )
        if path is None:
            raise UserError(
                f"--schedule {config.schedule} needs --teacher, the run directory of a finished"
                f" `python -m {self.experiment}.train`"
            )
        if config.shared_stream and config.teacher_seed is None:
            raise UserError(
                "--shared-stream lets one teacher answer for all seeds at once; say which one with"
                " --teacher-seed"
            )
        teacher_config = self.read_teacher(self._teacher_directory(path))
        problem = self.problem(teacher_config)
        teacher = TeacherRun(path, [lane.seed for lane in problem.lanes], config.teacher_seed)
        supervision = supervise(config, teacher, self.shared_layers(teacher_config))
        found: dict[str, Any] = {
            "transitions": [
                asdict(transition) for transition in teacher.transitions(config.detector)
            ]
        }
        found[MADE_FROM] = made_from | {"teacher": {"path": str(path), "hash": teacher.hash}}
        stage = self._stage(
            command.run_dir, record | {"teacher_hash": teacher.hash}, problem, supervision, found
        )
        return stage, teacher.trajectory.steps()

    def _teacher_directory(self, path: Path) -> RunDirectory:
        run = RunDirectory(path)
        if (run.record["experiment"], run.record["stage"]) != (self.experiment, "train"):
            raise UserError(
                f"{path} is a run of {run.record['experiment']}.{run.record['stage']}; a teacher"
                f" comes from {self.experiment}.train"
            )
        return run

    def _stage(
        self,
        run_dir: Path,
        record: Mapping[str, Any],
        problem: Problem,
        supervision: Supervision,
        found: Mapping[str, Any],
    ) -> Stage:
        provenance = {**self.provenance, **found}
        return Stage(
            run_dir,
            record,
            problem,
            self.config.training,
            supervision,
            provenance,
            self.engine,
            self.watch,
            self.tells_speed,
        )


_IDLE_ON_LABELS = ("supervision.", "loss.", "teacher_seed")
"""How the names of the settings begin that label students have and do not use."""


def student_record(experiment: str, config: Distills) -> dict[str, Any]:
    """What identifies a student's run, apart from its data and its teacher."""
    return {"experiment": experiment, "stage": "distill", "config": to_dict(config)}


def planned_student(record: Mapping[str, Any], criterion: TunedBy) -> PlannedRun:
    """The run of a planned command, by its record."""
    return PlannedRun(
        record, criterion, _IDLE_ON_LABELS if record["config"]["schedule"] == "ce" else ()
    )


def check_flags(args: Sequence[str], config: Distills) -> None:
    """Refuse or name the flags that have no effect on students who learn from labels.

    Args:
        args: what was typed; presets may set what every schedule but this one reads.
        config: what became of it.

    Raises:
        UserError: --teacher-seed is given.
    """
    if config.schedule != "ce":
        return
    typed = flags_of(args)
    if "teacher_seed" in typed and config.teacher_seed is not None:
        raise UserError(
            "--schedule ce learns from the data's labels and has no teacher whose --teacher-seed"
            " could be chosen; leave it out"
        )
    if idle := [
        f"--{name.replace('_', '-')}" for name in typed if name.startswith(_IDLE_ON_LABELS)
    ]:
        print(
            f"no effect with --schedule ce, which learns from the data's labels: {', '.join(idle)}",
            file=sys.stderr,
        )
