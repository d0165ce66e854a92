"""A finished run as a teacher: its checkpoints are read once, ahead of time, and few are kept."""

import threading
from pathlib import Path

import numpy as np
import pytest

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
