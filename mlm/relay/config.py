"""Configurations of runs on labelled sentences."""

from common.base.config import TrainingConfig, configuration
from common.judge.gain import HalfGainConfig
from common.runs.directory import RunDirectory
from common.teach.settings import StudentSettings
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from mlm.relay.data import SentenceConfig
from mlm.relay.model import ClassifierModel
from mlm.relay.start import StartConfig

NAME = "mlm.relay"
"""Of the runs."""


@configuration
class TrainConfig:
    """A classifier trained on labels."""

    data: SentenceConfig
    model: ClassifierModel
    optim: OptimConfig
    training: TrainingConfig
    start: StartConfig = StartConfig()

    def __post_init__(self) -> None:
        if self.model.head_only and self.optim.weight_decay is not None:
            raise ValueError(
                "optim.weight_decay would shrink the body that --model.head-only leaves as it is;"
                " leave out one of them"
            )


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A classifier trained under another one.

    As published, the teacher's probabilities at temperature 1 alone are learnt.
    """

    loss: DistillationLoss = DistillationLoss(labels="soft")
    detector: HalfGainConfig = HalfGainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.head_only and self.schedule == "projections":
            raise ValueError(
                "--schedule projections teaches hidden layers, which --model.head-only leaves as"
                " they are; leave out one of them"
            )


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig:
    """The configuration of a run of either stage."""
    return run.config(TrainConfig if run.record["stage"] == "train" else StudentConfig)
