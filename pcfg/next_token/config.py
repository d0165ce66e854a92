"""Configurations of runs on next tokens."""

from typing import Literal

from common.base.config import PositiveInt, TrainingConfig, configuration
from common.judge.phases import PhaseConfig
from common.nn.gpt2 import GPT2Config
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy
from common.teach.settings import StudentSettings
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from pcfg.data import PCFGData, refuse_edited
from pcfg.next_token.data import NextTokenConfig

TUNED_BY: TunedBy = "accuracy"
"""What the best rate of a sweep is best at: the question is how far a budget reaches."""


@configuration
class NextTokenModel(GPT2Config):
    """GPT-2 over the tokens of a grammar."""

    positions: PositiveInt | None = None
    """Learned positions (published: 1024); None: as many as the longest sentence needs."""
    vocabulary: PositiveInt | None = None
    """Token ids that it embeds and predicts; None: those of the grammar."""


@configuration
class TrainConfig:
    """A model trained on the next tokens of sentences: the teacher."""

    data: PCFGData
    model: NextTokenModel
    optim: OptimConfig
    training: TrainingConfig
    supervised: NextTokenConfig = NextTokenConfig()


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A model trained under a supervision schedule: the student.

    Labels are hard by default: the published temperature is 1e-20.
    """

    detector: PhaseConfig = PhaseConfig()
    sentences: Literal["data", "teacher"] = "data"
    """Whose sentences are learnt from. data: the grammar's, with the teacher's predictions as
    labels. teacher: those that the supervising checkpoint generates, every token and the end of
    them as they are; this needs --supervised.predicts-end and reads no --loss. Evaluation is on the
    grammar's in any case."""

    def __post_init__(self) -> None:
        if self.sentences == "data":
            return
        if self.schedule in ("ce", "projections"):
            raise ValueError(
                f"--sentences teacher: --schedule {self.schedule} does not learn from what a"
                " teacher predicts; choose one-shot, progressive, two-shot or till-saturate"
            )
        if self.loss != DistillationLoss():
            raise ValueError(
                "--sentences teacher: the generated sentences are themselves the labels; leave out"
                " --loss.*, which compares predictions on the grammar's"
            )
        if self.supervised.level is not None or not self.supervised.predicts_end:
            raise ValueError(
                "--sentences teacher: only a teacher of every token and of the end generates"
                " sentences; give --supervised.level None and --supervised.predicts-end"
            )


def gpt2(heads: int, *, layers: int = 4, dropout: float = 0.1) -> NextTokenModel:
    """The published model: GPT-2 with heads of size 8."""
    return NextTokenModel(heads, head_size=8, layers=layers, dropout=dropout)


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig:
    """The configuration of a run of either stage.

    Raises:
        UserError: its grammar is not the one that the run learnt: the file was edited or replaced.
    """
    config = run.config(TrainConfig if run.record["stage"] == "train" else StudentConfig)
    refuse_edited(run, config.data)
    return config
