"""Layers with gradients of their own, against PyTorch's in float64."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.nn import on_cpu

EPSILON = 1e-5
Layer = Callable[..., jax.Array]


def torch_gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x)


def torch_linear(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, kernel.T, bias)


def torch_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, scale.shape, scale, bias, EPSILON)


def norm(x: jax.Array, scale_M: jax.Array, bias_M: jax.Array) -> jax.Array:
    return on_cpu.layer_norm(x, scale_M, bias_M, EPSILON)


def check(ours: Layer, theirs: Callable[..., torch.Tensor], *arguments: np.ndarray) -> None:
    """The same value, and the same gradient of a weighted sum of it for every argument."""
    float64 = [
        torch.tensor(argument, dtype=torch.float64, requires_grad=True) for argument in arguments
    ]
    expected = theirs(*float64)
    weights = np.random.default_rng(1).standard_normal(tuple(expected.shape)).astype(np.float32)
    (expected * torch.tensor(weights)).sum().backward()
    value, pullback = jax.vjp(ours, *map(jnp.asarray, arguments))
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    for gradient, reference in zip(pullback(jnp.asarray(weights)), float64, strict=True):
        assert reference.grad is not None
        scale = max(float(reference.grad.abs().max()), 1.0)
        np.testing.assert_allclose(gradient, reference.grad.numpy(), rtol=1e-5, atol=1e-5 * scale)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 9))
def test_a_linear_layer(leading: list[int], num_in: int, num_out: int) -> None:
    check(
        on_cpu.linear,
        torch_linear,
        normal(*leading, num_in),
        normal(num_in, num_out),
        normal(num_out),
    )


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(3, 9), st.floats(-5, 5))
def test_a_normalisation(leading: list[int], width: int, shift: float) -> None:
    check(
        norm, torch_norm, normal(*leading, width) + np.float32(shift), normal(width), normal(width)
    )


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_activation(scale: float) -> None:
    check(on_cpu.gelu, torch_gelu, normal(7, 30, scale=scale))


def test_what_they_are_meant_for() -> None:
    assert on_cpu.is_meant(jnp.zeros(2))
    assert not on_cpu.is_meant(jnp.zeros(2, jnp.bfloat16))
