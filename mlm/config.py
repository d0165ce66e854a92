"""Configurations of runs on masked text."""

from collections.abc import Mapping
from typing import TypeVar

from common.base.config import (
    NonNegativeInt,
    PositiveInt,
    Seed,
    TrainingConfig,
    configuration,
)
from common.base.errors import UserError
from common.judge.phases import PhaseConfig
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy
from common.sequence.masking import CountedMaskingConfig
from common.teach.settings import StudentSettings
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from mlm.data import ReadsText, TextConfig
from mlm.model import TextModel

ConfigT = TypeVar("ConfigT", bound=ReadsText)
TUNED_BY: TunedBy = "accuracy"
"""What the best rate of a sweep is best at: the question is how far a budget reaches."""
DETECTOR = PhaseConfig(depth=0.1)
"""Of the teacher's drop: a tenth of the loss, because most of what text costs cannot be learnt by
small models (the grammars', whose loss falls to nearly nothing, lose a fifth and more)."""


@configuration
class TrainConfig:
    """A model trained on masked rows of text: the teacher, or a reference."""

    data: TextConfig
    model: TextModel
    optim: OptimConfig
    training: TrainingConfig
    masking: CountedMaskingConfig = CountedMaskingConfig()


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A model trained under a supervision schedule: the student.

    Labels are soft by default: the published temperature for text is 1.
    """

    loss: DistillationLoss = DistillationLoss(labels="soft")
    detector: PhaseConfig = DETECTOR


@configuration
class LoadedTraining:
    """What is known of how others have trained a model."""

    steps: NonNegativeInt
    """Of the last checkpoint."""
    batch_size: PositiveInt = 1
    """Sequences that an update has seen."""
    eval_examples: PositiveInt = 1024
    """Rows that every checkpoint is evaluated on here."""
    seed: Seed = 0
    """What to call its seed."""


@configuration
class LoadedConfig:
    """A model of others, and the text that it is evaluated on."""

    data: TextConfig
    model: TextModel
    training: LoadedTraining
    masking: CountedMaskingConfig = CountedMaskingConfig()


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig | LoadedConfig:
    """The configuration of a run of any stage.

    Raises:
        UserError: its corpus is not the one that the run learnt: it was prepared again since.
    """
    return recorded(run, {"train": TrainConfig, "distill": StudentConfig, "load": LoadedConfig})


def recorded(run: RunDirectory, config_types: Mapping[str, type[ConfigT]]) -> ConfigT:
    """The configuration of a run on text, by the stages' types.

    Raises:
        UserError: its corpus is not the one that the run learnt: it was prepared again since.
    """
    config = run.config(config_types[run.record["stage"]])
    if run.record["corpus"] != config.data.load().corpus.hash:
        raise UserError(
            f"{run.path} was trained on another corpus than {config.data.corpus} is now (it was"
            " prepared again since, or replaced); put the corpus back as it was"
        )
    return config
