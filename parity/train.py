"""`python -m parity.train`: train a teacher (or any model) on the labels of sparse parity and keep
its trajectory."""

import functools
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
from common.judge.transition import DetectorConfig, Watch
from common.runs.lineage import MADE_FROM, PlannedRun
from common.train import schedule
from common.train.fit import Supervision
from common.train.stage import Stage
from parity.command import RunCommand
from parity.config import TEACHER_DEFAULTS, TrainConfig, make_engine, teacher_problem, with_model
from parity.data import supports_of
from parity.presets import PRESETS


@dataclass(frozen=True)
class TrainCommand(RunCommand[TrainConfig]):
    """Arguments of `python -m parity.train`."""


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    set_up_devices()
    preset = chosen_preset(args, PRESETS)
    default = with_model(preset.config.teacher, args, TEACHER_DEFAULTS)
    text = "Train an MLP or a Transformer on sparse parity with the data's labels: the teacher."
    text = describe_presets(text, SETS_DEFAULTS, PRESETS)
    command = parse(
        TrainCommand, args, prog="parity.train", description=text, default=TrainCommand(default)
    )
    command.check_rate(args)
    stage = train_stage(command)
    if command.dry_run:
        stage.dry_run(())
    else:
        stage.run(validate(command.runtime))


def train_stage(command: TrainCommand) -> Stage:
    """The run that a command asks for."""
    config = command.resolved()
    problem = teacher_problem(config)
    return Stage(
        run_dir=command.run_dir,
        record=record_of(config) | {"paths": {"tuned_by": str(command.tuned_by or "")}},
        problem=problem,
        training=config.training,
        supervision=Supervision(
            tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None
        ),
        provenance={"supports": supports_of(config.data), MADE_FROM: command.made_from(config)},
        engine=functools.partial(make_engine, config),
        watch=Watch(detector=DetectorConfig(floor=1 / config.data.num_classes)),
    )


def record_of(config: TrainConfig) -> dict[str, Any]:
    """What identifies a run."""
    return {"experiment": "parity", "stage": "train", "config": to_dict(config)}


def planned_run(args: Sequence[str]) -> PlannedRun:
    """The run that a planned command makes."""
    return PlannedRun(
        record_of(with_flags(chosen_preset(args, PRESETS).config.teacher, args)), "time"
    )


if __name__ == "__main__":
    run_command(main)
