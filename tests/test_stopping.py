"""A run that ends once its lanes have learnt: where, and that it is the beginning of the longer
run."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.experiment.requests import RunRequest, student_run, teacher_run
from common.judge.flatness import recent_fall
from common.judge.stats import median
from common.judge.transition import DetectorConfig, Watch
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.runs.tuning import SWEEP_STOP_AFTER
from common.train.stopping import stopping
from parity import train
from parity.data import ParityData
from parity.presets import PRESETS
from parity.spec import SPEC
from tests.conftest import TINY_TEACHER

CURVES = st.lists(
    st.lists(st.sampled_from([0.5, 0.9, 0.996, 1.0]), min_size=2, max_size=2),
    min_size=1,
    max_size=40,
)


@given(
    curves_ExL=CURVES,
    factor=st.floats(1, 5),
    checkpoint_every=st.integers(0, 30),
    eval_every=st.integers(1, 9),
    cut=st.integers(0, 40),
)
def test_the_end_is_a_multiple_of_the_slowest_lanes_step(
    curves_ExL: list[list[float]], factor: float, checkpoint_every: int, eval_every: int, cut: int
) -> None:
    config = TrainingConfig(
        steps=200,
        batch_size=1,
        eval_every=eval_every,
        checkpoint_every=checkpoint_every,
        stop_after=factor,
    )
    records = [
        {"step": i * eval_every, "accuracy": values_L} for i, values_L in enumerate(curves_ExL)
    ]
    # Interrupted at `cut`: what was evaluated before is read back from the file.
    ending = stopping(config, Watch(), [0.1] * 2, records[:cut])
    for record in records[cut:]:
        before = ending.last_step
        ending.observe(record["step"], record["accuracy"])
        assert ending.last_step >= min(record["step"], 200) or ending.last_step == before
    # An evaluation counts if the two after it, too, are above the level.
    is_done_ExL = np.asarray(curves_ExL) > 0.995
    learnt = [
        [i for i in range(len(records) - 2) if is_done_ExL[i : i + 3, lane].all()]
        for lane in range(2)
    ]
    if all(learnt):
        first = max(min(indices) for indices in learnt) * eval_every
        earliest, grid = max(factor * first, first + 2 * eval_every), checkpoint_every or eval_every
        assert ending.last_step == 200 or (
            ending.last_step % grid == 0 and earliest <= ending.last_step < earliest + grid
        )
        assert ending.last_step <= 200
    else:
        assert ending.last_step == 200


@given(
    learnt_at_SxN=st.lists(
        st.lists(st.integers(20, 300), min_size=3, max_size=3), min_size=1, max_size=7
    )
)
def test_a_sweep_ends_when_its_choice_cannot_change(learnt_at_SxN: list[list[int]]) -> None:
    """Lanes that rise in one step: the median times of the shortened sweep choose as those of the
    whole budget do."""
    budget = 250  # and two evaluations more, which confirm what is learnt in the last of it
    rates_L, learnt_at_L = [0.1, 0.2, 0.3] * len(learnt_at_SxN), np.asarray(learnt_at_SxN).ravel()
    config = TrainingConfig(
        steps=budget + 2, batch_size=1, eval_every=1, stop_after=SWEEP_STOP_AFTER
    )
    records = [
        {"step": step, "accuracy": np.where(learnt_at_L <= step, 1.0, 0.5).tolist()}
        for step in range(budget + 3)
    ]
    ending = stopping(config, Watch(), rates_L, ())
    for record in records:
        if record["step"] <= ending.last_step:
            ending.observe(record["step"], record["accuracy"])

    def medians(end: int) -> dict[float, float]:
        times_L = [float(at) if at <= end else math.inf for at in learnt_at_L]
        return {
            rate: median(
                [time for time, other in zip(times_L, rates_L, strict=True) if other == rate]
            )
            for rate in (0.1, 0.2, 0.3)
        }

    whole, shortened = medians(budget), medians(ending.last_step)
    assert min(shortened.values()) == min(whole.values())
    assert min(shortened, key=shortened.__getitem__) == min(whole, key=whole.__getitem__)
    if math.isinf(min(whole.values())):
        assert ending.last_step == budget + 2


def test_a_blip_does_not_end_a_run() -> None:
    """One evaluation without errors, or two, then chance again: it has not learnt."""
    config = TrainingConfig(steps=400, batch_size=1, eval_every=10, stop_after=2.0)
    curve = [0.5, 1.0, 0.5, 1.0, 1.0, 0.5, 0.7, 1.0, 1.0, 1.0]
    ending = stopping(
        config,
        Watch(),
        [0.1],
        [{"step": 10 * i, "accuracy": [value]} for i, value in enumerate(curve[:-1])],
    )
    assert ending.last_step == 400
    ending.observe(90, [curve[-1]])
    assert ending.last_step == 140


@pytest.mark.parametrize(
    ("rates", "who"),
    [(("0.1", "0.2"), "the median lane of the best learning rate"), (("0.1",), "every lane")],
)
def test_a_dry_run_says_when_it_may_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rates: tuple[str, ...], who: str
) -> None:
    train.main(
        [
            "--run-dir",
            str(tmp_path),
            *TINY_TEACHER,
            "--optim.learning-rate",
            *rates,
            "--training.stop-after",
            "1.5",
            "--dry-run",
        ]
    )
    assert f"1.5 times the steps by which {who} has learnt" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )


def test_a_falling_metric_ends_a_run_too() -> None:
    """The loss of a plateau at 0.8, half of which is gone from the slower lane's fourth evaluation
    on; a lane that diverged has not learnt."""
    config = TrainingConfig(steps=200, batch_size=1, eval_every=10, stop_after=2.0)
    watch = Watch(
        "eval_loss", DetectorConfig(0.8, 0.0, begin=0.06, enter=0.06, leave=0.5, done=0.5)
    )
    curves = (
        [1.5, 0.8, 0.3, 0.2, 0.1, 0.1],
        [0.9, 0.7, 0.5, 0.39, 0.38, 0.37],
        [1.0, 0.9, None, None, None, None],
    )
    records = [
        {"step": 10 * i, "accuracy": [1.0] * 3, "eval_loss": list(values_L)}
        for i, values_L in enumerate(zip(*curves, strict=True))
    ]
    assert stopping(config, watch, [0.1] * 3, records).last_step == 200
    two = [record | {"eval_loss": record["eval_loss"][:2]} for record in records]
    assert stopping(config, watch, [0.1] * 2, two).last_step == 60


@given(
    curves_ExL=st.lists(
        st.lists(st.sampled_from([1.0, 1.004, 1.1, None, math.inf]), min_size=2, max_size=2),
        min_size=1,
        max_size=60,
    ),
    checkpoint_every=st.sampled_from([0, 70]),
    cut=st.integers(0, 60),
)
def test_a_flat_loss_ends_a_run(
    curves_ExL: list[list[float | None]], checkpoint_every: int, cut: int
) -> None:
    """At the first evaluation, a quarter of the budget done, at which it is flat in every lane."""
    config = TrainingConfig(
        steps=400,
        batch_size=1,
        eval_every=10,
        checkpoint_every=checkpoint_every,
        stop_when_flat=0.005,
    )
    records = [
        {"step": 10 * i, "eval_loss": values_L} for i, values_L in enumerate(curves_ExL[:41])
    ]
    ending = stopping(config, Watch(), [0.1] * 2, records[:cut])
    for record in records[cut:]:
        ending.observe(record["step"], record["eval_loss"])

    def quarter(step: int, number: int, lane: int) -> list[float]:
        first, last = (number - 1) * step / 4, number * step / 4
        inside = [record for record in records if first < record["step"] <= last]
        return [
            math.nan if record["eval_loss"][lane] in (None, math.inf) else record["eval_loss"][lane]
            for record in inside
        ]

    def is_flat(step: int) -> bool:
        falls = [
            np.mean(quarter(step, 3, lane)) - np.mean(quarter(step, 4, lane)) for lane in range(2)
        ]
        return all(fall < 0.005 for fall in falls)

    flat = [record["step"] for record in records if record["step"] >= 100]
    first = next((step for step in flat if is_flat(step)), 400)
    grid = checkpoint_every or 10
    assert ending.last_step == min(math.ceil(first / grid) * grid, 400)


def test_a_fall_of_the_mean_from_quarter_to_quarter() -> None:
    assert recent_fall([0, 1, 2, 3, 4], [9.0, 8.0, 7.0, 5.0, 4.0]) == 1.0
    lanes_ExL = [[9.0, 1.0], [8.0, 1.0], [7.0, 1.0], [5.0, 1.0], [4.0, 3.0]]
    assert recent_fall([0, 1, 2, 3, 4], lanes_ExL).tolist() == [1.0, -2.0]
    assert np.isnan(recent_fall([0, 10], [1.0, 1.0]))


def test_a_run_ends_for_one_reason() -> None:
    with pytest.raises(ValueError, match="both say when the run ends"):
        TrainingConfig(steps=10, batch_size=1, eval_every=1, stop_after=2.0, stop_when_flat=0.1)


def test_a_run_that_learns_nothing_ends_after_a_quarter(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*TINY_TEACHER, "--optim.learning-rate", "1e-9", "--training.stop-when-flat", "0.005"]
    train.main(["--run-dir", str(tmp_path), *words, "--dry-run"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "once the loss of a quarter of the steps lies by less than 0.005 below" in said
    train.main(["--run-dir", str(tmp_path), *words])
    run = RunDirectory(tmp_path)
    steps = run.record["config"]["training"]["steps"]
    assert run.metrics()[-1]["step"] == Trajectory(run).steps()[-1] == steps / 4


def test_students_of_a_tree_start_from_its_chance() -> None:
    """Of four labels; teacher and student look at the same part of the way."""
    config = replace(PRESETS["quick"].config.student, data=ParityData(8, 2, depth=2), schedule="ce")
    of_teacher = replace(PRESETS["quick"].config.teacher, data=config.data)
    stage = student_run(SPEC, RunRequest(config, Path("run")))
    teacher = teacher_run(SPEC, RunRequest(of_teacher, Path("run")))
    assert stage.watch == teacher.watch == Watch("accuracy", DetectorConfig(floor=0.25))
    assert stage.record["config"]["detector"]["floor"] == 0.25


def test_a_run_that_ends_early_is_the_beginning_of_the_longer_one(tmp_path: Path) -> None:
    args = [*TINY_TEACHER, "--training.eval-every", "8", "--training.checkpoint-every", "64"]
    train.main(["--run-dir", str(tmp_path / "long"), *args])
    train.main(["--run-dir", str(tmp_path / "short"), *args, "--training.stop-after", "1.25"])
    long, short = (RunDirectory(tmp_path / name) for name in ("long", "short"))
    steps = [record["step"] for record in long.metrics()]
    is_done_ExL = np.asarray([record["accuracy"] for record in long.metrics()]) > 0.995
    learnt_at = steps[
        max(
            next(i for i in range(len(steps)) if is_done_ExL[i : i + 3, lane].all())
            for lane in range(2)
        )
    ]
    expected = -(-int(1.25 * learnt_at) // 64) * 64
    assert expected < long.metrics()[-1]["step"], (
        "the test needs a run that learns well before its end"
    )
    assert short.metrics() == [record for record in long.metrics() if record["step"] <= expected]
    steps = Trajectory(short).steps()
    assert steps[-1] == expected
    for step in steps:
        for ours, theirs in zip(
            *(Trajectory(run).restore(step) for run in (short, long)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
