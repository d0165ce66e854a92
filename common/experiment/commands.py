"""The commands that every experiment has: train, distill, experiment, claims, and its probes."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from common.base import processes
from common.base.config import (
    IS_EXPERIMENT,
    SETS_DEFAULTS,
    PresetName,
    Runtime,
    chosen_preset,
    describe_presets,
    flags_of,
    parse,
    validate,
)
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.experiment.batch import write_asked
from common.experiment.plan import plan_preset, print_plan, refuse_stale, run_stages
from common.experiment.requests import (
    IDLE_ON_LABELS,
    RunRequest,
    run_without_teacher,
    student_run,
    teacher_run,
)
from common.experiment.spec import ExperimentSpec, Probe, RunSpec

ConfigT = TypeVar("ConfigT")
FlagsT = TypeVar("FlagsT")


@dataclass(frozen=True)
class TrainCommand(Generic[ConfigT, FlagsT]):
    """Arguments of a command that trains."""

    config: Annotated[ConfigT, tyro.conf.arg(name="")]
    flags: Annotated[FlagsT, tyro.conf.arg(name=""), tyro.conf.SuppressFixed]
    preset: PresetName = "quick"
    run_dir: Path = tyro.MISSING
    """Where the run is kept. The same command on a finished run does nothing, on an interrupted one
    goes on."""
    tuned_by: Path | None = None
    """A finished sweep over learning rates (a run with several --optim.learning-rate): take its
    best one."""
    dry_run: bool = False
    """Print what would be done (which teacher checkpoint supervises which student steps, and which
    are missing), and stop."""
    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class DistillCommand(TrainCommand[ConfigT, FlagsT]):
    """Arguments of a command that trains students."""

    teacher: Path | None = None
    """Run directory of a finished teacher; none with --schedule ce."""


@dataclass(frozen=True)
class ExperimentCommand:
    """Arguments of a command that runs an experiment."""

    preset: PresetName = "quick"
    root: Path = Path("runs")
    """Where runs are kept."""
    beyond: bool = False
    """Run what the paper does not have as well."""
    dry_run: bool = False
    """Print every command, whether it has been done or is stale, and why, and what the rest costs
    on this machine, and stop."""
    costs: Path | None = None
    """With --dry-run: the file in which it keeps what a batch system is to be asked for each stage,
    if it runs on machines like this one."""
    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class ClaimsCommand:
    """Arguments of a command that judges claims."""

    preset: PresetName = "quick"
    root: Path = Path("runs")
    """Where runs are kept."""
    beyond: bool = False
    """Judge what the paper does not have instead, from the runs of `experiment --beyond`."""


@dataclass(frozen=True)
class ProbeCommand(Generic[ConfigT]):
    """Arguments of a command that probes a run."""

    run_dir: tyro.conf.Positional[Path]
    """A finished run."""
    settings: tyro.conf.OmitArgPrefixes[ConfigT]


def train(spec: RunSpec, args: list[str]) -> None:
    """Train a teacher, or any model, on the data's labels, or say what would be done."""
    set_up_devices()
    command = train_command(spec, args)
    if not command.dry_run:
        processes.join()
    run = teacher_run(spec, request_of(command))
    if command.dry_run:
        run.dry_run()
    else:
        run.run(validate(command.runtime))


def distill(spec: RunSpec, args: list[str]) -> None:
    """Train students under a supervision schedule, or say what would be done."""
    set_up_devices()
    command = distill_command(spec, args)
    if not command.dry_run:
        processes.join()
    request, is_taught = request_of(command), command.config.schedule != "ce"
    is_missing = command.teacher is not None and not command.teacher.is_dir()
    if command.dry_run and is_taught and is_missing:
        expected = spec.presets[command.preset].config.teacher
        run_without_teacher(spec, request, expected).dry_run()
        return
    run = student_run(spec, request)
    if command.dry_run:
        run.dry_run()
    else:
        run.run(validate(command.runtime))


def experiment(spec: ExperimentSpec, args: list[str]) -> None:
    """Run the stages of a preset that have not been run yet, or print all of them."""
    preset = chosen_preset(args, spec.presets)
    text = (
        f"Run a whole experiment on {spec.subject}: tuning, teacher, students, probes, claims."
        " Start it again to go on."
    )
    text = describe_presets(text, IS_EXPERIMENT, spec.presets)
    command = parse(ExperimentCommand, args, prog=f"{spec.name}.experiment", description=text)
    _check_beyond(spec, preset.name, command.beyond)
    set_up_devices()
    if not command.dry_run:
        processes.join()
    stages = plan_preset(spec, preset.name, command.root, beyond=command.beyond)
    if command.dry_run:
        costs = print_plan(stages)
        if command.costs is not None:
            write_asked(command.costs, costs)
        return
    if command.costs is not None:
        raise UserError("--costs keeps what --dry-run finds out; give both, or neither")
    if not all(stage.is_done() for stage in stages):
        spec.check_sources(preset.config)
    run_stages(stages, command.runtime)


def claims(spec: ExperimentSpec, args: list[str]) -> None:
    """Judge the claims of a preset from its run files, by criteria fixed before the runs."""
    preset = chosen_preset(args, spec.presets)
    text = f"Judge the claims of an experiment on {spec.subject} from its run files."
    text = describe_presets(text, IS_EXPERIMENT, spec.presets)
    command = parse(ClaimsCommand, args, prog=f"{spec.name}.claims", description=text)
    _check_beyond(spec, preset.name, command.beyond)
    processes.refuse_several()
    stages = plan_preset(spec, preset.name, command.root, beyond=command.beyond)
    refuse_stale(stages)
    stages[-1].run(Runtime())


def probe(kind: Probe, args: list[str]) -> None:
    """Measure the checkpoints of a run."""
    set_up_devices()
    command_type = ProbeCommand[type(kind.settings)]
    command = parse(command_type, args, prog=kind.module, description=kind.about)
    processes.refuse_several()
    kind.measure(command.run_dir, validate(command.settings))


def command(spec: RunSpec, stage: str, module: str) -> Callable[[list[str]], None]:
    """The `main` of `python -m EXPERIMENT.STAGE`, a module of these two lines:

        from EXPERIMENT.spec import SPEC
        main = command(SPEC, "train", __name__)

    Args:
        spec: whose command.
        stage: train or distill; of an experiment, experiment or claims too.
        module: the module's own `__name__`: what was started from a shell runs at once.
    """
    mains: dict[str, Callable[[list[str]], None]] = {
        "train": functools.partial(train, spec),
        "distill": functools.partial(distill, spec),
    }
    if isinstance(spec, ExperimentSpec):
        mains |= {
            "experiment": functools.partial(experiment, spec),
            "claims": functools.partial(claims, spec),
        }

    def main(args: list[str]) -> None:
        _check_name(spec, stage)
        mains[stage](args)

    return _started(main, module)


def probe_command(kind: Probe, module: str) -> Callable[[list[str]], None]:
    """The same of the module of a probe."""
    return _started(functools.partial(probe, kind), module)


def _check_name(spec: RunSpec, stage: str) -> None:
    """Refuse an experiment whose name is not that of its package: its plan would print commands
    that are not there."""
    wanted = f"{spec.name}.{stage}"
    try:
        is_there = importlib.util.find_spec(wanted) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise UserError(
            f"the SPEC of this experiment has the name {spec.name}, but there is no module {wanted}"
            " on Python's path; the name is to be that of the package"
        )


def _started(main: Callable[[list[str]], None], module: str) -> Callable[[list[str]], None]:
    if module == "__main__":
        run_command(main)
    return main


def train_command(spec: RunSpec, args: list[str]) -> TrainCommand[Any, Any]:
    """What was typed after `train`.

    Raises:
        UserError: an unknown preset, a value out of range, or flags that contradict each other.
    """
    preset = chosen_preset(args, spec.presets)
    text = f"Train a model on {spec.subject} with the data's labels: the teacher."
    default = TrainCommand(spec.flags.defaults(preset.config.teacher, args), spec.flags)
    return _parse(spec, TrainCommand, spec.train_config, args, "train", text, default)


def distill_command(spec: RunSpec, args: list[str]) -> DistillCommand[Any, Any]:
    """What was typed after `distill`; raises as `train_command` does."""
    preset = chosen_preset(args, spec.presets)
    text = (
        f"Train students on {spec.subject} under a supervision schedule (ce, one-shot, progressive,"
        " two-shot, ...)."
    )
    default = DistillCommand(spec.flags.defaults(preset.config.student, args), spec.flags)
    command = _parse(spec, DistillCommand, spec.student_config, args, "distill", text, default)
    check_flags_on_labels(args, command.config)
    return command


def request_of(command: TrainCommand[Any, Any]) -> RunRequest:
    """The run that a command asks for."""
    config = command.flags.applied_to(validate(command.config))
    teacher = command.teacher if isinstance(command, DistillCommand) else None
    return RunRequest(config, command.run_dir, command.tuned_by, teacher)


def check_flags_on_labels(args: Sequence[str], config: Any) -> None:
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
    idle = [f"--{name.replace('_', '-')}" for name in typed if name.startswith(IDLE_ON_LABELS)]
    if idle:
        print(
            f"no effect with --schedule ce, which learns from the data's labels: {', '.join(idle)}",
            file=sys.stderr,
        )


def _parse(
    spec: RunSpec,
    command_type: Any,
    config_type: type,
    args: list[str],
    stage: str,
    text: str,
    default: Any,
) -> Any:
    """The command that was typed.

    Raises:
        UserError: two answers to the question of the learning rate.
    """
    command = parse(
        command_type[config_type, type(spec.flags)],
        args,
        prog=f"{spec.name}.{stage}",
        description=describe_presets(text, SETS_DEFAULTS, spec.presets),
        default=default,
    )
    if command.tuned_by is not None and "optim.learning_rate" in flags_of(args):
        raise UserError(
            "--tuned-by takes the learning rate that did best in a sweep; leave out"
            " --optim.learning-rate, or --tuned-by"
        )
    return command


def _check_beyond(spec: ExperimentSpec, preset: str, beyond: bool) -> None:
    if beyond and not spec.goes_beyond(spec.presets[preset].config):
        raise UserError(f"--beyond: the preset {preset} has no runs that the paper does not have")
