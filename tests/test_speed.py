"""The operations of a forward pass, against what the compiler counts."""

import jax
import jax.numpy as jnp
import pytest

from common.nn.models import MLPConfig, functional_mlp
from common.nn.transformer import TransformerConfig, functional_transformer
from common.train.speed import Work, describe, mlp_flops, training_work, transformer_flops


@pytest.mark.parametrize(
    "config",
    [
        TransformerConfig(4, 16, 2),
        TransformerConfig(8, 16, 3, causal=False, norm="post", head="bert", gelu="exact"),
    ],
)
def test_operations_are_those_of_the_compiled_program(config: TransformerConfig) -> None:
    """But for normalisation, softmax and the like, which are no products: at most a tenth at this
    width."""
    vocabulary, length = 50, 40
    model = functional_transformer(config, vocabulary, length, vocabulary)
    params = jax.eval_shape(model.init, jax.random.key(0))
    compiled = (
        jax.jit(model.apply).lower(params, jax.ShapeDtypeStruct((1, length), jnp.int32)).compile()
    )
    counted = (compiled.cost_analysis() or {})["flops"]
    assert transformer_flops(config, vocabulary, length) == pytest.approx(counted, rel=0.1)


def test_the_last_block_of_a_lone_answer_costs_less() -> None:
    """Keys and values everywhere, the rest at one position; from one block to the next the whole
    sequence."""
    config, vocabulary, length = TransformerConfig(4, 16, 2), 50, 40
    model = functional_transformer(config, vocabulary, length, vocabulary, last_only=True)
    params = jax.eval_shape(model.init, jax.random.key(0))
    compiled = (
        jax.jit(model.apply).lower(params, jax.ShapeDtypeStruct((1, length), jnp.int32)).compile()
    )
    counted = (compiled.cost_analysis() or {})["flops"]
    assert transformer_flops(config, vocabulary, length, answers=1) == pytest.approx(
        counted, rel=0.1
    )
    assert transformer_flops(config, vocabulary, length, answers=length) == transformer_flops(
        config, vocabulary, length
    )


def test_operations_of_an_mlp() -> None:
    model = functional_mlp(MLPConfig(100), 30, 2)
    params = jax.eval_shape(model.init, jax.random.key(0))
    compiled = (
        jax.jit(model.apply).lower(params, jax.ShapeDtypeStruct((1, 30), jnp.float32)).compile()
    )
    assert mlp_flops(MLPConfig(100), 30, 2) == pytest.approx(
        (compiled.cost_analysis() or {})["flops"], rel=0.1
    )


def test_a_teacher_costs_one_forward_pass() -> None:
    student, teacher = TransformerConfig(2), TransformerConfig(8)
    of_student, of_teacher = (transformer_flops(config, 7, 20) for config in (student, teacher))
    assert training_work(of_student, 0.0, 20) == Work(20, 3 * of_student)
    assert training_work(of_student, of_teacher, 20) == Work(20, 3 * of_student, of_teacher)


def test_rates_of_a_run() -> None:
    speed = describe(Work(tokens=20, flops=1e6), examples=1000, seconds=4.0, num_devices=2)
    assert speed["tokens_per_second"] == 5000
    assert speed["flops_per_second"] == 2.5e8
    assert 0 < speed["utilisation"] < 1
    taught = Work(tokens=20, flops=1e6, teacher_flops=2e6)
    apart, grouped = (
        describe(taught, examples=1000, seconds=4.0, num_devices=2, group_size=size)[
            "flops_per_second"
        ]
        for size in (1, 4)
    )
    assert (apart, grouped) == (7.5e8, 3.75e8)
