"""A run that ends once its lanes have learnt: where, and that it is the beginning of the longer run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.config import TrainingConfig
from common.runs import RunDirectory
from common.stopping import Stopping
from common.trajectory import Trajectory
from common.transition import DetectorConfig, Watch
from parity import distill, train
from parity.data import ParityData
from parity.presets import PRESETS
from tests.conftest import TINY_TEACHER

CURVES = st.lists(st.lists(st.sampled_from([0.5, 0.9, 0.996, 1.0]), min_size=2, max_size=2), min_size=1, max_size=40)


@given(curves_TxL=CURVES, factor=st.floats(1, 5), checkpoint_every=st.integers(0, 30), eval_every=st.integers(1, 9), cut=st.integers(0, 40))
def test_the_end_is_a_multiple_of_the_slowest_lanes_step(
    curves_TxL: list[list[float]], factor: float, checkpoint_every: int, eval_every: int, cut: int
) -> None:
    config = TrainingConfig(steps=200, batch_size=1, eval_every=eval_every, checkpoint_every=checkpoint_every, stop_after=factor)
    records = [{"step": i * eval_every, "accuracy": values_L} for i, values_L in enumerate(curves_TxL)]
    # Interrupted at `cut`: what was evaluated before is read back from the file.
    stopping = Stopping(config, Watch(), 2, records[:cut])
    for record in records[cut:]:
        before = stopping.last_step
        stopping.observe(record["step"], record["accuracy"])
        assert stopping.last_step >= min(record["step"], 200) or stopping.last_step == before
    learnt = [[record["step"] for record in records if record["accuracy"][lane] > 0.995] for lane in range(2)]
    if all(learnt):
        earliest = factor * max(min(steps) for steps in learnt)
        grid = checkpoint_every or eval_every
        assert stopping.last_step == 200 or (stopping.last_step % grid == 0 and earliest <= stopping.last_step < earliest + grid)
        assert stopping.last_step <= 200
    else:
        assert stopping.last_step == 200


def test_a_falling_metric_ends_a_run_too() -> None:
    """The loss of a plateau at 0.8, half of which is gone at the fourth evaluation of the slower lane; a lane that diverged has not learnt."""
    config = TrainingConfig(steps=200, batch_size=1, eval_every=10, stop_after=2.0)
    watch = Watch("eval_loss", DetectorConfig(0.8, 0.0, begin=0.06, enter=0.06, leave=0.5, done=0.5))
    curves = ([1.5, 0.8, 0.3, 0.2, 0.1], [0.9, 0.7, 0.5, 0.39, 0.38], [1.0, 0.9, None, None, None])
    records = [{"step": 10 * i, "accuracy": [1.0] * 3, "eval_loss": list(values_L)} for i, values_L in enumerate(zip(*curves, strict=True))]
    assert Stopping(config, watch, 3, records).last_step == 200
    two = [record | {"eval_loss": record["eval_loss"][:2]} for record in records]
    assert Stopping(config, watch, 2, two).last_step == 60


def test_students_of_a_tree_start_from_its_chance() -> None:
    """Of four labels; teacher and student look at the same part of the way."""
    config = replace(PRESETS["quick"].config.student, data=ParityData(8, 2, depth=2), schedule="ce")
    stage, _ = distill.distill_stage(distill.DistillCommand(config=config, run_dir=Path("run")))
    teacher = train.train_stage(train.TrainCommand(config=replace(PRESETS["quick"].config.teacher, data=config.data), run_dir=Path("run")))
    assert stage.watch == teacher.watch == Watch("accuracy", DetectorConfig(floor=0.25))
    assert stage.record["config"]["detector"]["floor"] == 0.25


def test_a_run_that_ends_early_is_the_beginning_of_the_longer_one(tmp_path: Path) -> None:
    args = [*TINY_TEACHER, "--training.eval-every", "8", "--training.checkpoint-every", "64"]
    train.main(["--run-dir", str(tmp_path / "long"), *args])
    train.main(["--run-dir", str(tmp_path / "short"), *args, "--training.stop-after", "1.25"])
    long, short = (RunDirectory(tmp_path / name) for name in ("long", "short"))
    learnt_at = max(next(record["step"] for record in long.metrics() if record["accuracy"][lane] > 0.995) for lane in range(2))
    expected = -(-int(1.25 * learnt_at) // 64) * 64
    assert expected < long.metrics()[-1]["step"], "the test needs a run that learns well before its end"
    assert short.metrics() == [record for record in long.metrics() if record["step"] <= expected]
    steps = Trajectory(short).steps()
    assert steps[-1] == expected
    for step in steps:
        for ours, theirs in zip(*(Trajectory(run).restore(step) for run in (short, long)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
