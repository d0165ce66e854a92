"""Losses of a student: cross-entropy to labels, divergences from a teacher, and their weighted sum.

All functions keep the leading axes: logits are `(..., C)`, losses `(...)`. Reduction is
`masked_mean` and nothing else.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from common.base.config import PositiveInt, configuration

TeacherLoss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(student's logits, labels, teacher's logits, step) to loss per position."""


@configuration
class WeightRamp:
    """A loss weight that moves linearly from `start` to `end` over the whole run."""

    start: Annotated[float, Field(ge=0)] = 1.0
    """Weight at the first step."""
    end: Annotated[float, Field(ge=0)] = 1.0
    """Weight at the last step."""

    @property
    def is_constant(self) -> bool:
        """Whether the weight is the same in runs of all lengths."""
        return self.start == self.end

    def over(self, steps: int) -> optax.Schedule:
        """The weight of an update in a run of so many steps, as a function of the updates completed
        before it: from 0 to `steps` - 1.

        A run of one step has the weight `start`.
        """
        if self.is_constant or steps == 1:
            return optax.constant_schedule(self.start)
        return optax.linear_schedule(self.start, self.end, steps - 1)


@configuration
class DistillationLoss:
    """A student's loss: `label_weight` x cross-entropy to the data's labels + `teacher_weight` x
    divergence from the teacher."""

    labels: Literal["hard", "soft"] = "hard"
    """hard: the teacher's argmax. soft: the teacher's probabilities at `temperature`."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divides the teacher's logits; > 0 with soft labels, unused with hard ones."""
    student_temperature: Literal["one", "same"] = "one"
    """one: the student's logits are not divided (the published text and grammars). same: they are
    divided too, and the teacher's term is multiplied by the square of the temperature, which keeps
    its gradient as large (Hinton et al. 2015; the relay by size). At temperature 1 both are the
    same. same needs soft labels and forward KL."""
    top_k: PositiveInt | None = None
    """Keep the teacher's k largest probabilities and renormalise; needs soft labels and forward
    KL."""
    direction: Literal["forward", "reverse", "reverse-raw"] = "forward"
    """forward: cross-entropy to the teacher's probabilities (KL(teacher || student) up to a
    constant). reverse: KL(student || teacher). reverse-raw: as published, the same sum weighted by
    the student's raw logits, which is no divergence."""
    teacher_weight: WeightRamp = WeightRamp(1.0, 1.0)
    """Weight of the teacher's term."""
    label_weight: WeightRamp = WeightRamp(0.0, 0.0)
    """Weight of the labels' term."""

    def __post_init__(self) -> None:
        if self.labels == "soft" and self.temperature == 0:
            raise ValueError(
                "loss.temperature = 0 has no soft labels; give a temperature > 0, or --loss.labels"
                " hard for the teacher's argmax"
            )
        if self.direction != "forward" and self.labels == "hard":
            raise ValueError(
                f"loss.direction = {self.direction} needs --loss.labels soft: KL(student || argmax)"
                " is infinite"
            )
        if self.top_k is not None and (self.labels == "hard" or self.direction != "forward"):
            raise ValueError("loss.top_k needs --loss.labels soft and --loss.direction forward")
        is_soft = self.labels == "soft" and self.direction == "forward"
        if self.student_temperature == "same" and not is_soft:
            raise ValueError(
                "loss.student_temperature = same needs --loss.labels soft and --loss.direction"
                " forward"
            )
        ramps = self.teacher_weight, self.label_weight
        if not any(ramp.start or ramp.end for ramp in ramps):
            raise ValueError(
                "loss.teacher_weight and loss.label_weight are both zero: there is nothing to learn"
                " from"
            )

    @property
    def is_constant(self) -> bool:
        """Whether the loss is the same in runs of all lengths."""
        return self.teacher_weight.is_constant and self.label_weight.is_constant

    def over(self, total_steps: int) -> TeacherLoss:
        """The loss of a run of so many steps."""
        return functools.partial(self, total_steps=total_steps)

    def __call__(
        self,
        logits: jax.Array,
        labels: jax.Array,
        teacher_logits: jax.Array,
        step: jax.Array,
        total_steps: int,
    ) -> jax.Array:
        """Loss per position.

        Args:
            logits: `(..., C)`, the student's.
            labels: `(...)`, the data's.
            teacher_logits: `(..., C)`.
            step: scalar, completed updates.
            total_steps: length of the run, over which the weights move.
        """
        terms = (
            (self.teacher_weight, self._divergence(logits, teacher_logits)),
            (self.label_weight, label_cross_entropy(logits, labels)),
        )
        weighted = [
            jnp.asarray(ramp.over(total_steps)(step)) * term
            for ramp, term in terms
            if ramp.start or ramp.end
        ]
        return functools.reduce(jnp.add, weighted)

    def _divergence(self, logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
        """The student's divergence from the teacher per position."""
        if self.direction == "forward" and self.labels == "hard":
            return label_cross_entropy(logits, jnp.argmax(teacher_logits, axis=-1))
        if self.direction == "forward":
            probabilities = teacher_probabilities(teacher_logits, self.temperature, self.top_k)
            if self.student_temperature == "one":
                return soft_cross_entropy(logits, probabilities)
            scaled = soft_cross_entropy(logits / self.temperature, probabilities)
            return self.temperature**2 * scaled
        if self.direction == "reverse":
            return reverse_kl(logits, teacher_logits / self.temperature)
        log_student = jax.nn.log_softmax(logits)
        log_ratio = log_student - jax.nn.log_softmax(teacher_logits / self.temperature)
        return jnp.sum(logits * log_ratio, axis=-1)


def label_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in nats to integer labels; `(..., C)` and `(...)` to `(...)`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def soft_cross_entropy(logits: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Cross-entropy in nats to probabilities, -sum_c p_c log softmax(z)_c; `(..., C)` twice to
    `(...)`."""
    return optax.softmax_cross_entropy(logits, probabilities)


def reverse_kl(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """KL(student || teacher) in nats, weighted by the student's probabilities (not its logits);
    `(..., C)` twice to `(...)`."""
    log_student = jax.nn.log_softmax(logits)
    return jnp.sum(
        jnp.exp(log_student) * (log_student - jax.nn.log_softmax(teacher_logits)), axis=-1
    )


def teacher_probabilities(
    teacher_logits: jax.Array, temperature: float, top_k: int | None
) -> jax.Array:
    """softmax(z / temperature), optionally cut to the k largest entries and renormalised; `(...,
    C)` to `(..., C)`."""
    scaled = teacher_logits / temperature
    if top_k is None or top_k >= scaled.shape[-1]:
        return jax.nn.softmax(scaled)
    kept, index = jax.lax.top_k(scaled, top_k)
    places = jax.nn.one_hot(index, scaled.shape[-1])
    return jnp.sum(places * jax.nn.softmax(kept)[..., None], axis=-2)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values where the mask is 1; zero where the mask is empty. Both `(...)`, the
    result a scalar."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)
