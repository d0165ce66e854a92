"""The checkpoint half-way up a rise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.judge.gain import HalfGainConfig
from common.judge.transition import NoTransition, Transition

STEPS = range(0, 110, 10)


def test_half_of_a_line() -> None:
    found = HalfGainConfig().detect(STEPS, [0.5 + step / 400 for step in STEPS])
    assert isinstance(found, Transition)
    assert (found.start, found.chosen) == (10, 50)
    assert found.end in (90, 100)  # nine tenths, to rounding


def test_a_rise_between_two_evaluations_is_not_averaged_away() -> None:
    found = HalfGainConfig().detect(STEPS, [0.5, *[0.8] * 10])
    assert isinstance(found, Transition)
    assert found.chosen == 10


@given(st.lists(st.floats(0, 1), min_size=11, max_size=11))
def test_it_is_the_first_evaluation_that_has_half(values: list[float]) -> None:
    config = HalfGainConfig()
    found, gain = config.detect(STEPS, values), values[-1] - values[0]
    if gain < config.least:
        assert isinstance(found, NoTransition)
        return
    assert isinstance(found, Transition)
    has_half = [(value - values[0]) / gain >= 0.5 for value in values]
    assert found.chosen == STEPS[has_half.index(True)]


@pytest.mark.parametrize("values", [[0.5] * 11, [0.9, *[0.5] * 10], [0.5, float("nan")] * 5 + [1]])
def test_no_gain_has_no_half(values: list[float]) -> None:
    assert isinstance(HalfGainConfig().detect(STEPS, values), NoTransition)
