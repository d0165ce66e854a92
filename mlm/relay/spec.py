"""Classification of sentences by ever smaller models: what its runs are."""

from common.experiment.spec import RunSpec
from mlm.config import TUNED_BY
from mlm.relay import task
from mlm.relay.config import NAME, StudentConfig, TrainConfig
from mlm.relay.presets import PRESETS

SPEC = RunSpec(
    name=NAME,
    subject="classes of sentences",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    identity=task.identity_of,
    provenance=task.provenance_of,
    tuned_by=TUNED_BY,
    tells_speed=True,
    is_chain=True,
)
