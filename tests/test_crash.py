"""Processes killed and preempted at random moments: the same command goes on and ends with the same
bits."""

import re
import subprocess
import sys
import time
from pathlib import Path

from common.runs.directory import RunDirectory
from tests.commands import REPOSITORY
from tests.conftest import TINY_TEACHER


def test_signals_at_random_moments() -> None:
    """A short round of `python -m tests.endurance`; at least ten processes are stopped while they
    work. On a busy machine many runs are over before anybody has looked, so that more are
    started."""
    command = [sys.executable, "-m", "tests.endurance", "--starts", "24", "--seed", "0"]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) of 24 starts .* the same bits.* under (\d+) looks", done.stdout)
    assert found is not None, done.stdout
    stopped, looks = map(int, found.groups())
    assert stopped >= 10
    assert looks > 10


def test_sigterm_saves_and_stops(tmp_path: Path) -> None:
    args = [*TINY_TEACHER, "--training.steps", "100000", "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "parity.train", *args],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "64").exists():
        time.sleep(0.05)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in message
    assert "goes on from there" in message
    assert "Traceback" not in message
    assert RunDirectory(tmp_path / "run").manifest["resume"]["step"] >= 64
