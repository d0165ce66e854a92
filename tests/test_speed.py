"""The operations of a forward pass, against what the compiler counts."""

import jax
import jax.numpy as jnp
import pytest

from common.nn.bert import BERTConfig, bert_flops, functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2, gpt2_flops
from common.nn.mlp import MLPConfig, functional_mlp, mlp_flops
from common.train.speed import Work, describe, training_work

VOCABULARY, LENGTH = 50, 40
GPT2_CONFIG, BERT_CONFIG = GPT2Config(4, 16, 2), BERTConfig(8, 16, 3)


def counted(model: Functional, num_asked: int | None) -> float:
    """The operations of a forward pass of one sequence, as the compiler counts them."""
    at_BxP = None if num_asked is None else jnp.arange(num_asked)[None]

    def forward(params: Params, tokens: jax.Array) -> jax.Array:
        return model.apply(params, TokenInputs(tokens, at_BxP=at_BxP))

    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)
    return (jax.jit(forward).lower(params, tokens).compile().cost_analysis() or {})["flops"]


@pytest.mark.parametrize("num_asked", [None, 1, 8])
def test_operations_are_those_of_the_compiled_program(num_asked: int | None) -> None:
    """But for normalisation, softmax and the like, which are no products: at most a tenth at this
    width. The last block of a few answers costs less: keys and values everywhere, the rest at their
    positions; from one block to the next the whole sequence."""
    asked = LENGTH if num_asked is None else num_asked
    gpt2 = functional_gpt2(GPT2_CONFIG, VOCABULARY, LENGTH, VOCABULARY)
    assert gpt2_flops(GPT2_CONFIG, VOCABULARY, LENGTH, asked) == pytest.approx(
        counted(gpt2, num_asked), rel=0.1
    )
    bert = functional_bert(BERT_CONFIG, VOCABULARY, LENGTH)
    assert bert_flops(BERT_CONFIG, VOCABULARY, LENGTH, asked) == pytest.approx(
        counted(bert, num_asked), rel=0.1
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
    of_student, of_teacher = (gpt2_flops(GPT2Config(heads), 7, 20, 20) for heads in (2, 8))
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
