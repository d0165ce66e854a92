"""Transition detection on synthetic curves whose transition is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.judge.transition import (
    DetectorConfig,
    NoTransition,
    Transition,
    detect_on_metric,
    lasting,
    smooth,
)

CONFIG = DetectorConfig()
STEPS = list(range(0, 6000, 100))


def sigmoid_curve(middle: float, width: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Accuracy, with the noise of a finite evaluation set: `noise` at chance, none where nothing is
    wrong."""
    clean = 0.5 + 0.5 / (1 + np.exp(-(np.asarray(STEPS) - middle) / width))
    scale = noise * 2 * np.sqrt(clean * (1 - clean))
    return np.clip(
        clean + scale * np.random.default_rng(seed).normal(0, 1, len(STEPS)), 0, 1
    ).tolist()


@given(middle=st.floats(1500, 3500), width=st.floats(60, 250))
def test_clean_transition(middle: float, width: float) -> None:
    found = detect_on_metric(STEPS, sigmoid_curve(middle, width), CONFIG)
    assert isinstance(found, Transition)
    assert found.before < found.start <= found.chosen <= found.end < found.after
    assert abs(found.chosen - middle) <= 150, "the steepest point of a sigmoid is its middle"
    assert abs(found.middle - middle) <= 100
    assert {found.start, found.middle, found.end, found.chosen, found.before, found.after} <= set(
        STEPS
    )


@given(middle=st.floats(1500, 3500), seed=st.integers(0, 1000))
def test_noise_does_not_move_the_choice_out_of_the_transition(middle: float, seed: int) -> None:
    found = detect_on_metric(STEPS, sigmoid_curve(middle, 150, noise=0.008, seed=seed), CONFIG)
    assert isinstance(found, Transition)
    assert abs(found.chosen - middle) <= 450
    assert found.before < middle - 300
    assert found.after > middle + 300


@given(middle=st.floats(1500, 3500), width=st.floats(60, 250))
def test_a_falling_metric_is_a_rising_one_upside_down(middle: float, width: float) -> None:
    rising = sigmoid_curve(middle, width)
    falling = [4.0 - 3.0 * value for value in rising]
    inverted = DetectorConfig(floor=4.0 - 1.5, ceiling=1.0)
    assert detect_on_metric(STEPS, falling, inverted) == detect_on_metric(STEPS, rising, CONFIG)


def test_a_step_without_a_point_inside_is_no_transition() -> None:
    found = detect_on_metric(STEPS, [0.5] * 30 + [1.0] * 30, CONFIG)
    assert isinstance(found, NoTransition)
    assert "more often" in found.reason


@given(seed=st.integers(0, 1000), noise=st.floats(0, 0.008))
def test_flat_runs_have_none(seed: int, noise: float) -> None:
    flat = (0.5 + np.random.default_rng(seed).uniform(-noise, noise, len(STEPS))).tolist()
    found = detect_on_metric(STEPS, flat, CONFIG)
    assert isinstance(found, NoTransition)
    assert "never leaves" in found.reason


def test_an_unfinished_run_has_none() -> None:
    found = detect_on_metric(STEPS, np.linspace(0.5, 0.8, len(STEPS)).tolist(), CONFIG)
    assert isinstance(found, NoTransition)
    assert "not finished" in found.reason


def test_a_plateau_inside_does_not_attract_the_choice() -> None:
    values = np.interp(
        STEPS, [0, 1000, 1500, 3500, 4000, 6000], [0.5, 0.5, 0.7, 0.71, 1.0, 1.0]
    ).tolist()
    found = detect_on_metric(STEPS, values, CONFIG)
    assert isinstance(found, Transition)
    assert 3500 <= found.chosen <= 4000


def test_a_blip_before_the_transition_is_not_its_start() -> None:
    values = sigmoid_curve(3000, 100)
    values[3] = 0.56
    found = detect_on_metric(STEPS, values, CONFIG)
    assert isinstance(found, Transition)
    assert found.start > 2000
    assert found.before == (found.start // 200) * 100, "half-way to the start, not to the blip"


@given(middle=st.floats(1500, 3500), width=st.floats(60, 250), fine=st.sampled_from([10, 20, 50]))
def test_controls_are_where_they_were_on_an_even_grid_whatever_the_ring_keeps(
    middle: float, width: float, fine: int
) -> None:
    """Of the curve's points most lie in the transition; the controls do not move there."""
    even = detect_on_metric(STEPS, sigmoid_curve(middle, width), CONFIG)
    crowded = sorted(
        {*STEPS, *range(int(middle - 6 * width) // 100 * 100, int(middle + 6 * width), fine)}
    )
    found = detect_on_metric(
        crowded,
        (0.5 + 0.5 / (1 + np.exp(-(np.asarray(crowded) - middle) / width))).tolist(),
        CONFIG,
    )
    assert isinstance(even, Transition) and isinstance(found, Transition)
    assert abs(found.before - even.before) <= 100
    assert abs(found.after - even.after) <= 100
    assert 0 <= found.start / 2 - found.before < 100
    assert 0 <= (found.end + STEPS[-1]) / 2 - found.after < 100


def test_a_blip_to_the_ceiling_is_no_finish() -> None:
    """One evaluation without errors on the way up, then chance again."""
    curve = [0.5] * 10 + [0.6, 0.75, 1.0] + [0.5] * 20
    found = detect_on_metric(list(range(len(curve))), curve, CONFIG)
    assert isinstance(found, NoTransition)
    assert "3 times in a row" in found.reason


CURVE_VALUES = st.lists(
    st.sampled_from([0.5, 0.52, 0.56, 0.75, 0.94, 0.99, 0.996, 1.0]), min_size=5, max_size=40
)


@given(CURVE_VALUES)
def test_what_a_transition_says_is_so(values: list[float]) -> None:
    """Of any curve: a finish that lasts, controls at which nothing and everything has been learnt,
    and a checkpoint from in between."""
    steps = [10 * i for i in range(len(values))]
    found = detect_on_metric(steps, values, CONFIG)
    lasts = [i for i in range(len(values) - 2) if min(values[i : i + 3]) > 0.995]
    if isinstance(found, NoTransition):
        inside = [value for value in values[: lasts[0] if lasts else 0] if 0.55 < value < 0.95]
        assert not lasts or not inside or "more often" in found.reason
        return
    value = dict(zip(steps, values, strict=True))
    assert found.end == steps[lasts[0]]
    assert found.start <= found.middle <= found.end
    assert found.start <= found.chosen <= found.end
    assert 0.55 < value[found.chosen] < 0.95
    assert value[found.middle] >= 0.75
    assert value[found.after] > 0.995
    assert found.end <= found.after <= (found.end + steps[-1]) / 2
    assert not any(
        value[step] > 0.995 for step in steps if found.after < step <= (found.end + steps[-1]) / 2
    )
    assert found.before <= found.start / 2
    assert value[found.before] <= 0.55 or found.before == 0


@given(middle=st.floats(800, 1500), collapse=st.integers(26, 50))
def test_a_teacher_that_collapses_is_a_control_while_it_knows(middle: float, collapse: int) -> None:
    values = sigmoid_curve(middle, 60)
    values[collapse:] = [0.5] * (len(values) - collapse)
    found = detect_on_metric(STEPS, values, CONFIG)
    assert isinstance(found, Transition)
    assert values[STEPS.index(found.after)] > 0.995
    half = (found.end + STEPS[-1]) / 2
    assert found.after == max(
        step for step in STEPS if step <= half and values[STEPS.index(step)] > 0.995
    )


def test_a_control_before_is_no_blip_to_the_ceiling() -> None:
    values = sigmoid_curve(3000, 100)
    clean = detect_on_metric(STEPS, values, CONFIG)
    assert isinstance(clean, Transition)
    values[STEPS.index(clean.before)] = 1.0
    found = detect_on_metric(STEPS, values, CONFIG)
    assert isinstance(found, Transition)
    assert found.before == clean.before - 100
    assert found.middle == clean.middle


@given(reached=st.lists(st.booleans(), max_size=12))
def test_lasting(reached: list[bool]) -> None:
    assert lasting(np.asarray(reached, bool)).tolist() == [
        all(reached[i : i + 3]) and i + 3 <= len(reached) for i in range(len(reached))
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0.5, 0.6, 1.0], "too few"), ([0.5, float("nan"), 0.7, 0.9, 1.0], "diverged")],
)
def test_unusable_curves(values: list[float], reason: str) -> None:
    found = detect_on_metric(list(range(len(values))), values, CONFIG)
    assert isinstance(found, NoTransition)
    assert reason in found.reason


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9), st.integers(1, 9))
def test_smoothing_is_the_mean_of_the_points_around(values: list[float], width: int) -> None:
    """Of those that there are, also where all are fewer than the width."""
    last = (width - 1) // 2
    expected = [
        np.mean(values[max(i + last - width + 1, 0) : i + last + 1]) for i in range(len(values))
    ]
    np.testing.assert_allclose(smooth(values, width), expected, atol=1e-12)


def test_smoothing_keeps_constants() -> None:
    np.testing.assert_allclose(smooth([2.0] * 9, 5), 2.0)
