"""Supervision schedules against the formulas that define them."""

import json
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.base.errors import UserError
from common.train import schedule
from common.train.schedule import FixedSchedule, ScheduleConfig

steps = st.integers(1, 300)


def expand(built: FixedSchedule, total: int) -> list[int | None]:
    return [built.teacher_step(t, {}) for t in range(total)]


def check_cover(built: FixedSchedule, total: int) -> None:
    assert built.segments[0].start == 0
    assert built.segments[-1].stop == total
    assert all(a.stop == b.start for a, b in zip(built.segments, built.segments[1:], strict=False))
    assert all(segment.stop > segment.start for segment in built.segments)
    for t in range(total):
        change = built.next_change(t)
        assert change > t
        assert change == total or built.teacher_step(change, {}) != built.teacher_step(t, {})


@given(
    total=steps,
    last=st.integers(1, 400),
    interval=st.integers(1, 60),
    speed=st.integers(1, 4),
    first=st.none() | st.integers(0, 500),
)
def test_progressive(total: int, last: int, interval: int, speed: int, first: int | None) -> None:
    built = schedule.progressive(total, last, interval, speed, first)
    check_cover(built, total)
    begin = speed * interval if first is None else first
    assert expand(built, total) == [
        min(begin + speed * (t // interval) * interval, last) for t in range(total)
    ]


def test_progressive_begins_where_it_is_told_to() -> None:
    expected_of: dict[Literal["untrained", "transition"], list[int]] = {
        "untrained": [20, 40, 60],
        "transition": [50, 70, 90],
    }
    for begin, expected in expected_of.items():
        config = ScheduleConfig(interval=10, speed=2, begin=begin)
        assert schedule.reads_transition("progressive", config) == (begin == "transition")
        built = schedule.build("progressive", config, 30, 100, 50)
        assert [built.teacher_step(t, {}) for t in (0, 10, 20)] == expected
    with pytest.raises(ValueError, match="progressive needs its first teacher checkpoint"):
        schedule.build("progressive", ScheduleConfig(begin="transition"), 30, 100, None)
    assert schedule.reads_transition("two-shot", ScheduleConfig())
    assert not schedule.reads_transition("one-shot", ScheduleConfig(begin="transition"))


@given(total=steps, last=st.integers(1, 400))
def test_ce_and_one_shot(total: int, last: int) -> None:
    assert expand(schedule.ce(total), total) == [None] * total
    assert expand(schedule.one_shot(total, last), total) == [last] * total


@given(
    total=steps,
    last=st.integers(100, 400),
    first_step=st.integers(0, 99),
    duration=st.integers(1, 400),
)
@example(total=80, last=100, first_step=40, duration=80)
@example(total=80, last=100, first_step=40, duration=79)
def test_two_shot(total: int, last: int, first_step: int, duration: int) -> None:
    built = schedule.two_shot(total, last, first_step, duration)
    check_cover(built, total)
    assert expand(built, total) == ([first_step] * duration + [last] * total)[:total]


def saturate(accuracies: list[float], patience: int = 10**9, averaged: int = 3) -> list[int]:
    """The teacher step in use after each evaluation, one evaluation every 10 steps."""
    built = schedule.till_saturate(
        1000,
        300,
        ScheduleConfig(interval=100, averaged=averaged, threshold=0.01, patience=patience),
    )
    state, used = built.initial_state(), []
    for i, accuracy in enumerate(accuracies):
        state = json.loads(
            json.dumps(built.observe(10 * i, accuracy, state))
        )  # as it goes through the manifest
        used.append(built.teacher_step(10 * i, state))
    return used


@given(last=st.integers(1, 400), interval=st.integers(1, 60), speed=st.integers(1, 4))
def test_till_saturate_has_the_checkpoints_of_progressive(
    last: int, interval: int, speed: int
) -> None:
    config = ScheduleConfig(interval=interval, speed=speed)
    every = schedule.progressive(50_000, last, interval, speed).possible_teacher_steps()
    assert schedule.till_saturate(100, last, config).possible_teacher_steps() == every


def test_till_saturate_waits_for_a_rise() -> None:
    assert saturate([0.5] * 30) == [100] * 30


def test_till_saturate_advances_when_the_rise_ends() -> None:
    used = saturate([0.5] * 5 + [0.5 + 0.05 * i for i in range(1, 6)] + [0.75] * 12)
    assert used[9] == 100, "still rising"
    assert 200 in used
    assert used[-1] == 200, "one rise, one change: after it the accuracy has not risen again"


def test_till_saturate_has_patience_and_an_end() -> None:
    used = saturate([0.5] * 30, patience=50)
    assert used[4] == 100
    assert used[5] == 200
    assert used[10] == 300
    assert used[-1] == 300


@given(st.lists(st.floats(0, 1), max_size=60))
def test_till_saturate_never_goes_back(accuracies: list[float]) -> None:
    used = saturate(accuracies, patience=100)
    assert used == sorted(used)
    assert set(used) <= {100, 200, 300}


def test_build_needs_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs a teacher"):
        schedule.build("progressive", ScheduleConfig(), 10, None, None)
    flags: dict[schedule.ScheduleName, str] = {
        "two-shot": "first-steps",
        "projections": "projection-steps",
    }
    for name, flag in flags.items():
        with pytest.raises(UserError, match=f"--schedule {name} needs --supervision.{flag}"):
            schedule.build(name, ScheduleConfig(), 10, 100, 60)
    built = schedule.build("two-shot", ScheduleConfig(first_steps=4), 10, 100, 60)
    assert expand(built, 10) == [60] * 4 + [100] * 6  # type: ignore[arg-type]
