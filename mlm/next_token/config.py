"""Configurations of runs on the next tokens of text."""

from common.base.config import TrainingConfig, configuration
from common.judge.phases import PhaseConfig
from common.runs.directory import RunDirectory
from common.teach.settings import StudentSettings
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from mlm.config import DETECTOR, LoadedTraining, recorded
from mlm.next_token.data import NextTextConfig
from mlm.next_token.model import NextTextModel

NAME = "mlm.next_token"
"""Of the runs."""


@configuration
class TrainConfig:
    """A model trained on the next tokens of text: the teacher."""

    data: NextTextConfig
    model: NextTextModel
    optim: OptimConfig
    training: TrainingConfig


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A model trained under a supervision schedule: the student.

    Labels are soft by default, as of masked text.
    """

    loss: DistillationLoss = DistillationLoss(labels="soft")
    detector: PhaseConfig = DETECTOR


@configuration
class LoadedConfig:
    """A model of others, and the text that it is evaluated on."""

    data: NextTextConfig
    model: NextTextModel
    training: LoadedTraining


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig | LoadedConfig:
    """The configuration of a run of any stage.

    Raises:
        UserError: its corpus is not the one that the run learnt: it was prepared again since.
    """
    return recorded(run, {"train": TrainConfig, "distill": StudentConfig, "load": LoadedConfig})
