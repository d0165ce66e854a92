"""Seeds that share one stream of examples, and one teacher's answers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.base.config import TrainingConfig
from common.nn.functional import Batch
from common.nn.mlp import MLPConfig
from common.runs.directory import RunDirectory
from common.train.engine import ScanEngine
from common.train.losses import DistillationLoss, WeightRamp
from common.train.optim import OptimConfig
from parity import distill
from parity.blocked import BlockedEngine
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.spec import SPEC
from tests.conftest import TINY_STUDENT

DATA, STEPS = ParityData(10, 2), 40


@pytest.mark.parametrize("engine", [ScanEngine, BlockedEngine])
def test_seeds_of_one_stream_differ_in_their_weights_only(engine: type[ScanEngine]) -> None:
    def train(seed: int, num_seeds: int, shared: bool, group_size: int) -> np.ndarray:
        training = TrainingConfig(
            steps=STEPS, batch_size=2, eval_every=STEPS, seed=seed, num_seeds=num_seeds
        )
        teacher = TrainConfig(
            DATA, MLPConfig(24), OptimConfig((0.1,)), TrainingConfig(STEPS, 2, STEPS, seed=5)
        )
        config = StudentConfig(
            DATA, MLPConfig(12), OptimConfig((0.1,)), training, teacher_seed=5, shared_stream=shared
        )
        params = ScanEngine(SPEC.teacher_problem(teacher)).init().params
        ours = engine(SPEC.student_problem(config, teacher), group_size)
        stacked = jax.tree.map(
            lambda leaf: jnp.concatenate([leaf] * (num_seeds // group_size)), params
        )
        return np.asarray(
            ours.advance(ours.init(), ours.place(jax.device_get(stacked)), STEPS).params["hidden"][
                "kernel"
            ]
        )

    together, grouped, apart = train(5, 2, True, 1), train(5, 2, True, 2), train(5, 2, False, 1)
    np.testing.assert_allclose(grouped, together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[1], apart[1], atol=1e-4), "seed 6 sees the examples of seed 5"
    assert not np.allclose(together[0], together[1], atol=1e-3), "from weights of its own"


def test_the_teacher_answers_once_for_all_seeds(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Group size and draws, seen from the engine that a run makes."""
    made: list[ScanEngine] = []
    advance = ScanEngine.advance

    def spied(self: ScanEngine, *args: object) -> object:
        made.append(self)
        return advance(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ScanEngine, "advance", spied)
    args = [
        *TINY_STUDENT,
        "--teacher",
        str(tiny_teacher),
        "--schedule",
        "one-shot",
        "--teacher-seed",
        "1",
        "--shared-stream",
    ]
    distill.main(["--run-dir", str(tmp_path / "s"), *args])
    assert {engine.group_size for engine in made} == {2}
    assert RunDirectory(tmp_path / "s").manifest["seeds"] == [0, 1]
    lanes = made[0].problem.lanes
    first, second = (made[0].problem.sample((), jax.random.key(lane.stream)) for lane in lanes)
    assert isinstance(first, Batch)
    np.testing.assert_array_equal(first.inputs, second.inputs)


def test_runs_of_all_lengths_share_programs_where_nothing_depends_on_them() -> None:
    """A rate or a loss that changes on the way makes other steps."""

    def programs_of(steps: int, optim: OptimConfig, loss: DistillationLoss) -> object:
        training = TrainingConfig(steps=steps, batch_size=2, eval_every=steps)
        teacher = TrainConfig(DATA, MLPConfig(24), optim, training)
        config = StudentConfig(DATA, MLPConfig(12), optim, training, loss=loss)
        problem = SPEC.student_problem(config, teacher)
        assert problem.size.steps == steps
        return problem.programs

    constant, loss = OptimConfig((0.1,)), DistillationLoss()
    cosine = OptimConfig((0.1,), decay="cosine")
    moving = DistillationLoss(teacher_weight=WeightRamp(1.0, 0.5))
    assert programs_of(10, constant, loss) is programs_of(20, constant, loss)
    assert programs_of(10, cosine, loss) is not programs_of(20, cosine, loss)
    assert programs_of(10, constant, moving) is not programs_of(20, constant, moving)
