"""`python -m parity.distill`: train students under a supervision schedule from a teacher's
trajectory."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
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
from common.judge.transition import Watch
from common.nn.mlp import MLPConfig
from common.runs.directory import RunDirectory
from common.runs.lineage import PlannedRun
from common.teach.distill import Distillation, check_flags, planned_student, student_record
from common.train import schedule
from common.train.fit import Supervision
from common.train.stage import Stage
from parity.command import RunCommand
from parity.config import (
    STUDENT_DEFAULTS,
    StudentConfig,
    TrainConfig,
    functional_model,
    lanes,
    make_engine,
    student_problem,
    with_chance,
    with_model,
)
from parity.data import supports_of
from parity.presets import PRESETS


@dataclass(frozen=True)
class DistillCommand(RunCommand[StudentConfig]):
    """Arguments of `python -m parity.distill`."""

    teacher: Path | None = None
    """Run directory of a finished `parity.train`; none with --schedule ce."""


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    set_up_devices()
    preset = chosen_preset(args, PRESETS)
    default = with_model(preset.config.student, args, STUDENT_DEFAULTS)
    text = (
        "Train students on sparse parity under a supervision schedule (ce, one-shot, progressive,"
        " two-shot, ...)."
    )
    text = describe_presets(text, SETS_DEFAULTS, PRESETS)
    command = parse(
        DistillCommand,
        args,
        prog="parity.distill",
        description=text,
        default=DistillCommand(default),
    )
    command.check_rate(args)
    check_flags(args, command.config)
    if (
        command.dry_run
        and command.config.schedule != "ce"
        and command.teacher is not None
        and not command.teacher.is_dir()
    ):
        plan_without_teacher(command, preset.config.teacher)
        return
    stage, available = distill_stage(command)
    if command.dry_run:
        stage.dry_run(available)
    else:
        stage.check_schedules(available)
        stage.run(validate(command.runtime))


def distill_stage(command: DistillCommand) -> tuple[Stage, tuple[int, ...]]:
    """The run that a command asks for, and the steps of the teacher's checkpoints.

    Raises:
        UserError: the teacher is missing, unfinished, or was trained on other data; or there is
            one, and labels supervise.
    """
    config = with_chance(command.resolved())
    distillation = Distillation(
        "parity",
        config,
        problem=functools.partial(student_problem, config),
        read_teacher=functools.partial(read_teacher_config, config),
        shared_layers=functools.partial(shared_layers, config),
        provenance={"supports": supports_of(config.data)},
        engine=functools.partial(make_engine, config),
        watch=Watch(detector=config.detector),
    )
    return distillation.stage(command, command.teacher)


def planned_run(args: Sequence[str]) -> PlannedRun:
    """The run that a planned command makes."""
    config = with_chance(with_flags(chosen_preset(args, PRESETS).config.student, args))
    return planned_student(student_record("parity", config), "time")


def shared_layers(config: StudentConfig, teacher: TrainConfig) -> int:
    """How many hidden layers of student and teacher correspond.

    Raises:
        UserError: --schedule projections, and student and teacher are built differently.
    """
    ours, theirs = functional_model(config).num_layers, functional_model(teacher).num_layers
    if config.schedule == "projections" and (
        type(config.model) is not type(teacher.model) or ours != theirs
    ):
        raise UserError(
            "--schedule projections pairs the hidden layers of student and teacher, which must be"
            f" of one kind and depth: the student's model is {_kind(config)} with {ours}, the"
            f" teacher's {_kind(teacher)} with {theirs}"
        )
    return ours


def _kind(config: StudentConfig | TrainConfig) -> str:
    return "an MLP" if isinstance(config.model, MLPConfig) else "a Transformer"


def read_teacher_config(student: StudentConfig, run: RunDirectory) -> TrainConfig:
    """The teacher's configuration, which must be of the same parity problem.

    Raises:
        UserError: it is of another.
    """
    path = run.path
    teacher = from_dict(TrainConfig, run.record["config"], path / "config.json")
    for name in ("d", "k", "depth"):
        mine, theirs = getattr(student.data, name), getattr(teacher.data, name)
        if mine != theirs:
            raise UserError(
                f"the teacher {path} was trained with data.{name} = {theirs}, the student asks for"
                f" data.{name} = {mine}; give --data.{name} {theirs}"
            )
    if supports_of(student.data) != supports_of(teacher.data):
        raise UserError(
            f"the teacher {path} learnt the parity of {supports_of(teacher.data)}, the student asks"
            f" for {supports_of(student.data)}; give both the same --data.support or --data.seed"
        )
    return teacher


def plan_without_teacher(command: DistillCommand, teacher: TrainConfig) -> None:
    """Dry run before the teacher exists: the schedule as it would be with the preset's teacher,
    every checkpoint missing."""
    config = command.validated()
    if config.schedule == "two-shot":
        raise UserError(
            f"the teacher {command.teacher} does not exist, and two-shot reads its first checkpoint"
            " off the teacher's transition; train it first"
        )
    last = teacher.training.steps
    built = schedule.build(
        config.schedule,
        config.supervision,
        config.training.steps,
        last,
        None,
        shared_layers(config, teacher),
    )
    num_lanes = len(lanes(config))
    problem = student_problem(config, teacher)
    Stage(
        command.run_dir, {}, problem, config.training, Supervision((built,) * num_lanes, None), {}
    ).dry_run(())


if __name__ == "__main__":
    run_command(main)
