"""Signals: every one of them saves and stops, a second Ctrl-C ends at once, and the last words are
true."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.base.config import Runtime
from common.base.interruption import STOP_SIGNALS, Preempted, ending, noting, telling
from common.experiment import plan
from common.runs.directory import RunDirectory
from common.runs.probing import opened_probe
from common.train.engine import ScanEngine
from common.train.fit import what_is_saved
from parity import law, train
from tests.commands import REPOSITORY
from tests.conftest import TINY, same_run

signals = pytest.mark.parametrize(
    "number", STOP_SIGNALS, ids=[number.name for number in STOP_SIGNALS]
)
# One evaluation before training and one after it: all that lies between would be one chunk.
LONG_CHUNK = [
    *TINY,
    "--model.width",
    "64",
    "--training.eval-every",
    "256",
    "--training.checkpoint-every",
    "0",
]
BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
"""Compiled code that does not return to Python, where no handler would run."""


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """The tests themselves may have been started by `nohup`, or as a script's background job."""
    ignored = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def chunks_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.train.chunks.MAX_LAYER_STEPS", 32)


@contextmanager
def signal_at_chunk(number: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal comes while the device works at one of the chunks, counted from 0."""
    advance, calls = ScanEngine.advance, iter(range(100))

    def interrupted(*rest):
        state = advance(*rest)
        if next(calls) == chunk:
            signal.raise_signal(number)
            time.sleep(0.05)  # the thread that hears of it is another one
        return state

    with monkeypatch.context() as patch:
        patch.setattr(ScanEngine, "advance", interrupted)
        yield


@signals
def test_every_signal_saves_between_evaluations(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks_of_32: None
) -> None:
    """A run of one long chunk stops at its next look, and ends with the bits of a run that nobody
    stopped."""
    run_dir = tmp_path / "run"
    with signal_at_chunk(number, 2, monkeypatch), pytest.raises(Preempted) as stop:
        train.main(["--run-dir", str(run_dir), *LONG_CHUNK])
    assert stop.value.exit_code == 128 + number
    assert (
        str(stop.value)
        == f"by {signal.Signals(number).name}: {run_dir} is saved at step 96 of 256; the same"
        " command goes on from there"
    )
    run = RunDirectory(run_dir)
    assert run.manifest["resume"]["step"] == 96
    assert [record["step"] for record in run.metrics()] == [0]
    if number == signal.SIGTERM:
        train.main(["--run-dir", str(run_dir), *LONG_CHUNK])
        train.main(["--run-dir", str(tmp_path / "whole"), *LONG_CHUNK])
        same_run(run_dir, tmp_path / "whole")
        assert [step["step"] for step in RunDirectory(run_dir).manifest["starts"]] == [0, 96]


def test_looking_up_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps in one chunk and in eight."""
    train.main(["--run-dir", str(tmp_path / "one"), *LONG_CHUNK])
    monkeypatch.setattr("common.train.chunks.MAX_LAYER_STEPS", 32)
    train.main(["--run-dir", str(tmp_path / "eight"), *LONG_CHUNK])
    assert [RunDirectory(tmp_path / name).manifest["chunk_steps"] for name in ("one", "eight")] == [
        256,
        32,
    ]
    same_run(tmp_path / "one", tmp_path / "eight")


def test_a_signal_in_the_last_chunk_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks_of_32: None
) -> None:
    """The run ends; what would come after it, the next stage of an experiment, does not begin."""
    with (
        ending(),
        signal_at_chunk(signal.SIGUSR1, 7, monkeypatch),
        telling(lambda: "what comes next"),
        pytest.raises(Preempted) as stop,
    ):
        train.main(["--run-dir", str(tmp_path / "run"), *LONG_CHUNK])
    assert str(stop.value) == f"by SIGUSR1: {tmp_path / 'run'} is finished"


def test_what_is_saved_is_what_is_said(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.train.run.fit", lambda *_: signal.raise_signal(signal.SIGINT))
    with (
        ending(),
        pytest.raises(
            Preempted, match=r"nothing of .* is saved yet; the same command begins it again"
        ),
    ):
        train.main(["--run-dir", str(tmp_path / "run"), *TINY])
    assert what_is_saved(RunDirectory(tiny_teacher), 256) == f"{tiny_teacher} is finished"


def test_a_probe_says_what_is_saved(tiny_teacher: Path) -> None:
    said: list[str] = []
    for name in (None, "16-32.npz"):
        with (
            ending(),
            pytest.raises(Preempted) as stop,
            opened_probe(RunDirectory(tiny_teacher), "interrupted", {}) as opened,
        ):
            assert opened is not None
            if name is not None:
                (opened.parts / name).touch()
            signal.raise_signal(signal.SIGHUP)
        said.append(str(stop.value))
    assert said == [
        (
            f"by SIGHUP: nothing of the probe of {tiny_teacher} is saved yet; the same command"
            " begins it again"
        ),
        (
            f"by SIGHUP: the probe of {tiny_teacher} is saved up to its part 1; the same command"
            " goes on from there"
        ),
    ]


def test_an_experiment_says_how_far_it_is(tmp_path: Path) -> None:
    stages: list[Any] = [
        SimpleNamespace(
            name=name,
            output=tmp_path / name,
            needs=(),
            command=("some.module",),
            is_begun=lambda: False,
            run=run,
        )
        for name, run in (
            ("first", lambda _: (tmp_path / "first").touch()),
            ("second", lambda _: signal.raise_signal(signal.SIGUSR2)),
            ("third", lambda _: None),
        )
    ]
    with (
        ending(),
        pytest.raises(
            Preempted,
            match="by SIGUSR2: 1 of 3 stages are done; the same command goes on with the rest",
        ),
    ):
        plan.run_stages(stages, Runtime())


def listening(context: str, *, ignoring: bool = False) -> subprocess.Popen[str]:
    """A process in compiled code, with signals heeded in one of the two ways."""
    imports = "import hashlib\nfrom common.base.interruption import ending, noting, telling\n"
    code = (
        f"{imports}with telling(lambda: 'step 7 is saved'), {context}:\n    print('ready',"
        f" flush=True)\n    {BUSY}"
    )
    command = [*(["nohup"] if ignoring else []), sys.executable, "-c", code]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    return process


def test_a_second_interrupt_ends_at_once() -> None:
    process = listening("noting()")
    process.send_signal(signal.SIGINT)
    process.send_signal(
        signal.SIGINT
    )  # the same keystroke, which came to the process and to its group
    time.sleep(0.7)
    assert process.poll() is None, "one keystroke saves first"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert process.returncode == 130
    assert said.splitlines() == [
        "SIGINT: the run is saved after the steps under way; a further Ctrl-C ends it at once",
        "stopped by SIGINT: step 7 is saved",
    ]


def test_what_has_nothing_to_save_ends_although_it_is_in_compiled_code() -> None:
    process = listening("ending()", ignoring=True)
    process.send_signal(signal.SIGHUP)  # `nohup` is to outlive the terminal
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 143
    assert said.splitlines()[-1] == "stopped by SIGTERM: step 7 is saved"


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with ending(), noting():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@signals
def test_every_signal_reaches_the_processes_side_by_side(number: int, tmp_path: Path) -> None:
    """And this process goes on to its end with the exit code of the signal."""
    child = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda arrived, _: sys.exit(128 + arrived))\n"
        "pathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)"
    )
    ready = [tmp_path / "a", tmp_path / "b"]

    def send() -> None:
        while not all(path.exists() for path in ready):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Preempted) as stop:
        law.run_side_by_side([[sys.executable, "-c", child, str(path)] for path in ready])
    sender.join()
    assert stop.value.exit_code == 128 + number


def test_a_process_that_one_signal_does_not_end_gets_the_next(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time\nsignal.signal(signal.SIGUSR1, lambda *_:"
        " None)\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)"
    )

    def send() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Preempted) as stop:
        law.run_side_by_side([[sys.executable, "-c", child, str(tmp_path / "ready")]])
    sender.join()
    assert stop.value.exit_code == 143
