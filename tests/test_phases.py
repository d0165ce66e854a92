"""Three phases of a loss curve: found where they were put, and not found where there are none."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.judge.phases import PhaseConfig, _pieces
from common.judge.transition import NoTransition, Transition
from common.runs import transitions


def curve(
    steps: np.ndarray, plateau_ends: float, drop_ends: float, noise: float = 0.0, seed: int = 0
) -> np.ndarray:
    """From 1.6 to 1.05 within 50 steps, flat, then down to 0.15, then a slow tail."""
    with np.errstate(divide="ignore"):
        log_steps = np.log(steps)
    knots = np.log([1, 50, plateau_ends, drop_ends, 20 * drop_ends])
    values = np.interp(log_steps, knots, [1.6, 1.05, 1.02, 0.15, 0.05])
    return values * np.exp(noise * np.random.default_rng(seed).standard_normal(len(steps)))


@given(
    plateau_ends=st.floats(150, 1500),
    ratio=st.floats(1.6, 5),
    spacing=st.integers(5, 15),
    seed=st.integers(0, 99),
)
def test_the_drop_is_found(plateau_ends: float, ratio: float, spacing: int, seed: int) -> None:
    steps = np.arange(0, 4 * plateau_ends * ratio, spacing).astype(int)
    values = curve(steps, plateau_ends, plateau_ends * ratio, 0.01, seed)
    found = PhaseConfig().detect(steps.tolist(), values.tolist())
    assert isinstance(found, Transition)
    tolerance = 0.15 * plateau_ends * ratio + 2 * spacing
    assert abs(found.start - plateau_ends) < tolerance
    assert abs(found.end - plateau_ends * ratio) < tolerance
    assert plateau_ends * ratio**0.2 - spacing < found.chosen < plateau_ends * ratio**0.8 + spacing
    assert found.before < found.start < found.chosen <= found.end < found.after


def test_a_teacher_that_collapses_is_a_control_while_it_knows() -> None:
    """After the drop the loss rises again, before half of the tail is over; by more, and there are
    no three phases."""
    steps = np.arange(0, 8000, 20)
    values = curve(steps, 400, 1200)
    calm = PhaseConfig().detect(steps.tolist(), values.tolist())
    values[steps > 3000] = 0.25
    found = PhaseConfig().detect(steps.tolist(), values.tolist())
    assert isinstance(calm, Transition) and isinstance(found, Transition)
    assert calm.after > 3000
    assert found.end < found.after <= 3000
    assert found.before < found.start


@pytest.mark.parametrize(
    "values",
    [
        lambda t: 1.05 + 0.5 / (1 + t / 20),  # never leaves the plateau
        lambda t: (1 + t / 10) ** -0.5,  # a power law: no phases
        lambda t: 1.6 - 0.2 * np.log1p(t) / np.log(4000),  # a straight line
    ],
)
def test_curves_without_phases(values) -> None:
    steps = np.arange(0, 4000, 40)
    found = PhaseConfig().detect(steps.tolist(), values(steps).tolist())
    assert isinstance(found, NoTransition), found


def test_too_short_or_broken() -> None:
    assert isinstance(PhaseConfig().detect(list(range(8)), [1.0] * 8), NoTransition)
    assert isinstance(PhaseConfig().detect(list(range(20)), [float("nan")] * 20), NoTransition)


@given(st.lists(st.floats(0, 2), min_size=9, max_size=14), st.integers(2, 3))
def test_pieces_are_the_best_of_all(values: list[float], count: int) -> None:
    """Against every way to place the meeting points, each fitted by numpy."""
    x, y = np.log(np.arange(1, len(values) + 1)), np.asarray(values)
    weight = np.gradient(x)

    def error(i: int, j: int) -> float:
        piece = slice(i, j + 1)
        line = np.polyfit(x[piece], y[piece], 1, w=np.sqrt(weight[piece]))
        return float(np.sum(weight[piece] * (np.polyval(line, x[piece]) - y[piece]) ** 2))

    last = len(values) - 1
    middles = (
        [(i,) for i in range(2, last - 1)]
        if count == 2
        else [(i, j) for i in range(2, last - 3) for j in range(i + 2, last - 1)]
    )
    best = min(
        sum(error(i, j) for i, j in zip((0, *places), (*places, last), strict=True))
        for places in middles
    )
    found = _pieces(x, y, weight, count)
    assert (
        found[0][0] == 0
        and found[-1][1] == last
        and all(a[1] == b[0] for a, b in itertools.pairwise(found))
    )
    assert sum(error(i, j) for i, j in found) == pytest.approx(best, abs=1e-9)


def test_phases_are_found_between_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loss is read at every evaluation; the candidates are the checkpoints nearest to what is
    found there."""
    steps = list(range(0, 2001, 20))
    loss = np.interp(
        np.log(np.maximum(steps, 1)), np.log([1, 50, 300, 600, 2000]), [1.6, 1.05, 1.02, 0.2, 0.15]
    )
    records = [
        {"step": step, "eval_loss": [float(value)]} for step, value in zip(steps, loss, strict=True)
    ]
    run = SimpleNamespace(metrics=lambda: records, manifest={"seeds": [0]})
    saved = (0, 130, 450, 2000)
    monkeypatch.setattr(transitions, "Trajectory", lambda run: SimpleNamespace(steps=lambda: saved))
    (found,) = transitions.transitions(run, PhaseConfig())  # type: ignore[arg-type]
    assert isinstance(found, Transition)
    assert (found.before, found.chosen, found.after) == (130, 450, 2000)
    assert abs(found.start - 300) <= 40 and abs(found.end - 600) <= 40
