"""`python -m parity.train`: train a teacher (or any model) on the labels of sparse parity and keep its trajectory."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from common import schedule
from common.config import PresetName, Runtime, chosen_preset, describe_presets, parse, to_dict, validate
from common.errors import run_command
from common.fit import Supervision
from common.mesh import use_all_cores
from common.stage import Stage
from common.transition import DetectorConfig
from common.tuning import tuned_rate
from parity.config import TEACHER_DEFAULTS, Compat, ModelName, TrainConfig, as_published, make_engine, teacher_problem, with_model
from parity.data import supports_of
from parity.presets import PRESETS


@dataclass(frozen=True)
class TrainCommand:
    """Arguments of `python -m parity.train`."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    run_dir: Path = tyro.MISSING
    """Where the run is kept. The same command on a finished run does nothing, on an interrupted one goes on."""
    preset: PresetName = "quick"
    """Sets the defaults of all other flags."""
    model: ModelName | None = None
    """Instead of the preset's model: sets the defaults of --model.* and --optim.* to the published ones."""
    tuned_by: Path | None = None
    """A finished sweep over learning rates (a run with several --optim.learning-rate): take its best one."""
    compat: Compat = "none"
    """authors: follow the published code where it deviates (support drawn with replacement, 250 evaluation examples, weights of reverse KL)."""
    dry_run: bool = False
    """Print what would be done, and stop."""
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Parse, then plan or train."""
    use_all_cores()
    preset = chosen_preset(args, PRESETS)
    default = with_model(preset.config.teacher, args, TEACHER_DEFAULTS)
    text = describe_presets("Train an MLP or a Transformer on sparse parity with the data's labels: the teacher.", PRESETS)
    command = parse(TrainCommand, args, prog="parity.train", description=text, default=TrainCommand(default))
    stage = train_stage(command)
    if command.dry_run:
        stage.dry_run(())
    else:
        stage.run(validate(command.runtime))


def train_stage(command: TrainCommand) -> Stage:
    """The run that a command asks for."""
    config = validate(as_published(command.config) if command.compat == "authors" else command.config)
    if command.tuned_by is not None:
        config = replace(config, optim=replace(config.optim, learning_rate=(tuned_rate(command.tuned_by),)))
    problem = teacher_problem(config)
    return Stage(
        run_dir=command.run_dir,
        record={"experiment": "parity", "stage": "train", "config": to_dict(config), "paths": {"tuned_by": str(command.tuned_by or "")}},
        problem=problem,
        training=config.training,
        supervision=Supervision(tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None),
        provenance={"supports": supports_of(config.data)},
        engine=functools.partial(make_engine, config),
        detector=DetectorConfig(floor=1 / config.data.num_classes),
    )


if __name__ == "__main__":
    run_command(main)
