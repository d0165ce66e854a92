"""Losses against float64 numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.train.losses import (
    DistillationLoss,
    WeightRamp,
    label_cross_entropy,
    masked_mean,
    reverse_kl,
    soft_cross_entropy,
    teacher_probabilities,
)


def softmax64(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def make_logits(seed: int, classes: int = 7, rows: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (rows, classes)).astype(np.float32), rng.normal(
        0, 3, (rows, classes)
    ).astype(np.float32)


@given(
    seed=st.integers(0, 10_000), temperature=st.floats(0.3, 5), top_k=st.none() | st.integers(1, 9)
)
def test_teacher_probabilities(seed: int, temperature: float, top_k: int | None) -> None:
    _, teacher = make_logits(seed)
    expected = softmax64(teacher / np.float64(temperature))
    if top_k is not None and top_k < 7:
        dropped = np.argsort(-teacher, axis=-1)[:, top_k:]
        np.put_along_axis(expected, dropped, 0, axis=-1)
        expected /= expected.sum(-1, keepdims=True)
    actual = np.asarray(teacher_probabilities(jnp.asarray(teacher), temperature, top_k))
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.3, 5))
def test_forward_and_reverse(seed: int, temperature: float) -> None:
    student, teacher = make_logits(seed)
    p, q = softmax64(teacher / np.float64(temperature)), softmax64(student)
    soft = soft_cross_entropy(
        jnp.asarray(student), teacher_probabilities(jnp.asarray(teacher), temperature, None)
    )
    np.testing.assert_allclose(soft, -(p * np.log(q)).sum(-1), rtol=1e-5, atol=1e-5)
    backward = reverse_kl(jnp.asarray(student), jnp.asarray(teacher) / temperature)
    np.testing.assert_allclose(backward, (q * np.log(q / p)).sum(-1), rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 5))
def test_a_student_of_the_same_temperature(seed: int, temperature: float) -> None:
    """The loss of the relay: a T^2 KL(teacher || student), up to a constant, plus the labels'."""
    student, teacher = make_logits(seed)
    labels, alpha = np.array([0, 1, 2, 3, 4]), 0.7
    loss = DistillationLoss(
        labels="soft",
        temperature=temperature,
        student_temperature="same",
        teacher_weight=WeightRamp(alpha, alpha),
        label_weight=WeightRamp(1 - alpha, 1 - alpha),
    )
    actual = loss(jnp.asarray(student), jnp.asarray(labels), jnp.asarray(teacher), jnp.int32(3), 10)
    p = softmax64(teacher / np.float64(temperature))
    q = softmax64(student / np.float64(temperature))
    to_labels = -np.log(softmax64(student)[np.arange(5), labels])
    expected = alpha * temperature**2 * -(p * np.log(q)).sum(-1) + (1 - alpha) * to_labels
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    with pytest.raises(ValueError, match="student_temperature = same needs"):
        DistillationLoss(labels="hard", student_temperature="same")


def test_published_reverse_kl_is_weighted_by_raw_logits() -> None:
    student, teacher = make_logits(2)
    published = DistillationLoss(labels="soft", temperature=2.0, direction="reverse-raw")
    actual = published(
        jnp.asarray(student), jnp.zeros(5, jnp.int32), jnp.asarray(teacher), jnp.int32(0), 10
    )
    expected = (student * (np.log(softmax64(student)) - np.log(softmax64(teacher / 2.0)))).sum(-1)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"reverse-raw needs --loss\.labels soft"):
        DistillationLoss(labels="hard", direction="reverse-raw")


def test_hard_labels_are_the_teachers_argmax() -> None:
    student, teacher = make_logits(0)
    loss = DistillationLoss(labels="hard")(
        jnp.asarray(student), jnp.zeros(5, jnp.int32), jnp.asarray(teacher), jnp.int32(0), 10
    )
    expected = -np.log(softmax64(student)[np.arange(5), teacher.argmax(-1)])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_mix_of_labels_and_teacher_moves_linearly() -> None:
    student, teacher = make_logits(1)
    labels = np.array([0, 1, 2, 3, 4])
    mix = DistillationLoss(
        labels="soft",
        temperature=2.0,
        teacher_weight=WeightRamp(1.0, 0.0),
        label_weight=WeightRamp(0.0, 3.0),
    )
    to_labels = -np.log(softmax64(student)[np.arange(5), labels])
    to_teacher = -(softmax64(teacher / 2.0) * np.log(softmax64(student))).sum(-1)
    for step, done in ((0, 0.0), (25, 0.25), (100, 1.0)):
        actual = mix(
            jnp.asarray(student), jnp.asarray(labels), jnp.asarray(teacher), jnp.int32(step), 101
        )
        np.testing.assert_allclose(
            actual, (1 - done) * to_teacher + 3 * done * to_labels, rtol=1e-5
        )


@given(start=st.floats(0, 5), end=st.floats(0, 5), steps=st.integers(1, 300))
def test_a_weight_begins_and_ends_as_it_says(start: float, end: float, steps: int) -> None:
    weight = WeightRamp(start, end).over(steps)
    first, middle, last = (np.asarray(weight(step)) for step in (0, (steps - 1) // 2, steps - 1))
    assert first == pytest.approx(start, abs=1e-5)
    assert last == pytest.approx(start if steps == 1 else end, abs=1e-5)
    assert min(start, end) - 1e-5 <= middle <= max(start, end) + 1e-5


@pytest.mark.parametrize(("teacher_weight", "label_weight"), [(0.5, 0.25), (0.5, 0.0), (0.0, 0.25)])
def test_constant_weights(teacher_weight: float, label_weight: float) -> None:
    """The length of the run does not matter; a part of weight zero is left out."""
    student, teacher = make_logits(1)
    labels = np.array([0, 1, 2, 3, 4])
    to_teacher, to_labels = (
        WeightRamp(weight, weight) for weight in (teacher_weight, label_weight)
    )
    mix = DistillationLoss(labels="soft", teacher_weight=to_teacher, label_weight=to_labels)
    log_student = np.log(softmax64(student))
    expected = (
        -teacher_weight * (softmax64(teacher) * log_student).sum(-1)
        - label_weight * log_student[np.arange(5), labels]
    )
    for total_steps in (1, 100):
        actual = mix(
            jnp.asarray(student),
            jnp.asarray(labels),
            jnp.asarray(teacher),
            jnp.int32(7),
            total_steps,
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@given(
    mask=st.lists(st.booleans(), min_size=4, max_size=4),
    values=st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4),
)
def test_masked_mean(mask: list[bool], values: list[float]) -> None:
    expected = np.mean(np.asarray(values)[mask]) if any(mask) else 0.0
    np.testing.assert_allclose(
        masked_mean(jnp.asarray(values), jnp.asarray(mask, jnp.float32)), expected, atol=1e-5
    )


def test_label_cross_entropy() -> None:
    student, _ = make_logits(2)
    np.testing.assert_allclose(
        label_cross_entropy(jnp.asarray(student), jnp.arange(5)),
        -np.log(softmax64(student)[np.arange(5), np.arange(5)]),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "soft", "temperature": 0.0}, "temperature"),
        ({"labels": "hard", "direction": "reverse"}, "reverse"),
        ({"labels": "hard", "top_k": 2}, "top_k"),
        ({"teacher_weight": WeightRamp(0, 0)}, "both zero"),
    ],
)
def test_contradictory_losses_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**arguments)
