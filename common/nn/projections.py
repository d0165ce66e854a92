"""Learning from a teacher's hidden layers: the student's hidden layer regresses on random
projections of the teacher's.

Gupta and Karmalkar 2025 (arXiv 2503.17494) extract a curriculum from the final teacher in this way.
Shapes: B inputs, optionally T positions; M hidden units, of which student and teacher may have
different numbers.
"""

import jax
import jax.numpy as jnp

from common.nn.functional import Functional, Inputs, Params


def projection_loss(
    student: Functional,
    teacher: Functional,
    params: Params,
    teacher_params: Params,
    inputs: Inputs,
    layer: int,
    key: jax.Array,
) -> jax.Array:
    """Squared distance, averaged over the student's hidden units, of a hidden layer from the
    projection of the teacher's, `(B,)` or `(B, T)`.

    Args:
        student: the model that learns.
        teacher: the model that it learns from.
        params: the student's parameters.
        teacher_params: the teacher's; no gradient flows into them.
        inputs: as both models take them.
        layer: number of the hidden layer, from 0.
        key: of the projection; one key is one projection.
    """
    hidden_xM, teacher_hidden_xM = (
        student.hidden(params, inputs, layer),
        teacher.hidden(teacher_params, inputs, layer),
    )
    target_xM = teacher_hidden_xM @ random_projection(
        key, teacher_hidden_xM.shape[-1], hidden_xM.shape[-1]
    )
    return jnp.mean((hidden_xM - jax.lax.stop_gradient(target_xM)) ** 2, axis=-1)


def random_projection(key: jax.Array, from_width: int, to_width: int) -> jax.Array:
    """A Gaussian matrix `(from_width, to_width)` that keeps mean squares: its entries have variance
    1 / from_width."""
    return jax.random.normal(key, (from_width, to_width)) / jnp.sqrt(from_width)
