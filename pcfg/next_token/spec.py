"""Prediction of the next token on sentences of grammars (paper, appendix; published code
PCFG_autoregressive) as an experiment."""

from common.experiment.spec import ExperimentSpec, Part
from pcfg.data import identity
from pcfg.next_token import ceiling, nonterminal, plan, probe, task, verdicts
from pcfg.next_token.config import TUNED_BY, StudentConfig, TrainConfig
from pcfg.next_token.presets import PRESETS
from pcfg.next_token.published import NextTokenFlags

SPEC = ExperimentSpec(
    name="pcfg.next_token",
    subject="the next tokens of a grammar's sentences",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    claims=verdicts.CLAIMS,
    paper=Part("claims.json", plan.plan_paper, verdicts.judge),
    probes=(probe.PROBE, ceiling.PROBE, nonterminal.PROBE),
    identity=lambda config: {"grammar": identity(config.data.load())},
    tuned_by=TUNED_BY,
    tells_speed=True,
    version=2,  # 2: till-saturate passes through the checkpoints of progressive
    flags=NextTokenFlags(),
)
