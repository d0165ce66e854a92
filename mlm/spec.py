"""Masked prediction on real text (paper section 6, figure `curr_real`) as an experiment."""

from common.experiment.spec import ExperimentSpec, Part
from mlm import plan, probe, task, unigram, verdicts
from mlm.config import TUNED_BY, LoadedConfig, StudentConfig, TrainConfig
from mlm.presets import PRESETS

SPEC = ExperimentSpec(
    name="mlm",
    subject="masked words of real text",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=lambda config: task.task_of(config.data, config.masking),
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    claims=verdicts.CLAIMS,
    paper=Part("claims.json", plan.plan_paper, verdicts.judge),
    probes=(probe.PROBE, unigram.PROBE),
    identity=task.identity_of,
    provenance=task.provenance_of,
    tuned_by=TUNED_BY,
    tells_speed=True,
    loaded_config=LoadedConfig,
)
