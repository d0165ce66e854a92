"""`python -m pcfg.train`: train a teacher (or any model) on masked sentences of a grammar and keep its trajectory."""

from dataclasses import dataclass

from common import schedule
from common.command import TrainingCommand
from common.config import SETS_DEFAULTS, chosen_preset, describe_presets, parse, to_dict, validate
from common.errors import run_command
from common.fit import Supervision
from common.mesh import use_all_cores
from common.stage import Stage
from pcfg.config import TrainConfig, teacher_problem, work_of
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
    use_all_cores()
    preset = chosen_preset(args, PRESETS)
    text = "Train a BERT on masked sentences of a probabilistic context-free grammar: the teacher."
    text = describe_presets(text, SETS_DEFAULTS, PRESETS)
    command = parse(TrainCommand, args, prog="pcfg.train", description=text, default=TrainCommand(preset.config.teacher))
    stage = train_stage(command)
    if command.dry_run:
        stage.dry_run(())
    else:
        stage.run(validate(command.runtime))


def train_stage(command: TrainCommand) -> Stage:
    """The run that a command asks for."""
    config = command.resolved("accuracy")
    problem = teacher_problem(config)
    grammar = identity(config.data.load())
    return Stage(
        run_dir=command.run_dir,
        record={
            "experiment": "pcfg",
            "stage": "train",
            "config": to_dict(config),
            "grammar": grammar,
            "paths": {"tuned_by": str(command.tuned_by or "")},
        },
        problem=problem,
        training=config.training,
        supervision=Supervision(tuple(schedule.ce(config.training.steps) for _ in problem.lanes), None),
        provenance={},
        watch=watch_of(config),
        work=work_of(config),
    )


if __name__ == "__main__":
    run_command(main)
