"""Layers whose gradients are arranged for the CPU's compiler.

XLA:CPU runs products of matrices at the machine's rate, and what automatic differentiation puts
between them far below it: sums over rows are passes of their own, and what enters such a sum is
computed again for each sum that it enters. Here those sums are products with ones, and gradients
are written out. Each function computes what the library's does, to rounding.

Shapes: N rows (all positions of all sequences), of width I before a linear layer and O after it, or
of width M.
"""

import functools
import math

import jax
import jax.numpy as jnp


def is_meant(x: jax.Array) -> bool:
    """Whether these functions are for this device and for arrays of this type."""
    return jax.default_backend() == "cpu" and x.dtype == jnp.float32


def linear(x: jax.Array, kernel_IxO: jax.Array, bias_O: jax.Array) -> jax.Array:
    """`x @ kernel + bias` along the last axis of `x`, as `flax.nnx.Linear`."""
    y_NxO = _linear(x.reshape(-1, x.shape[-1]), kernel_IxO, bias_O)
    return y_NxO.reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _linear(x_NxI: jax.Array, kernel_IxO: jax.Array, bias_O: jax.Array) -> jax.Array:
    return x_NxI @ kernel_IxO + bias_O[None]


def _linear_forward(
    x_NxI: jax.Array, kernel_IxO: jax.Array, bias_O: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _linear(x_NxI, kernel_IxO, bias_O), (x_NxI, kernel_IxO)


def _linear_backward(
    kept: tuple[jax.Array, jax.Array], dy_NxO: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x_NxI, kernel_IxO = kept
    return dy_NxO @ kernel_IxO.T, x_NxI.T @ dy_NxO, _sum_of_rows(dy_NxO)


_linear.defvjp(_linear_forward, _linear_backward)


def layer_norm(x: jax.Array, scale_M: jax.Array, bias_M: jax.Array, epsilon: float) -> jax.Array:
    """Normalisation over the last axis of `x`, as `flax.nnx.LayerNorm(use_fast_variance=False)`."""
    x_NxM = x.reshape(-1, x.shape[-1])
    return _scaled(_normal(x_NxM, epsilon), scale_M, bias_M).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _normal(x_NxM: jax.Array, epsilon: float) -> jax.Array:
    """Rows of mean zero and, but for epsilon, variance one."""
    return _normal_forward(x_NxM, epsilon)[0]


def _normal_forward(
    x_NxM: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    centred_NxM = x_NxM - _mean(x_NxM)
    factor_Nx1 = jax.lax.rsqrt(_mean(centred_NxM**2) + epsilon)
    y_NxM = centred_NxM * factor_Nx1
    return y_NxM, (y_NxM, factor_Nx1)


def _normal_backward(
    epsilon: float, kept: tuple[jax.Array, jax.Array], dy_NxM: jax.Array
) -> tuple[jax.Array]:
    y_NxM, factor_Nx1 = kept
    return (factor_Nx1 * (dy_NxM - _mean(dy_NxM) - y_NxM * _mean(dy_NxM * y_NxM)),)


_normal.defvjp(_normal_forward, _normal_backward)


@jax.custom_vjp
def _scaled(x_NxM: jax.Array, scale_M: jax.Array, bias_M: jax.Array) -> jax.Array:
    return x_NxM * scale_M[None] + bias_M[None]


def _scaled_forward(
    x_NxM: jax.Array, scale_M: jax.Array, bias_M: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _scaled(x_NxM, scale_M, bias_M), (x_NxM, scale_M)


def _scaled_backward(
    kept: tuple[jax.Array, jax.Array], dy_NxM: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x_NxM, scale_M = kept
    return dy_NxM * scale_M[None], _sum_of_rows(dy_NxM * x_NxM), _sum_of_rows(dy_NxM)


_scaled.defvjp(_scaled_forward, _scaled_backward)


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function at x, as `jax.nn.gelu(x, approximate=False)`, which
    computes a slower function of the error's complement."""
    return 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))


def _sum_of_rows(x_NxM: jax.Array) -> jax.Array:
    return (jnp.ones((1, x_NxM.shape[0]), x_NxM.dtype) @ x_NxM)[0]


def _mean(x_NxM: jax.Array) -> jax.Array:
    """Of each row, `(N, 1)`."""
    return jnp.mean(x_NxM, axis=1, keepdims=True)
