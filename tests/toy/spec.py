"""Two clouds of points, a wide teacher, a narrow student, one claim."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common.base.config import Preset, TrainingConfig, configuration
from common.experiment.plan import Planner
from common.experiment.spec import ExperimentSpec, Judgement, Part
from common.judge.stats import median_over_seeds
from common.judge.transition import DetectorConfig, Watch
from common.judge.verdict import Claim, Measurement, Verdict
from common.nn.functional import Functional
from common.nn.mlp import MLPConfig, functional_mlp, mlp_flops
from common.runs.directory import finished_run
from common.teach.settings import StudentSettings
from common.train.optim import OptimConfig
from common.train.problem import Batch, Task
from common.train.speed import Work, training_work


@configuration
class TrainConfig:
    """A model of points."""

    model: MLPConfig
    optim: OptimConfig
    training: TrainingConfig
    distance: float = 3.0
    """Between the clouds' middles, in standard deviations."""


@configuration
class StudentConfig(StudentSettings, TrainConfig):
    """The same under a teacher."""

    detector: DetectorConfig = DetectorConfig()


@configuration
class Experiment:
    """Teacher and student of a preset."""

    teacher: TrainConfig
    student: StudentConfig


@dataclass(frozen=True)
class Clouds(Task):
    """4096 points; batches are drawn from the first half of them."""

    distance: float

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Points `(N, 2)` and their labels `(N,)`."""
        rng = np.random.default_rng(0)
        labels_N = rng.integers(0, 2, 4096)
        noise_Nx2 = rng.standard_normal((4096, 2))
        points_Nx2 = noise_Nx2 + self.distance * (labels_N[:, None] - 0.5)
        return points_Nx2.astype(np.float32), labels_N.astype(np.int32)

    def sample(self, data: Any, key: jax.Array, num_examples: int) -> Batch:
        """Points of the first half."""
        rows_B = jax.random.randint(key, (num_examples,), 0, len(data[0]) // 2)
        return Batch(data[0][rows_B], data[1][rows_B], jnp.ones(num_examples))

    def evaluation(self, data: Any, num_examples: int) -> Batch:
        """The last points."""
        points_Bx2, labels_B = (jnp.asarray(part)[-num_examples:] for part in data)
        return Batch(points_Bx2, labels_B, jnp.ones(num_examples))

    def model(self, config: MLPConfig) -> Functional:
        """Two coordinates to two logits."""
        return functional_mlp(config, 2, 2)

    def work(self, model: MLPConfig, teacher_model: MLPConfig | None) -> Work:
        """Of the matrix products."""
        of_teacher = 0.0 if teacher_model is None else mlp_flops(teacher_model, 2, 2)
        return training_work(mlp_flops(model, 2, 2), of_teacher, 1)


def plan(planner: Planner, experiment: Experiment) -> None:
    """A sweep over rates on seeds of its own, a teacher, a student of its final checkpoint."""
    rates = (0.03, 0.1, 0.3)
    planner.train("tune/teacher", {"optim.learning_rate": rates, "training.seed": 100})
    planner.train("teacher", {}, tuned_by="tune/teacher")
    planner.distill("student", {"schedule": "one-shot"}, teacher="teacher")


def judge(home: Path, experiment: Experiment) -> Judgement:
    """Whether the student has learnt."""
    accuracy = median_over_seeds(finished_run(home / "student").metrics()[-1]["accuracy"])
    verdict = Verdict("T", accuracy.value >= 0.9, (Measurement("accuracy", accuracy),))
    return Judgement([verdict], {})


BUDGET = TrainingConfig(steps=64, batch_size=32, eval_every=16, eval_examples=1024, num_seeds=2)
SGD = OptimConfig((0.3,))
EXPERIMENT = Experiment(
    TrainConfig(MLPConfig(64), SGD, BUDGET), StudentConfig(MLPConfig(4), SGD, BUDGET)
)
NOTE = "Clouds three deviations apart, width 64 to 4. python -m toy.experiment --preset quick."
SPEC = ExperimentSpec(
    name="toy",
    subject="two clouds",
    presets={"quick": Preset("quick", NOTE, EXPERIMENT)},
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=lambda config: Clouds(config.distance),
    watch=lambda config: Watch(),
    claims={"T": Claim("A student learns from its teacher", "Median accuracy of at least 0.9.")},
    paper=Part("claims.json", plan, judge),
)
