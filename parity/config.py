"""Configurations of runs on sparse parity."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import tyro
from pydantic import Discriminator, Tag

from common.base.config import TrainingConfig, configuration
from common.judge.transition import DetectorConfig
from common.nn.gpt2 import GPT2Config
from common.nn.mlp import MLPConfig
from common.teach.settings import StudentSettings
from common.train.optim import OptimConfig
from parity.data import ParityData

EngineName = Literal["auto", "scan", "blocked"]
MAX_BLOCKED_BATCH = 8
"""Where the gain was measured; larger batches are matrix products already and gain less."""


def _model_tag(value: object) -> str:
    is_transformer = (
        "heads" in value if isinstance(value, Mapping) else isinstance(value, GPT2Config)
    )
    return "(transformer)" if is_transformer else "(mlp)"


ModelConfig = tyro.conf.AvoidSubcommands[
    Annotated[
        Annotated[MLPConfig, Tag("(mlp)")] | Annotated[GPT2Config, Tag("(transformer)")],
        Discriminator(_model_tag),
    ]
]
"""A configuration says which of them it is by its fields; on the command line by --model."""


@configuration
class TrainConfig:
    """A model trained on the data's labels: the teacher."""

    data: ParityData
    model: ModelConfig
    optim: OptimConfig
    training: TrainingConfig
    engine: EngineName = "auto"
    """scan: step by step. blocked: the same steps in blocks (MLP, SGD, batches of at most 8); only
    rounding differs. auto: where possible."""

    def __post_init__(self) -> None:
        reason = why_not_blocked(self)
        if self.engine == "blocked" and reason:
            raise ValueError(f"engine = blocked trains {reason}; use --engine auto")


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """A model trained under a supervision schedule: the student."""

    detector: DetectorConfig = DetectorConfig()


ConfigT = TypeVar("ConfigT", TrainConfig, StudentConfig)


def why_not_blocked(config: TrainConfig) -> str:
    """What the blocked engine asks for and the configuration does not have; empty if nothing."""
    if not isinstance(config.model, MLPConfig):
        return "an MLP, model is a Transformer"
    if config.optim.kind != "sgd":
        return f"by SGD, optim.kind is {config.optim.kind}"
    if config.optim.clip_norm is not None:
        return "without clipping, optim.clip_norm is given"
    batch_size = config.training.batch_size
    if batch_size > MAX_BLOCKED_BATCH:
        return f"on batches of at most {MAX_BLOCKED_BATCH}, training.batch_size is {batch_size}"
    return ""
