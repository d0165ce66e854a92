"""`python -m pcfg.distill`: train students under a supervision schedule from a teacher's trajectory."""

from dataclasses import asdict, dataclass
from pathlib import Path

from common import schedule
from common.command import TrainingCommand
from common.config import chosen_preset, describe_presets, from_dict, parse, to_dict, validate
from common.errors import UserError, run_command
from common.fit import Supervision
from common.mesh import use_all_cores
from common.runs import RunDirectory
from common.stage import Stage
from common.teacher import TeacherRun, supervise
from pcfg.config import StudentConfig, TrainConfig, student_problem, work_of
from pcfg.data import identity
from pcfg.presets import PRESETS, PCFGPresetName


@dataclass(frozen=True)
class DistillCommand(TrainingCommand[StudentConfig]):
    """Arguments of `python -m pcfg.distill`."""

    preset: PCFGPresetName = "quick"
    """Sets the defaults of all other flags."""
    teacher: Path | None = None
    """Run directory of a finished `pcfg.train`; not needed by --schedule ce."""


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    use_all_cores()
    preset = chosen_preset(args, PRESETS)
    text = describe_presets("Train students on masked sentences under a supervision schedule (ce, one-shot, progressive, two-shot, ...).", PRESETS)
    command = parse(DistillCommand, args, prog="pcfg.distill", description=text, default=DistillCommand(preset.config.student))
    stage, available = distill_stage(command)
    if command.dry_run:
        stage.dry_run(available)
    else:
        stage.check_schedules(available)
        stage.run(validate(command.runtime))


def distill_stage(command: DistillCommand) -> tuple[Stage, tuple[int, ...]]:
    """The run that a command asks for, and the steps of the teacher's checkpoints.

    Raises:
        UserError: the teacher is missing, unfinished, or was trained on other sentences.
    """
    config = command.resolved("accuracy")
    paths = {"teacher": str(command.teacher or ""), "tuned_by": str(command.tuned_by or "")}
    record = {"experiment": "pcfg", "stage": "distill", "config": to_dict(config), "grammar": identity(config.data.load())}
    if config.schedule == "ce":
        problem = student_problem(config, None)
        supervision = Supervision(tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None)
        return Stage(command.run_dir, record | {"paths": paths}, problem, config.training, supervision, {}, work=work_of(config)), ()
    if command.teacher is None:
        raise UserError(f"--schedule {config.schedule} needs --teacher, the run directory of a finished `python -m pcfg.train`")
    teacher_config = read_teacher_config(command.teacher, config)
    problem = student_problem(config, teacher_config)
    teacher = TeacherRun(command.teacher, [lane.seed for lane in problem.lanes], config.teacher_seed)
    supervision = supervise(config, teacher, config.model.layers)
    provenance = {"transitions": [asdict(found) for found in teacher.transitions(config.detector)]}
    record |= {"teacher_hash": teacher.hash, "paths": paths}
    stage = Stage(command.run_dir, record, problem, config.training, supervision, provenance, work=work_of(config, teacher_config))
    return stage, teacher.trajectory.steps()


def read_teacher_config(path: Path, student: StudentConfig) -> TrainConfig:
    """The teacher's configuration, which must be of the same sentences.

    Raises:
        UserError: another kind of run, another grammar, or layers that do not correspond.
    """
    run = RunDirectory(path)
    if (run.record["experiment"], run.record["stage"]) != ("pcfg", "train"):
        raise UserError(f"{path} is a run of {run.record['experiment']}.{run.record['stage']}; a teacher comes from pcfg.train")
    teacher = from_dict(TrainConfig, run.record["config"], path / "config.json")
    if run.record["grammar"] != identity(student.data.load()):
        theirs, ours = (f"--data.grammar {data.grammar} --data.start-level {data.start_level}" for data in (teacher.data, student.data))
        raise UserError(f"the teacher {path} learnt other sentences ({theirs}) than the student is to see ({ours}); give both the same grammar")
    if student.schedule == "projections" and student.model.layers != teacher.model.layers:
        raise UserError(
            f"--schedule projections pairs the hidden layers of student and teacher: the student has {student.model.layers}, the teacher"
            f" {teacher.model.layers}"
        )
    return teacher


if __name__ == "__main__":
    run_command(main)
