"""What users see: operating-system errors as advice with an exit code, progress only on a
terminal."""

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from rich.console import Console

from common.base import progress
from common.base.environment import prepare_streams
from common.base.errors import UserError, explain_os_error, run_command, without_late_callbacks
from common.runs import __main__ as show
from tests.commands import REPOSITORY, run_module
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


def test_progress_shows_rate_and_time_left_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "terminal").open("w+") as file:
        monkeypatch.setattr(
            progress, "Console", lambda **_: Console(file=file, force_terminal=True, width=140)
        )
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

    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=Closed(), force_terminal=True)
    )
    with progress.progress_bar("run", 100) as update:
        update(50)


def test_a_device_that_is_not_there_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="our own"):  # a defect keeps its traceback
        run_command(_defect)

    def devices() -> None:
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(SystemExit) as stop:
        run_command(_defect)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "JAX cannot start (no such device is found)" in message
    assert "JAX_PLATFORMS=cuda" in message


def _defect(_: list[str]) -> None:
    raise RuntimeError("our own")


@pytest.mark.parametrize(
    ("variable", "value", "module"),
    [
        ("JAX_NUM_CPU_DEVICES", "abc", "common.runs"),
        ("JAX_PLATFORMS", "cuda", "parity.train"),
    ],
)
def test_variables_that_jax_cannot_use_are_one_message(
    tmp_path: Path, variable: str, value: str, module: str
) -> None:
    """Python is started for it, because JAX reads them when it is imported."""
    arguments = (
        ["--run-dir", str(tmp_path / "run"), *TINY_TEACHER]
        if module == "parity.train"
        else [str(tmp_path)]
    )
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert f"{variable}={value}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_text_that_a_stream_cannot_show_is_escaped(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["common.runs", str(tmp_path / "läufe")])
    shutil.copytree(tiny_teacher, tmp_path / "läufe")
    run_command(show.main)
    lines = printed.getvalue().decode("ascii").splitlines()
    assert lines[0].endswith("l\\xe4ufe")
    assert any("finished in" in line for line in lines)


def test_paths_that_are_no_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orbax cannot write to them, nor read from them, and would call their checkpoints damaged."""
    undecodable = os.fsdecode(os.fsencode(tmp_path) + b"/l\xe4ufe")
    monkeypatch.setattr(sys, "argv", ["parity.train", "--run-dir", undecodable])
    with pytest.raises(SystemExit) as stop:
        run_command(_defect)
    assert stop.value.code == 2
    assert (
        "l\\udce4ufe: bytes that are no text in this locale; set PYTHONUTF8=1"
        in capsys.readouterr().err.replace("\n", "")
    )
    monkeypatch.setattr(sys, "argv", ["common.runs", "."])
    Path(undecodable).mkdir()
    monkeypatch.chdir(undecodable)
    with pytest.raises(SystemExit):
        run_command(_defect)


def test_checkpoints_are_not_called_damaged_where_jax_cannot_start(
    tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices() -> None:
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", lambda *_, **__: devices())
    with pytest.raises(UserError, match="JAX cannot start"):
        show.main([str(tiny_teacher), "--verify"])


def test_a_stream_that_was_closed_leads_nowhere() -> None:
    """So that no file gets its number, and with it what libraries print."""
    kept = os.dup(0)
    try:
        os.close(0)
        prepare_streams()
        with Path(os.devnull).open() as file:
            assert file.fileno() > 2
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_output_that_cannot_be_written_is_one_message() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with full.open("w") as nowhere:
        command = [sys.executable, "-m", "common.export", "--help"]
        result = subprocess.run(
            command, cwd=REPOSITORY, stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert "Exception ignored" not in result.stderr


def test_only_late_callbacks_are_silent() -> None:
    reported: list[str] = []
    hook = without_late_callbacks(lambda unraisable: reported.append(str(unraisable.exc_value)))
    for error in (
        RuntimeError("Event loop is closed"),
        RuntimeError("other"),
        ValueError("Event loop is closed"),
    ):
        hook(SimpleNamespace(exc_value=error))
    assert reported == ["other", "Event loop is closed"]
