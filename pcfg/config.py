"""Configurations of runs on masked sentences."""

from common.base.config import TrainingConfig, configuration
from common.judge.phases import PhaseConfig
from common.nn.bert import BERTConfig
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy
from common.sequence.masking import MaskingConfig
from common.teach.settings import StudentSettings
from common.train.optim import OptimConfig
from pcfg.data import PCFGData, refuse_edited

TUNED_BY: TunedBy = "accuracy"
"""What the best rate of a sweep is best at: the question is how far a budget reaches."""


@configuration
class TrainConfig:
    """A model trained on masked sentences: the teacher."""

    data: PCFGData
    model: BERTConfig
    optim: OptimConfig
    training: TrainingConfig
    masking: MaskingConfig = MaskingConfig()


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A model trained under a supervision schedule: the student.

    Labels are hard by default: the published temperature is 1e-20.
    """

    detector: PhaseConfig = PhaseConfig()


def bert(heads: int, *, layers: int = 4, dropout: float = 0.1, head_size: int = 8) -> BERTConfig:
    """The published model (paper section 4): BERT with heads of size 8."""
    return BERTConfig(heads, head_size, layers, dropout=dropout)


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig:
    """The configuration of a run of either stage.

    Raises:
        UserError: its grammar is not the one that the run learnt: the file was edited or replaced,
            or the vocabulary is another.
    """
    config = run.config(TrainConfig if run.record["stage"] == "train" else StudentConfig)
    refuse_edited(run, config.data)
    return config
