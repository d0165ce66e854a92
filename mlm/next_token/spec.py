"""Prediction of the next token of real text: what its runs are."""

from common.experiment.spec import RunSpec
from mlm.config import TUNED_BY
from mlm.next_token import task
from mlm.next_token.config import NAME, LoadedConfig, StudentConfig, TrainConfig
from mlm.next_token.presets import PRESETS
from mlm.task import identity_of, provenance_of

SPEC = RunSpec(
    name=NAME,
    subject="the next tokens of real text",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=lambda config: task.task_of(config.data),
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    identity=identity_of,
    provenance=provenance_of,
    tuned_by=TUNED_BY,
    tells_speed=True,
    loaded_config=LoadedConfig,
)
