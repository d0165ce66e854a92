"""Where runs are kept: file systems without locks, buckets, and runs of other machines."""

import errno
import fcntl
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.base.environment import unreadable
from common.base.errors import UserError
from common.runs import __main__ as runs
from common.runs.directory import RunDirectory
from common.runs.lock import WITHOUT_LOCKS, announced, is_announced, locked
from parity import train
from tests.conftest import TINY_TEACHER


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none, as some mounts of NFS."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_there_is_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = [*TINY_TEACHER, "--training.steps", "32", "--run-dir", str(tmp_path / "run")]
    with pytest.raises(UserError, match=r"without locks \(No locks available\).*_LOCKS=1"):
        train.main(args)
    monkeypatch.setenv(WITHOUT_LOCKS, "1")
    train.main(args)
    assert RunDirectory(tmp_path / "run").finished
    with locked(tmp_path), announced(tmp_path):
        assert is_announced(tmp_path)
    assert not is_announced(tmp_path)


@pytest.mark.parametrize("argument", ["gs://a/b", "--run-dir=s3a://a", "ABFSS://c@d/e"])
def test_buckets_are_refused_by_name(argument: str) -> None:
    said = unreadable(["--run-dir", argument])
    assert said is not None and said.startswith(argument.removeprefix("--run-dir="))
    assert "mount a bucket" in said


def test_other_arguments_are_not() -> None:
    words = [
        "hub:nyu-mll/glue,config=sst2",
        "--run-dir",
        "runs/gs",
        "gs:/a",
        "a//b",
        "a b://c",
    ]
    assert unreadable(words) is None


def test_a_run_is_watched_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every evaluation once, though the files are written by another process."""
    monkeypatch.setattr(runs, "WATCH_SECONDS", 0.02)
    path = tmp_path / "run"
    train.main([*TINY_TEACHER, "--training.steps", "64", "--run-dir", str(path)])
    records = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"status": "started"}))
    (path / "metrics.jsonl").write_text(records[0])
    capsys.readouterr()
    watching = threading.Thread(target=runs.main, args=([str(path), "--watch"],))
    watching.start()
    for line in records[1:]:
        time.sleep(0.1)
        with (path / "metrics.jsonl").open("a") as file:
            file.write(line)
    time.sleep(0.1)
    (path / "manifest.json").write_text(json.dumps(manifest))
    watching.join(timeout=30)
    assert not watching.is_alive()
    shown = capsys.readouterr().out
    steps = [json.loads(line)["step"] for line in records[1:]]
    assert len(steps) > 2
    assert [shown.count(f"step {step}: accuracy") for step in steps] == [1] * len(steps)
    assert shown.rstrip().endswith("s") and f"{path}: finished in" in shown.replace("\n", "")


def test_what_is_watched_is_a_run(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "is not a run directory" in refused(runs.main, tmp_path, "--watch")
