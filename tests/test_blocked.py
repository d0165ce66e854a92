"""Blocked SGD is sequential SGD: against float64 numpy, against the scan engine, and through whole
runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.base.config import TrainingConfig
from common.base.keys import seed_key
from common.nn.functional import Functional
from common.nn.mlp import MLPConfig, functional_mlp
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train.engine import Problem, ScanEngine
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig, learning_rate_shape
from parity import distill, train
from parity.blocked import BlockedEngine
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.spec import SPEC
from parity.task import engine_of
from tests.conftest import TINY, TINY_STUDENT, TINY_TEACHER

DATA = ParityData(d=20, k=3)


def make_problem(
    labels, width, batch_size, steps, rates=(0.05,), decay: Any = "cosine", num_seeds=1
) -> Problem:
    training = TrainingConfig(steps, batch_size, steps, eval_examples=64, num_seeds=num_seeds)
    optim = OptimConfig(rates, decay=decay)
    teacher = TrainConfig(DATA, MLPConfig(48), optim, training)
    if labels == "data":
        return SPEC.teacher_problem(replace(teacher, model=MLPConfig(width)))
    loss = DistillationLoss(labels=labels, temperature=2.0)
    return SPEC.student_problem(
        StudentConfig(DATA, MLPConfig(width), optim, training, loss=loss), teacher
    )


def make_teacher(num_lanes):
    """Saturated enough that its argmax does not hang on rounding; leaves with a lane axis."""
    params = functional_mlp(MLPConfig(48), DATA.d, 2).init(jax.random.key(9))
    return jax.tree.map(lambda leaf: jnp.stack([5 * leaf] * num_lanes), params)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def forward(params, x):
    return (
        np.maximum(x @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
        @ params["output"]["kernel"]
        + params["output"]["bias"]
    )


def sequential_sgd(problem, labels, params, teacher, rates):
    """Step after step, in float64 and in plain numpy."""
    params, teacher = (
        jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), tree)
        for tree in (params, teacher)
    )
    hidden, output = params["hidden"], params["output"]
    key = seed_key(0, f"{problem.role}/train-data")
    data = problem.task.data()

    def batch_of(step):
        return problem.sample(data, jax.random.fold_in(key, step))

    batches = jax.jit(jax.vmap(batch_of))(jnp.arange(len(rates)))
    losses = []
    for x, y, rate in zip(
        np.asarray(batches.inputs, np.float64), np.asarray(batches.labels), rates, strict=True
    ):
        z = forward(teacher, x)
        target = {"data": np.eye(2)[y], "hard": np.eye(2)[z.argmax(-1)], "soft": softmax(z / 2.0)}[
            labels
        ]
        pre = x @ hidden["kernel"] + hidden["bias"]
        h = np.maximum(pre, 0)
        p = softmax(h @ output["kernel"] + output["bias"])
        losses.append(-(target * np.log(p)).sum(-1).mean())
        grad = (p - target) / len(y)
        delta = (grad @ output["kernel"].T) * (pre > 0)
        output["kernel"] -= rate * h.T @ grad
        output["bias"] -= rate * grad.sum(0)
        hidden["kernel"] -= rate * x.T @ delta
        hidden["bias"] -= rate * delta.sum(0)
    return params, np.asarray(losses)


def relative_errors(ours, theirs):
    return jax.tree.leaves(
        jax.tree.map(
            lambda a, b: float(np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)), ours, theirs
        )
    )


@pytest.mark.parametrize(
    ("labels", "width", "batch_size", "block_rows", "decay"),
    [
        ("data", 32, 1, 32, "constant"),
        ("data", 500, 1, 32, "cosine"),
        ("data", 100, 1, 7, "cosine"),
        ("data", 100, 3, 32, "cosine"),
        ("data", 33, 4, 2, "constant"),  # a step is larger than a block
        ("hard", 100, 1, 64, "cosine"),
        ("hard", 64, 8, 32, "cosine"),
        ("soft", 100, 1, 16, "cosine"),
        ("soft", 50, 2, 32, "constant"),
    ],
)
def test_blocked_sgd_is_sequential_sgd(labels, width, batch_size, block_rows, decay) -> None:
    """2,001 steps in float32 blocks, cut where blocks do not end: every parameter within 1e-5 of
    float64."""
    steps, chunk = 2001, 667  # 23 x 29: no block here divides it
    problem = make_problem(labels, width, batch_size, steps, decay=decay)
    engine = BlockedEngine(problem, block_rows=block_rows)
    state, teacher = engine.init(), make_teacher(1)
    shape = learning_rate_shape(OptimConfig((0.05,), decay=decay), steps)
    rates = [0.05 * float(np.asarray(shape(step))) for step in range(steps)]
    expected, losses = sequential_sgd(
        problem, labels, jax.device_get(state.params), jax.device_get(teacher), rates
    )
    before = jax.device_get(state.params)
    for _ in range(steps // chunk):
        state = engine.advance(state, None if labels == "data" else teacher, chunk)
    ours = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))
    assert max(relative_errors(ours, expected)) < 1e-5
    assert (
        min(relative_errors(jax.tree.map(lambda leaf: leaf[0], before), expected)) > 1e-2
    )  # the steps led somewhere
    assert int(state.step[0]) == int(state.loss_count[0]) == steps
    assert {int(leaf[0]) for leaf in jax.tree.leaves(state.opt_state)} == {steps}
    assert float(state.loss_sum[0]) == pytest.approx(losses.sum(), rel=1e-4)
    assert int(state.diverged_at[0]) == 0


@pytest.mark.parametrize("group_size", [1, 2])
def test_states_of_both_engines_are_interchangeable(group_size) -> None:
    """Lanes of two seeds and two rates, taught: blocked after scan ends where scan alone ends, leaf
    by leaf."""
    problem = make_problem("soft", 40, 1, 200, rates=(0.02, 0.05), num_seeds=2)
    scan, blocked, teacher = (
        ScanEngine(problem, group_size),
        BlockedEngine(problem, group_size, block_rows=16),
        make_teacher(4 // group_size),
    )
    expected = scan.advance(scan.advance(scan.init(), teacher, 57), teacher, 57)
    state = blocked.advance(scan.advance(blocked.init(), teacher, 57), teacher, 57)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert ours.sharding == theirs.sharding
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    _, metrics = blocked.record(state)
    _, expected_metrics = scan.record(expected)
    np.testing.assert_allclose(metrics["train_loss"], expected_metrics["train_loss"], rtol=1e-5)


def test_divergence_is_found_at_its_step() -> None:
    problem = make_problem("data", 16, 1, 400, rates=(1e5, 0.01), decay="constant")
    blocked, scan = BlockedEngine(problem), ScanEngine(problem)
    found = np.asarray(blocked.advance(blocked.init(), None, 400).diverged_at)
    assert found[0] > 0
    assert found[1] == 0
    np.testing.assert_array_equal(found, scan.advance(scan.init(), None, 400).diverged_at)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adam(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_schedule(lambda _: -0.1)),
    ],
    ids=["momentum", "adam", "clipping"],
)
def test_other_optimisers_are_refused(optimizer) -> None:
    problem = replace(make_problem("data", 8, 1, 10), make_optimizer=lambda _: optimizer)
    with pytest.raises(ValueError, match="plain SGD"):
        BlockedEngine(problem)


def test_other_models_are_refused() -> None:
    linear = Functional(
        lambda key: {"output": {"kernel": jax.random.normal(key, (20, 2)), "bias": jnp.zeros(2)}},
        lambda params, inputs, key=None: inputs,
        lambda params, inputs, layer: inputs,
        1,
    )
    with pytest.raises(ValueError, match="two-layer MLP"):
        BlockedEngine(replace(make_problem("data", 8, 1, 10), model=linear))


def test_choice_of_engine(refused, tmp_path: Path) -> None:
    def chosen(engine, batch_size):
        config = TrainConfig(
            DATA,
            MLPConfig(8),
            OptimConfig((0.1,)),
            TrainingConfig(10, batch_size, 10, 64),
            engine=engine,
        )
        return type(engine_of(config)(SPEC.teacher_problem(config)))

    assert chosen("auto", 1) is chosen("blocked", 8) is BlockedEngine
    assert chosen("auto", 32) is chosen("scan", 1) is ScanEngine
    assert "at most 8" in refused(
        train.main, "--run-dir", tmp_path / "run", *TINY, "--engine", "blocked"
    )


def test_runs_of_both_engines_agree(tmp_path: Path) -> None:
    """Teacher and progressive student at batch size 1, with evaluations, checkpoints and teacher
    changes off the grid of blocks."""
    short = (
        "--training.batch-size",
        "1",
        "--training.steps",
        "120",
        "--training.eval-every",
        "40",
        "--optim.learning-rate",
        "0.05",
    )
    for engine in ("scan", "blocked"):
        teacher, student = tmp_path / f"teacher-{engine}", tmp_path / f"student-{engine}"
        grid = ("--training.checkpoint-every", "60", "--engine", engine)
        train.main(["--run-dir", str(teacher), *TINY_TEACHER, *short, *grid])
        distill.main(
            [
                "--run-dir",
                str(student),
                "--teacher",
                str(teacher),
                *TINY_STUDENT,
                *short,
                *grid,
                "--supervision.interval",
                "60",
            ]
        )
    for stage in ("teacher", "student"):
        scan, blocked = (
            RunDirectory(tmp_path / f"{stage}-{engine}") for engine in ("scan", "blocked")
        )
        assert scan.hash != blocked.hash  # they differ in rounding
        assert [record["step"] for record in scan.metrics()] == [
            record["step"] for record in blocked.metrics()
        ]
        for ours, theirs in zip(blocked.metrics()[1:], scan.metrics()[1:], strict=True):
            np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-4)
        for step in Trajectory(scan).steps():
            assert (
                max(
                    relative_errors(
                        Trajectory(blocked).restore(step), Trajectory(scan).restore(step)
                    )
                )
                < 1e-4
            )
