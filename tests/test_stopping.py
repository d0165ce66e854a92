"""A run that ends once its lanes have learnt: where, and that it is the beginning of the longer run."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.config import TrainingConfig
from common.runs import RunDirectory
from common.stopping import Stopping
from common.trajectory import Trajectory
from common.transition import DetectorConfig
from parity import train
from tests.conftest import TINY_TEACHER

CURVES = st.lists(st.lists(st.sampled_from([0.5, 0.9, 0.996, 1.0]), min_size=2, max_size=2), min_size=1, max_size=40)


@given(curves_TxL=CURVES, factor=st.floats(1, 5), checkpoint_every=st.integers(0, 30), eval_every=st.integers(1, 9), cut=st.integers(0, 40))
def test_the_end_is_a_multiple_of_the_slowest_lanes_step(
    curves_TxL: list[list[float]], factor: float, checkpoint_every: int, eval_every: int, cut: int
) -> None:
    config = TrainingConfig(steps=200, batch_size=1, eval_every=eval_every, checkpoint_every=checkpoint_every, stop_after=factor)
    records = [{"step": i * eval_every, "accuracy": values_L} for i, values_L in enumerate(curves_TxL)]
    # Interrupted at `cut`: what was evaluated before is read back from the file.
    stopping = Stopping(config, DetectorConfig(), 2, records[:cut])
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
