"""Optimisers beside PyTorch's, and the decay of the learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.train.optim import OptimConfig, learning_rate_shape, make_optimizer

STEPS = 25


def test_weights_of_matrices_decay_as_in_pytorch() -> None:
    """And no others: AdamW of two groups, to 1e-5 after 25 updates."""
    config = OptimConfig((0.01,), decay="linear", kind="adam", betas=(0.9, 0.95), weight_decay=0.1)
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "embedding": (6, 2), "bias": (3,), "scale": (4,)}
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    theirs = {name: torch.from_numpy(leaf.copy()).requires_grad_() for name, leaf in params.items()}
    matrices, others = (
        [leaf for leaf in theirs.values() if (leaf.ndim == 2) is is_matrix]
        for is_matrix in (True, False)
    )
    peer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    ours: Any = jax.tree.map(jnp.asarray, params)
    optimizer, shape = (
        make_optimizer(config, STEPS, jnp.float32(0.01)),
        learning_rate_shape(config, STEPS),
    )
    state = optimizer.init(ours)
    for step in range(STEPS):
        grads = {name: rng.standard_normal(of).astype(np.float32) for name, of in shapes.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        for group in peer.param_groups:
            group["lr"] = 0.01 * float(np.asarray(shape(step)))
        for name, leaf in theirs.items():
            leaf.grad = torch.from_numpy(grads[name])
        peer.step()
    for name, leaf in theirs.items():
        np.testing.assert_allclose(ours[name], leaf.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_without_weight_decay_the_state_is_adam_s() -> None:
    params = {"kernel": jnp.ones((2, 2))}
    config = OptimConfig((0.01,), kind="adam")
    ours = make_optimizer(config, STEPS, jnp.float32(0.01)).init(params)
    theirs = optax.adam(optax.constant_schedule(0.01)).init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)


def test_weight_decay_of_sgd_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim\.weight_decay = 0\.1 is Adam's"):
        OptimConfig((0.1,), weight_decay=0.1)


@given(steps=st.integers(1, 60), warmup=st.floats(0, 1))
def test_a_linear_decay_is_two_lines(steps: int, warmup: float) -> None:
    config = OptimConfig((1.0,), decay="linear", warmup_fraction=warmup)
    shape = learning_rate_shape(config, steps)
    found = np.asarray([float(np.asarray(shape(step))) for step in range(steps)])
    top = max(round(warmup * steps), 1)
    rising = [(step + 1) / top for step in range(top)]
    falling = [1 - (step + 1) / (steps - top + 1) for step in range(steps - top)]
    np.testing.assert_allclose(found, [*rising, *falling], rtol=1e-5, atol=1e-6)
    assert (found > 0).all()
