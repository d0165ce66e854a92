"""Any number of examples in parts: the values of the whole, and where parts fit the program that
there was."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig, from_dict
from common.base.parts import in_parts, part_size
from common.nn.functional import Batch
from common.nn.mlp import MLPConfig
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train.engine import EVAL_PART, ScanEngine, record_lane
from common.train.losses import label_cross_entropy
from common.train.optim import OptimConfig
from parity.config import TrainConfig
from parity.data import ParityData, eval_batch, supports_of
from parity.probe import _forward
from parity.spec import SPEC


@given(num_examples=st.integers(1, 5000), most=st.integers(1, 128))
def test_parts_are_few_and_one_at_most_is_filled_up(num_examples: int, most: int) -> None:
    size = part_size(num_examples, most)
    assert 1 <= size <= most
    if num_examples > most:
        assert size >= most / 2
        assert num_examples % size == 0 or size == most
    else:
        assert size == num_examples


@pytest.mark.parametrize(
    ("num_examples", "size"),
    [(4096, 64), (2048, 64), (1024, 64), (250, 50), (40, 40), (4093, 64), (130, 64)],
)
def test_sizes_that_divide_have_the_parts_they_had(num_examples: int, size: int) -> None:
    assert part_size(num_examples, EVAL_PART) == size


@pytest.mark.parametrize(("num_examples", "size"), [(1, 1), (6, 3), (7, 3), (3, 8), (50, 7)])
def test_parts_hold_every_example_once_and_filling_after_them(num_examples: int, size: int) -> None:
    x_NxI = jnp.arange(2 * num_examples).reshape(-1, 2)
    parts, mask = in_parts(x_NxI, size), in_parts(jnp.ones(num_examples), size, "zeros")
    assert parts.shape == (math.ceil(num_examples / size), size, 2)
    flat, counted = parts.reshape(-1, 2), mask.reshape(-1)
    np.testing.assert_array_equal(flat[:num_examples], x_NxI)
    np.testing.assert_array_equal(flat[num_examples:] % (2 * num_examples), flat[num_examples:])
    np.testing.assert_array_equal(counted, np.arange(len(flat)) < num_examples)


def engine_of(eval_examples: int) -> ScanEngine:
    training = TrainingConfig(steps=4, batch_size=4, eval_every=4, eval_examples=eval_examples)
    return ScanEngine(
        SPEC.teacher_problem(
            TrainConfig(ParityData(10, 2), MLPConfig(16), OptimConfig((0.1,)), training)
        )
    )


@pytest.mark.parametrize("eval_examples", [1, 63, 64, 65, 127, 128, 131, 250, 1021])
def test_an_evaluation_is_that_of_the_whole_set(eval_examples: int) -> None:
    engine = engine_of(eval_examples)
    state, batch = engine.init(), engine.eval_batch
    logits = engine.problem.model.apply(
        jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params)), batch.inputs
    )
    expected = float(np.mean(np.argmax(logits, -1) == batch.labels))
    loss = float(np.mean(np.asarray(label_cross_entropy(logits, batch.labels), np.float64)))
    _, metrics = engine.record(state)
    assert len(batch.labels) == eval_examples
    assert float(metrics["accuracy"][0]) == pytest.approx(expected, abs=1e-6)
    assert float(metrics["eval_loss"][0]) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("eval_examples", [50, 64, 1024])
def test_where_nothing_is_filled_up_the_program_is_the_plain_one(eval_examples: int) -> None:
    engine = engine_of(eval_examples)
    state = jax.tree.map(lambda leaf: leaf[0], jax.device_get(engine.init()))
    traced = str(
        jax.make_jaxpr(lambda state, batch: record_lane(engine.problem, lambda x: x, state, batch))(
            state, engine.eval_batch
        )
    )
    assert "pad[" not in traced
    assert "concatenate[" not in traced


def test_a_prime_number_of_examples_is_no_slower() -> None:
    """Steps of the loop over parts, which were one an example."""
    batch = Batch(jnp.zeros((4093, 10)), jnp.zeros(4093, jnp.int32), jnp.ones(4093))
    assert in_parts(batch, part_size(4093, EVAL_PART)).labels.shape == (64, 64)


def test_a_probe_answers_for_any_number_of_examples(tiny_teacher: Path) -> None:
    run = RunDirectory(tiny_teacher)
    model = from_dict(TrainConfig, run.record["config"], tiny_teacher)
    params, x_NxI = (
        Trajectory(run).restore(256),
        eval_batch(model.data, supports_of(model.data), 1024).inputs,
    )
    forward = _forward(model, 2)
    whole_LxN = forward(params, x_NxI)
    for num_examples in (1, 127, 1021):
        np.testing.assert_allclose(
            forward(params, x_NxI[:num_examples]), whole_LxN[:, :num_examples], rtol=1e-5, atol=1e-6
        )
