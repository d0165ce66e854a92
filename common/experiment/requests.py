"""Runs as they are asked for, by a command line or by a plan, and the runs that they become."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.base.config import to_dict, validate
from common.base.errors import UserError
from common.experiment.source import source_hash
from common.experiment.spec import RunSpec
from common.runs.directory import RunDirectory
from common.runs.lineage import MADE_FROM, SOURCE, VERSION, PlannedRun, source
from common.runs.tuning import tuned_rate
from common.teach.teacher import TeacherRun, supervise
from common.train import run as training
from common.train import schedule
from common.train.fit import Supervision
from common.train.problem import Problem
from common.train.run import TrainingRun

IDLE_ON_LABELS = ("supervision.", "loss.", "teacher_seed")
"""How the names of the settings begin that students of labels have and do not use."""


@dataclass(frozen=True)
class RunRequest:
    """A run as asked for."""

    config: Any
    """As given; a sweep may still choose its learning rate."""
    run_dir: Path
    tuned_by: Path | None = None
    """A finished sweep over learning rates, whose best one is taken."""
    teacher: Path | None = None
    """Run directory of the teacher; students of labels have none."""

    def resolved(self, spec: RunSpec) -> Any:
        """The validated configuration with the tuned learning rate where it is asked for.

        Raises:
            UserError: a field is out of range, or the sweep is missing or unfinished.
        """
        config = validate(self.config)
        if self.tuned_by is None:
            return config
        rate = tuned_rate(self.tuned_by, spec.tuned_by)
        return replace(config, optim=replace(config.optim, learning_rate=(rate,)))

    def made_from(self, config: Any) -> dict[str, Any]:
        """The sweep that chose the rate of a resolved configuration, as the manifest records it."""
        if self.tuned_by is None:
            return {}
        (rate,) = config.optim.learning_rate
        return {"tuned_by": source(self.tuned_by) | {"learning_rate": rate}}


def record_of(spec: RunSpec, stage: str, config: Any) -> dict[str, Any]:
    """What identifies a run, apart from its teacher."""
    values = to_dict(config)
    if spec.kept_apart is not None:
        del values[spec.kept_apart]
    record = {"experiment": spec.name, "stage": stage, "config": values}
    return record | dict(spec.identity(config))


def planned_run(spec: RunSpec, stage: str, config: Any) -> PlannedRun:
    """The run of a configuration, before a sweep has chosen its rate."""
    learns_from_labels = stage == "distill" and config.schedule == "ce"
    idle = IDLE_ON_LABELS if learns_from_labels else ()
    return PlannedRun(record_of(spec, stage, config), spec.tuned_by, version_of(spec), idle)


def version_of(spec: RunSpec) -> str:
    """What the code that trains declares: the version of the training loop, then the spec's."""
    return f"{training.VERSION}.{spec.version}"


def teacher_run(spec: RunSpec, request: RunRequest) -> TrainingRun:
    """The run on labels that a request asks for.

    Raises:
        UserError: a field is out of range, or the sweep is missing or unfinished.
    """
    config = request.resolved(spec)
    problem = spec.teacher_problem(config)
    paths = _paths(tuned_by=request.tuned_by) | _place(spec, config)
    record = record_of(spec, "train", config) | {"paths": paths}
    provenance = {MADE_FROM: request.made_from(config)}
    return _training_run(spec, config, request, record, problem, _on_labels(problem), provenance)


def student_run(spec: RunSpec, request: RunRequest) -> TrainingRun:
    """The student's run that a request asks for.

    Raises:
        UserError: the teacher is missing, unfinished, or was trained on other data; or there is
            one, and labels supervise.
    """
    config = spec.complete(request.resolved(spec))
    paths = _paths(teacher=request.teacher, tuned_by=request.tuned_by) | _place(spec, config)
    record = record_of(spec, "distill", config) | {"paths": paths}
    made_from = request.made_from(config)
    if config.schedule == "ce":
        if request.teacher is not None:
            raise UserError(
                "--schedule ce learns from the data's labels, which need no teacher; leave out"
                " --teacher, or choose another --schedule"
            )
        problem = spec.student_problem(config, None)
        supervision, provenance = _on_labels(problem), {MADE_FROM: made_from}
        return _training_run(spec, config, request, record, problem, supervision, provenance)
    if request.teacher is None:
        raise UserError(
            f"--schedule {config.schedule} needs --teacher, the run directory of a finished"
            f" `python -m {spec.name}.train`"
        )
    _check_stream(config)
    run = RunDirectory(request.teacher)
    teacher_config = teacher_config_of(spec, config, run)
    problem = spec.student_problem(config, teacher_config)
    teacher = TeacherRun(run, [lane.seed for lane in problem.lanes], config.teacher_seed)
    num_layers = shared_layers(spec, config, teacher_config)
    supervision = supervise(config, teacher, num_layers)
    provenance = {
        "transitions": [asdict(found) for found in teacher.transitions(config.detector)],
        MADE_FROM: made_from | {"teacher": {"path": str(request.teacher), "hash": teacher.hash}},
    }
    record |= {"teacher_hash": teacher.hash}
    if spec.is_chain:
        record |= {"chain": [teacher.hash, *run.record.get("chain", ())]}
    student = _training_run(spec, config, request, record, problem, supervision, provenance)
    return replace(student, teacher_steps=teacher.trajectory.steps())


def run_without_teacher(spec: RunSpec, request: RunRequest, teacher: Any) -> TrainingRun:
    """A student's run before its teacher is there, to be looked at: the schedule is that under a
    teacher of this configuration, of which every checkpoint is missing.

    Raises:
        UserError: the schedule reads its first checkpoint off the teacher's transition.
    """
    config = spec.complete(validate(request.config))
    if schedule.reads_transition(config.schedule, config.supervision):
        raise UserError(
            f"the teacher {request.teacher} does not exist, and {config.schedule} reads its first"
            " checkpoint off the teacher's transition; train it first"
        )
    problem = spec.student_problem(config, teacher)
    built = schedule.build(
        config.schedule,
        config.supervision,
        config.training.steps,
        teacher.training.steps,
        None,
        shared_layers(spec, config, teacher),
    )
    supervision = Supervision((built,) * len(problem.lanes), None)
    return TrainingRun(request.run_dir, {}, problem, config.training, supervision, {})


def teacher_config_of(spec: RunSpec, student: Any, run: RunDirectory) -> Any:
    """The configuration of a teacher that can teach a student.

    Raises:
        UserError: the run is of another experiment or stage, or of data that do not fit.
    """
    experiment, stage = run.record["experiment"], run.record["stage"]
    advice = f"give --teacher a finished run of `python -m {spec.name}.train`"
    if experiment != spec.name:
        raise UserError(
            f"the teacher {run.path} is a run of `python -m {experiment}.{stage}`, which has not"
            f" learnt what these students are to learn: {spec.subject}; {advice}"
        )
    if stage == "distill" and not spec.is_chain:
        raise UserError(
            f"the teacher {run.path} is itself a run of students, `python -m {experiment}.{stage}`;"
            f" {advice}"
        )
    teacher = spec.config_of(run)
    spec.check_teacher(student, teacher, run)
    return teacher


def shared_layers(spec: RunSpec, student: Any, teacher: Any) -> int:
    """How many hidden layers of student and teacher correspond.

    Raises:
        UserError: --schedule projections, and student and teacher are built differently.
    """
    task = spec.task(student)
    ours, theirs = (task.model(config.model).num_layers for config in (student, teacher))
    is_alike = type(student.model) is type(teacher.model) and ours == theirs
    if student.schedule == "projections" and not is_alike:
        raise UserError(
            "--schedule projections pairs the hidden layers of student and teacher, which must be"
            f" of one kind and depth: the student's model is {_kind(student.model)} with {ours} of"
            f" them, the teacher's {_kind(teacher.model)} with {theirs}"
        )
    return ours


def _training_run(
    spec: RunSpec,
    config: Any,
    request: RunRequest,
    record: Mapping[str, Any],
    problem: Problem,
    supervision: Supervision,
    provenance: Mapping[str, Any],
) -> TrainingRun:
    return TrainingRun(
        run_dir=request.run_dir,
        record=record,
        problem=problem,
        training=config.training,
        supervision=supervision,
        provenance={
            **spec.provenance(config),
            **provenance,
            VERSION: version_of(spec),
            SOURCE: source_hash(spec.name),
        },
        engine=spec.engine(config),
        watch=spec.watch(config),
        tells_speed=spec.tells_speed,
    )


def _on_labels(problem: Problem) -> Supervision:
    """No teacher, in any lane."""
    return Supervision((schedule.ce(problem.size.steps),) * len(problem.lanes), None)


def _check_stream(config: Any) -> None:
    if config.shared_stream and config.teacher_seed is None:
        raise UserError(
            "--shared-stream lets one teacher answer for all seeds at once; say which one with"
            " --teacher-seed"
        )


def _place(spec: RunSpec, config: Any) -> dict[str, str]:
    """Where what is kept apart lies."""
    if spec.kept_apart is None:
        return {}
    return {spec.kept_apart: str(getattr(config, spec.kept_apart).model or "")}


def _paths(**paths: Path | None) -> dict[str, str]:
    return {name: "" if path is None else str(path) for name, path in paths.items()}


def _kind(model: Any) -> str:
    return type(model).__name__.removesuffix("Config")
