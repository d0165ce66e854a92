"""A finished run as a teacher: its checkpoints are read once, ahead of time, and few are kept."""

import threading
from pathlib import Path

import numpy as np
import pytest

from common.judge.transition import Transition
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.teach.teacher import TeacherRun
from parity import distill
from tests.conftest import TINY_STUDENT


def test_progressive_reads_each_checkpoint_once_and_ahead(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, bool]] = []
    restore = Trajectory.restore

    def counted(self: Trajectory, step: int) -> Params:
        read.append((step, threading.current_thread() is threading.main_thread()))
        return restore(self, step)

    monkeypatch.setattr(Trajectory, "restore", counted)
    distill.main(
        [
            "--run-dir",
            str(tmp_path / "s"),
            "--teacher",
            str(tiny_teacher),
            *TINY_STUDENT,
            "--schedule",
            "progressive",
        ]
    )
    assert read == [(step, False) for step in range(16, 257, 16)]
    assert RunDirectory(tmp_path / "s").finished


def test_prefetched_checkpoints_are_the_right_ones(tiny_teacher: Path) -> None:
    teacher = TeacherRun(RunDirectory(tiny_teacher), [0, 1, 1], None)
    trajectory = Trajectory(RunDirectory(tiny_teacher))
    teacher.prefetch([32, 64])
    for lane, step in ((0, 32), (1, 64), (2, 16)):
        stacked = teacher.stacked([(lane, step), (0, 48)])
        np.testing.assert_array_equal(
            stacked["hidden"]["kernel"][0],
            trajectory.restore(step)["hidden"]["kernel"][min(lane, 1)],
        )
        np.testing.assert_array_equal(
            stacked["hidden"]["kernel"][1], trajectory.restore(48)["hidden"]["kernel"][0]
        )
        assert set(teacher._loading) == {step, 48}


def test_phases_are_found_between_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is read at every evaluation; the candidates are the checkpoints nearest to what is
    found there."""
    from types import SimpleNamespace

    from common.judge.phases import PhaseConfig
    from common.teach import teacher

    steps = list(range(0, 2001, 20))
    loss = np.interp(
        np.log(np.maximum(steps, 1)), np.log([1, 50, 300, 600, 2000]), [1.6, 1.05, 1.02, 0.2, 0.15]
    )
    records = [
        {"step": step, "eval_loss": [float(value)]} for step, value in zip(steps, loss, strict=True)
    ]
    run = SimpleNamespace(metrics=lambda: records, manifest={"seeds": [0]})
    saved = (0, 130, 450, 2000)
    monkeypatch.setattr(teacher, "Trajectory", lambda run: SimpleNamespace(steps=lambda: saved))
    (found,) = teacher.transitions(run, PhaseConfig())  # type: ignore[arg-type]
    assert isinstance(found, Transition)
    assert (found.before, found.chosen, found.after) == (130, 450, 2000)
    assert abs(found.start - 300) <= 40 and abs(found.end - 600) <= 40
