"""The vectors of tokens, and the sums that are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common.base.config import TrainingConfig
from common.nn.blocks import TransformerConfig, by_product, embedding, vectors_of
from common.nn.gpt2 import GPT2Config
from common.train.optim import OptimConfig
from parity.config import TrainConfig
from parity.data import ParityData
from parity.spec import SPEC


def test_a_product_gives_the_vectors_and_their_gradients() -> None:
    table = embedding(TransformerConfig(2), 5, nnx.Rngs(params=jax.random.key(0)))
    tokens = jax.random.randint(jax.random.key(1), (7, 11), 0, 5)
    weights = jax.random.normal(jax.random.key(2), (7, 11, 16))
    np.testing.assert_array_equal(by_product(table, tokens), vectors_of(table, tokens))

    def gradient(read) -> np.ndarray:
        grads = nnx.grad(lambda table: jnp.sum(read(table, tokens) * weights))(table)
        return np.asarray(grads.embedding[...])

    rows, of_tokens = np.asarray(weights, np.float64).reshape(-1, 16), np.asarray(tokens).ravel()
    expected = np.stack([rows[of_tokens == token].sum(0) for token in range(5)])
    for read in (by_product, vectors_of):
        np.testing.assert_allclose(gradient(read), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_few_tokens_in_bfloat16() -> None:
    """Two tokens in 3200 places: as in float32 up to the rounding of activations."""

    def gradient(dtype: str) -> np.ndarray:
        config = TrainConfig(
            ParityData(100, 6),
            GPT2Config(4, dtype=dtype),  # type: ignore[arg-type]
            OptimConfig((1e-3,), kind="adam"),
            TrainingConfig(10, 32, 10),
        )
        problem = SPEC.teacher_problem(config)
        batch = problem.sample((), jax.random.key(3))
        params = jax.jit(problem.model.init)(jax.random.key(4))

        def loss(params) -> jax.Array:
            logits = problem.model.apply(params, batch.inputs)
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(32), batch.labels])

        return np.asarray(jax.jit(jax.grad(loss))(params)["token"]["embedding"])

    exact, rounded = gradient("float32"), gradient("bfloat16")
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert error == pytest.approx(0, abs=0.05)
