"""Classification of sentences by ever smaller models (Mirzadeh et al. 2019) as an experiment."""

from common.experiment.spec import ExperimentSpec, Part
from mlm.config import TUNED_BY
from mlm.relay import plan, probe, task, verdicts
from mlm.relay.config import NAME, StudentConfig, TrainConfig
from mlm.relay.presets import PRESETS

SPEC = ExperimentSpec(
    name=NAME,
    subject="classes of sentences",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    claims=verdicts.CLAIMS,
    paper=Part("claims.json", plan.plan_paper, verdicts.judge),
    probes=(probe.PROBE,),
    check_sources=plan.check_sources,
    identity=task.identity_of,
    provenance=task.provenance_of,
    tuned_by=TUNED_BY,
    tells_speed=True,
    kept_apart="start",
    is_chain=True,
)
