"""Sparse parity (paper section 3) as an experiment."""

from common.experiment.spec import ExperimentSpec, Part
from parity import plan, task, verdicts
from parity.config import StudentConfig, TrainConfig
from parity.data import supports_of
from parity.leak import PROBE as LEAK
from parity.presets import PRESETS
from parity.probe import PROBE
from parity.published import ParityFlags

SPEC = ExperimentSpec(
    name="parity",
    subject="sparse parity",
    presets=PRESETS,
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=task.watch_of,
    check_teacher=task.check_teacher,
    claims=verdicts.CLAIMS,
    paper=Part("claims.json", plan.plan_paper, verdicts.judge_paper, version=2),
    beyond=Part(
        "beyond.json",
        plan.plan_beyond,
        verdicts.judge_beyond,
        applies=lambda experiment: experiment.goes_beyond,
        version=2,
    ),
    probes=(PROBE, LEAK),
    provenance=lambda config: {"supports": supports_of(config.data)},
    complete=task.with_chance,
    engine=task.engine_of,
    flags=ParityFlags(),
)
