"""What users see: operating-system errors as advice with an exit code, progress only on a terminal."""

import errno
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from common import progress
from common.errors import explain_os_error, without_late_callbacks
from tests.commands import run_module
from tests.conftest import TINY_TEACHER


@pytest.mark.parametrize(
    ("code", "exit_code", "advice"),
    [
        (errno.EACCES, 2, "no permission to read or write (runs/x); check the owner and mode"),
        (errno.EROFS, 2, "no permission to read or write (runs/x)"),
        (errno.ENOTDIR, 2, "choose another path"),
        (errno.ENOSPC, 1, "the disk is full, or your quota is used up (runs/x); free some space"),
        (errno.EDQUOT, 1, "the disk is full, or your quota is used up (runs/x); free some space"),
        (errno.EIO, 1, "the operating system refused (runs/x)"),
    ],
)
def test_operating_system_errors(code: int, exit_code: int, advice: str) -> None:
    error = explain_os_error(OSError(code, os.strerror(code), "runs/x"))
    assert error.exit_code == exit_code
    assert advice in str(error)


def test_progress_is_silent_where_there_is_no_terminal(tmp_path: Path) -> None:
    result = run_module("parity.train", "--run-dir", tmp_path / "run", *TINY_TEACHER)
    assert result.returncode == 0
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if line.strip()] == [result.stderr.strip()]
    assert "256 steps x 2 lanes" in result.stderr


def test_progress_shows_rate_and_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w+") as file:
        monkeypatch.setattr(progress, "Console", lambda **_: Console(file=file, force_terminal=True, width=140))
        with progress.progress_bar("run", 100, per_unit=32, rate_unit="examples") as update:
            update(50)
            update(100)
        shown = (tmp_path / "terminal").read_text()
    assert "100/100" in shown
    assert "examples/s" in shown
    assert "0:00:" in shown


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a closed terminal answers to every write."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=Closed(), force_terminal=True))
    with progress.progress_bar("run", 100) as update:
        update(50)


def test_only_late_callbacks_are_silent() -> None:
    reported: list[str] = []
    hook = without_late_callbacks(lambda unraisable: reported.append(str(unraisable.exc_value)))
    for error in (RuntimeError("Event loop is closed"), RuntimeError("other"), ValueError("Event loop is closed")):
        hook(SimpleNamespace(exc_value=error))
    assert reported == ["other", "Event loop is closed"]
