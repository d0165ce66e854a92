"""The ring of recent checkpoints: what it keeps of a curve, and that a run keeps just that."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from common import ring
from common.runs import RunDirectory
from common.trajectory import Trajectory
from common.transition import DetectorConfig
from parity import train
from tests.conftest import TINY_TEACHER

DETECTOR = DetectorConfig()


def kept_of(curves_LxT: list[list[float]], size: int) -> set[int]:
    state, kept = ring.initial_state(len(curves_LxT)), set()
    for step, values_L in enumerate(zip(*curves_LxT, strict=True)):
        state, now = ring.observe(state, step, values_L, size, DETECTOR)
        assert len(state["waiting"]) <= size
        assert not kept & set(now), "kept twice"
        kept |= set(now)
    return kept


@given(flat=st.integers(0, 30), rise=st.integers(1, 20), rest=st.integers(0, 20), size=st.integers(1, 12))
def test_a_rise_is_kept_whole_with_what_came_before(flat: int, rise: int, rest: int, size: int) -> None:
    curve = [0.5] * flat + [0.5 + 0.5 * i / rise for i in range(1, rise + 1)] + [1.0] * rest
    begun = next(i for i, value in enumerate(curve) if value > 0.53)
    done = next(i for i, value in enumerate(curve) if value > 0.995)
    assert kept_of([curve], size) == set(range(max(0, begun - size), done + 1))


@given(st.lists(st.floats(0.4, 0.53), max_size=60), st.integers(1, 10))
def test_nothing_is_kept_of_a_curve_that_never_rises(curve: list[float], size: int) -> None:
    assert not kept_of([curve], size)


def test_a_false_start_ends_and_the_ring_goes_on() -> None:
    curve = [0.5] * 10 + [0.55] + [0.5] * 10 + [0.6, 0.8, 1.0] + [1.0] * 5
    assert kept_of([curve], 3) == {7, 8, 9, 10} | {18, 19, 20, 21, 22, 23}


def test_every_lane_counts() -> None:
    early = [0.5] * 5 + [0.7, 1.0] + [1.0] * 23
    late = [0.5] * 20 + [0.7, 1.0] + [1.0] * 8
    assert kept_of([early, late], 2) == {3, 4, 5, 6} | {18, 19, 20, 21}


def test_a_run_keeps_its_transition_finely(tmp_path: Path, refused: Callable[..., str]) -> None:
    args = [*TINY_TEACHER, "--training.eval-every", "4", "--training.checkpoint-every", "128", "--training.ring-size", "3"]
    train.main(["--run-dir", str(tmp_path / "run"), *args, "--training.ring-every", "4"])
    run = RunDirectory(tmp_path / "run")
    records = run.metrics()
    curves = [[record["accuracy"][lane] for record in records] for lane in range(2)]
    expected = {records[i]["step"] for i in kept_of(curves, 3)}
    assert len(expected) > 4
    assert set(Trajectory(run).steps()) == {0, 128, 256} | expected
    assert not run.manifest["waiting"]
    assert not Trajectory(run).problems()
    assert {int(path.name) for path in (run.path / "checkpoints").iterdir()} == set(Trajectory(run).steps())
    assert "multiple of training.eval_every" in refused(train.main, "--run-dir", tmp_path / "other", *args, "--training.ring-every", "6")
