"""The ring of recent checkpoints: what it keeps of a curve, and that a run keeps just that."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from common.experiment.requests import RunRequest, teacher_run
from common.judge.transition import DetectorConfig
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train import ring
from parity import train
from parity.presets import PRESETS
from parity.spec import SPEC
from tests.conftest import TINY_TEACHER

DETECTOR = DetectorConfig()


def kept_of(curves_LxE: list[list[float]], size: int) -> set[int]:
    state, kept = ring.initial_state(len(curves_LxE)), set()
    for step, values_L in enumerate(zip(*curves_LxE, strict=True)):
        state, now = ring.observe(state, step, values_L, size, DETECTOR)
        assert len(state["waiting"]) <= size
        assert len(kept) + len(now) <= ring.most_kept(len(curves_LxE), size)
        state = json.loads(json.dumps(state))  # as it goes through the manifest
        assert not kept & set(now), "kept twice"
        kept |= set(now)
    return kept


@given(
    flat=st.integers(0, 30),
    rise=st.integers(1, 20),
    rest=st.integers(0, 20),
    size=st.integers(1, 12),
)
def test_a_rise_is_kept_whole_with_what_came_before(
    flat: int, rise: int, rest: int, size: int
) -> None:
    curve = [0.5] * flat + [0.5 + 0.5 * i / rise for i in range(1, rise + 1)] + [1.0] * rest
    sure = next(
        i for i, value in enumerate(curve) if value > 0.995 or (i and curve[i - 1] > 0.53 < value)
    )
    done = next(i for i, value in enumerate(curve) if value > 0.995)
    kept = range(max(0, sure - size), min(done + 3, len(curve)))  # until the finish has lasted
    assert kept_of([curve], size) == set(kept[: 5 * size])


@given(st.lists(st.floats(0.4, 0.53), max_size=60), st.integers(1, 10))
def test_nothing_is_kept_of_a_curve_that_never_rises(curve: list[float], size: int) -> None:
    assert not kept_of([curve], size)


def test_a_false_start_ends_and_the_ring_goes_on() -> None:
    curve = [0.5] * 10 + [0.55, 0.55] + [0.5] * 10 + [0.6, 0.8, 1.0] + [1.0] * 5
    assert kept_of([curve], 3) == {8, 9, 10, 11} | set(range(20, 27))


def test_a_blip_to_the_ceiling_is_no_finish() -> None:
    """What follows it is still watched: the transition itself is kept."""
    curve = [0.5] * 5 + [1.0] + [0.5] * 10 + [0.6, 0.8, 1.0] + [1.0] * 5
    assert kept_of([curve], 2) == {3, 4, 5} | set(range(15, 21))


def test_a_blip_keeps_nothing() -> None:
    curve = [0.5, 0.55] * 20 + [0.5] * 10 + [0.6, 0.8, 1.0] + [1.0] * 5
    assert kept_of([curve], 3) == set(range(48, 55))


@given(stall=st.integers(1, 400), size=st.integers(1, 12))
def test_a_lane_that_stalls_does_not_fill_the_disk(stall: int, size: int) -> None:
    stalled, late = (
        [0.5] * 20 + [0.7] * (stall + 40),
        [0.5] * (stall + 40) + [0.7] * 10 + [1.0] * 10,
    )
    kept = kept_of([stalled, late], size)
    assert len(kept) <= 10 * size
    assert kept == set(range(21 - min(size, 21), 60 + stall)[: 10 * size])


@given(size=st.integers(1, 5), every=st.sampled_from([1, 4]))
def test_the_disk_is_asked_for_all_that_may_be_kept(size: int, every: int) -> None:
    def wanted(**ring: int) -> int:
        config = PRESETS["quick"].config.teacher
        training = replace(
            config.training, steps=512, eval_every=1, checkpoint_every=0, num_seeds=2, **ring
        )
        request = RunRequest(replace(config, training=training), Path("run"))
        return teacher_run(SPEC, request).bytes_to_write()

    one_checkpoint = 2 * 4 * (32 * 1000 + 1000 + 1000 * 2 + 2)
    assert (
        wanted(ring_every=every, ring_size=size) - wanted()
        == min(10 * size + size + 1, 512 // every) * one_checkpoint
    )


def test_every_lane_counts() -> None:
    early = [0.5] * 5 + [0.7, 1.0] + [1.0] * 23
    late = [0.5] * 20 + [0.7, 1.0] + [1.0] * 8
    assert kept_of([early, late], 2) == set(range(4, 9)) | set(range(19, 24))


def test_a_run_keeps_its_transition_finely(tmp_path: Path, refused: Callable[..., str]) -> None:
    args = [
        *TINY_TEACHER,
        "--training.eval-every",
        "4",
        "--training.checkpoint-every",
        "128",
        "--training.ring-size",
        "3",
    ]
    train.main(["--run-dir", str(tmp_path / "run"), *args, "--training.ring-every", "4"])
    run = RunDirectory(tmp_path / "run")
    records = run.metrics()
    curves = [[record["accuracy"][lane] for record in records] for lane in range(2)]
    expected = {records[i]["step"] for i in kept_of(curves, 3)}
    assert len(expected) > 4
    assert set(Trajectory(run).steps()) == {0, 128, 256} | expected
    assert not run.manifest["waiting"]
    assert not Trajectory(run).problems()
    assert {int(path.name) for path in (run.path / "checkpoints").iterdir()} == set(
        Trajectory(run).steps()
    )
    assert "multiple of training.eval_every" in refused(
        train.main, "--run-dir", tmp_path / "other", *args, "--training.ring-every", "6"
    )
