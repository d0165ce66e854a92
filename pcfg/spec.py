"""Masked prediction on sentences of grammars (paper section 4) as an experiment."""

from common.experiment.spec import ExperimentSpec, Part
from pcfg import ceiling, nonterminal, plan, probe, task, verdicts, watch
from pcfg.config import TUNED_BY, StudentConfig, TrainConfig
from pcfg.data import identity
from pcfg.presets import PRESETS

SPEC = ExperimentSpec(
    name="pcfg",
    subject="masked sentences of a grammar",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=watch.watch_of,
    check_teacher=task.check_teacher,
    claims=verdicts.CLAIMS,
    paper=Part("claims.json", plan.plan_paper, verdicts.judge),
    probes=(probe.PROBE, ceiling.PROBE, nonterminal.PROBE),
    identity=lambda config: {"grammar": identity(config.data.load())},
    tuned_by=TUNED_BY,
    tells_speed=True,
)
