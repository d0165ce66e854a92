"""`python -m pcfg.distill`: train students under a supervision schedule from a teacher's
trajectory."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.base.config import (
    SETS_DEFAULTS,
    chosen_preset,
    describe_presets,
    from_dict,
    parse,
    validate,
    with_flags,
)
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.runs.directory import RunDirectory
from common.runs.lineage import PlannedRun
from common.teach.distill import Distillation, check_flags, planned_student, student_record
from common.train.command import TrainingCommand
from common.train.stage import Stage
from pcfg.config import TUNED_BY, StudentConfig, TrainConfig, student_problem
from pcfg.data import identity
from pcfg.presets import PRESETS, PCFGPresetName
from pcfg.watch import watch_of


@dataclass(frozen=True)
class DistillCommand(TrainingCommand[StudentConfig]):
    """Arguments of `python -m pcfg.distill`."""

    preset: PCFGPresetName = "quick"
    """Sets the defaults of the flags that describe the run."""
    teacher: Path | None = None
    """Run directory of a finished `pcfg.train`; none with --schedule ce."""


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    set_up_devices()
    preset = chosen_preset(args, PRESETS)
    text = (
        "Train students on masked sentences under a supervision schedule (ce, one-shot,"
        " progressive, two-shot, ...)."
    )
    text = describe_presets(text, SETS_DEFAULTS, PRESETS)
    command = parse(
        DistillCommand,
        args,
        prog="pcfg.distill",
        description=text,
        default=DistillCommand(preset.config.student),
    )
    command.check_rate(args)
    check_flags(args, command.config)
    stage, available = distill_stage(command)
    if command.dry_run:
        stage.dry_run(available)
    else:
        stage.check_schedules(available)
        stage.run(validate(command.runtime))


def distill_stage(command: DistillCommand) -> tuple[Stage, tuple[int, ...]]:
    """The run that a command asks for, and the steps of the teacher's checkpoints.

    Raises:
        UserError: the teacher is missing, unfinished, or was trained on other sentences; or there
            is one, and labels supervise.
    """
    config = command.resolved(TUNED_BY)
    distillation = Distillation(
        "pcfg",
        config,
        problem=functools.partial(student_problem, config),
        read_teacher=functools.partial(read_teacher_config, config),
        shared_layers=lambda _: config.model.layers,
        identity={"grammar": identity(config.data.load())},
        watch=watch_of(config),
        tells_speed=True,
    )
    return distillation.stage(command, command.teacher)


def planned_run(args: Sequence[str]) -> PlannedRun:
    """The run that a planned command makes."""
    config = with_flags(chosen_preset(args, PRESETS).config.student, args)
    return planned_student(
        student_record("pcfg", config) | {"grammar": identity(config.data.load())}, TUNED_BY
    )


def read_teacher_config(student: StudentConfig, run: RunDirectory) -> TrainConfig:
    """The teacher's configuration, which must be of the same sentences, masked in the same way.

    Raises:
        UserError: another grammar or masking, or layers that do not correspond.
    """
    teacher = from_dict(TrainConfig, run.record["config"], run.path / "config.json")
    if run.record["grammar"] != identity(student.data.load()):
        theirs, ours = (
            f"--data.grammar {data.grammar} --data.start-level {data.start_level}"
            for data in (teacher.data, student.data)
        )
        raise UserError(
            f"the teacher {run.path} learnt other sentences ({theirs}) than the student is to see"
            f" ({ours}); give both the same grammar"
        )
    for name, theirs in asdict(teacher.masking).items():
        if theirs != (ours := getattr(student.masking, name)):
            flag = f"--masking.{name.replace('_', '-')}"
            raise UserError(
                f"the teacher {run.path} learnt with {flag} {theirs}, the student is to learn with"
                f" {ours}; give both the same {flag}, so that the teacher is asked about inputs of"
                " the kind it knows"
            )
    if student.schedule == "projections" and student.model.layers != teacher.model.layers:
        raise UserError(
            "--schedule projections pairs the hidden layers of student and teacher: the student"
            f" has {student.model.layers}, the teacher {teacher.model.layers}"
        )
    return teacher


if __name__ == "__main__":
    run_command(main)
