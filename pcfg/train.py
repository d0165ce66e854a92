"""`python -m pcfg.train`: train a teacher (or any model) on masked sentences of a grammar and keep
its trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.base.config import (
    SETS_DEFAULTS,
    chosen_preset,
    describe_presets,
    parse,
    to_dict,
    validate,
    with_flags,
)
from common.base.errors import run_command
from common.base.mesh import set_up_devices
from common.runs.lineage import MADE_FROM, PlannedRun
from common.train import schedule
from common.train.command import TrainingCommand
from common.train.fit import Supervision
from common.train.stage import Stage
from pcfg.config import TUNED_BY, TrainConfig, teacher_problem
from pcfg.data import identity
from pcfg.presets import PRESETS, PCFGPresetName
from pcfg.watch import watch_of


@dataclass(frozen=True)
class TrainCommand(TrainingCommand[TrainConfig]):
    """Arguments of `python -m pcfg.train`."""

    preset: PCFGPresetName = "quick"
    """Sets the defaults of the flags that describe the run."""


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    set_up_devices()
    preset = chosen_preset(args, PRESETS)
    text = "Train a BERT on masked sentences of a probabilistic context-free grammar: the teacher."
    text = describe_presets(text, SETS_DEFAULTS, PRESETS)
    command = parse(
        TrainCommand,
        args,
        prog="pcfg.train",
        description=text,
        default=TrainCommand(preset.config.teacher),
    )
    command.check_rate(args)
    stage = train_stage(command)
    if command.dry_run:
        stage.dry_run(())
    else:
        stage.run(validate(command.runtime))


def train_stage(command: TrainCommand) -> Stage:
    """The run that a command asks for."""
    config = command.resolved(TUNED_BY)
    problem = teacher_problem(config)
    return Stage(
        run_dir=command.run_dir,
        record=record_of(config) | {"paths": {"tuned_by": str(command.tuned_by or "")}},
        problem=problem,
        training=config.training,
        supervision=Supervision(
            tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None
        ),
        provenance={MADE_FROM: command.made_from(config)},
        watch=watch_of(config),
        tells_speed=True,
    )


def record_of(config: TrainConfig) -> dict[str, Any]:
    """What identifies a run."""
    return {
        "experiment": "pcfg",
        "stage": "train",
        "config": to_dict(config),
        "grammar": identity(config.data.load()),
    }


def planned_run(args: Sequence[str]) -> PlannedRun:
    """The run that a planned command makes."""
    return PlannedRun(
        record_of(with_flags(chosen_preset(args, PRESETS).config.teacher, args)), TUNED_BY
    )


if __name__ == "__main__":
    run_command(main)
