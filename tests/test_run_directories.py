"""Run directories as folders among others: what is not ours is refused untouched, or ignored and
kept; any path works; nothing is left over."""

import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.base.errors import RunError, UserError
from common.runs import __main__ as show
from common.runs import probing
from common.runs.directory import RunDirectory, opened, runs_below
from common.runs.trajectory import Trajectory
from common.runs.tuning import tuning_table
from common.train.engine import ScanEngine
from parity import train
from tests.conftest import TINY_TEACHER, same_run

RECORD = {"experiment": "parity", "stage": "train", "config": {"d": 8}, "paths": {}}
LANES = {"seeds": [0], "learning_rates": [0.5]}
PARAMS = {"hidden": {"kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that lies below a folder, and when it was changed."""
    paths = (folder, *folder.rglob("*"))
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in paths
    }


def filled(folder: Path, files: dict[str, str]) -> Path:
    """A folder with some files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


MODEL = {"config.json": '{"model_type": "gpt2"}', "checkpoints/epoch1/weights": "abc"}
FOREIGN = {
    "a model": MODEL,
    "a model beside checkpoints named like ours": (
        MODEL | {"checkpoints/16/weights": "abc", "resume/16/weights": "abc"}
    ),
    "an application": MODEL | {"manifest.json": '{"name": "my app"}'},
    "empty objects": {"config.json": "{}", "manifest.json": "{}"},
    "no objects": {"config.json": "[1]", "manifest.json": "[2]"},
    "a manifest alone": {
        "manifest.json": (
            '{"config_hash": "1", "status": "started", "checkpoints": {}, "seeds": [],'
            ' "learning_rates": []}'
        )
    },
    "no JSON": {"config.json": "model: gpt2"},
    "a marker": {"DONE": ""},
    "somebody's lock": {"lock": "do not remove"},
    "somebody's program": {"running": "yes"},
    "a repository": {".git/HEAD": "ref"},
    "this run's configuration beside other things": {
        "config.json": json.dumps(RECORD),
        "checkpoints/epoch1/weights": "abc",
    },
    "another run's configuration": {"config.json": json.dumps(RECORD | {"stage": "distill"})},
    "a temporary file of somebody": {".config.json.swp": ""},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_is_no_run_is_refused_untouched(tmp_path: Path, name: str) -> None:
    folder = filled(tmp_path / "folder", FOREIGN[name])
    before = contents(folder)
    with pytest.raises(UserError, match="not a run directory"), opened(folder, RECORD, **LANES):
        pass
    assert contents(folder) == before


def test_a_foreign_folder_is_refused_by_the_command(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = filled(tmp_path / "model", MODEL)
    before = contents(folder)
    assert "not a run directory (it has checkpoints, config.json, no manifest.json)" in refused(
        train.main, "--run-dir", folder, *TINY_TEACHER
    )
    assert contents(folder) == before


LEFT = {
    "nothing yet": {},
    "a lock": {"lock": "pid 1 on here", "running": ""},
    "half a configuration": {"lock": "", ".0123abcd.tmp": '{"exper'},
    "a configuration": {
        "lock": "pid 1 on here",
        "running": "",
        "config.json": json.dumps(RECORD),
        ".0123abcd.tmp": '{"config_h',
    },
    "strays": {".DS_Store": "", "Thumbs.db": "", "lost+found/x": ""},
}


@pytest.mark.parametrize("name", LEFT)
def test_what_a_process_leaves_that_died_at_its_start_is_gone_on_with(
    tmp_path: Path, name: str
) -> None:
    folder = filled(tmp_path / "run", LEFT[name])
    with opened(folder, RECORD, **LANES) as run:
        assert run.state == "running; no state saved yet"
    assert RunDirectory(folder).state == "interrupted; no state saved yet"
    left = {path.name for path in folder.iterdir()}
    assert left == {"config.json", "manifest.json", "lock"} | (
        set(LEFT[name]) & {".DS_Store", "Thumbs.db"}
    ) | ({"lost+found"} if name == "strays" else set())


PATHS = [
    "[y]",
    "[!a]*?{b}",
    "50%41",
    "a#b",
    "a b",
    "größe",
    "two\nlines",
    "gs:",
    "logs:",
    "a~",
    "'\"\\$",
    "a&b;c",
    ".hidden",
    "c.__lock",
    os.fsdecode(b"\xff"),
]


@pytest.mark.parametrize("name", PATHS)
def test_any_path_holds_checkpoints(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "run"
    with opened(path, RECORD, **LANES) as run:
        for step in (0, 16):
            Trajectory(run).save(step, PARAMS)
        Trajectory(run).save_resume(16, PARAMS)
    read = Trajectory(RunDirectory(path))
    np.testing.assert_array_equal(read.restore(16)["hidden"]["kernel"], PARAMS["hidden"]["kernel"])
    assert not read.problems()
    state, host_state = read.load_resume(PARAMS) or pytest.fail("there is no state to resume from")
    np.testing.assert_array_equal(state["hidden"]["kernel"], PARAMS["hidden"]["kernel"])
    assert host_state["step"] == 16


def test_a_state_that_is_saved_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that goes on from a state and is told to stop before its first step. Were it
    killed while it writes the same state anew, none would be left."""
    with opened(tmp_path / "run", RECORD, **LANES) as run:
        Trajectory(run).save_resume(16, PARAMS, wall_seconds=1.0)

        def killed(*_: Any, **__: Any) -> None:
            shutil.rmtree(tmp_path / "run" / "resume" / "16")
            raise KeyboardInterrupt

        monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", killed)
        Trajectory(run).save_resume(16, PARAMS, wall_seconds=2.0)
    monkeypatch.undo()
    read = Trajectory(RunDirectory(tmp_path / "run"))
    state, host_state = read.load_resume(PARAMS) or pytest.fail("there is no state to resume from")
    np.testing.assert_array_equal(state["hidden"]["kernel"], PARAMS["hidden"]["kernel"])
    assert host_state["wall_seconds"] == 2.0


def test_a_path_through_a_linked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which `..` is another folder than its name tells, and an odd folder for temporary files
    beside it."""
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "runs")
    (tmp_path / "[tmp]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "[tmp]"))
    with opened(tmp_path / "link" / ".." / "run", RECORD, **LANES) as run:
        Trajectory(run).save(0, PARAMS)
    assert not Trajectory(RunDirectory(tmp_path / "disk" / "run")).problems()


def test_a_run_in_an_odd_place_is_trained_resumed_and_shown(
    tiny_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "x=[y]" / "[/bold] *"
    with monkeypatch.context() as patch:
        interrupt(patch, after=6)
        with pytest.raises(KeyboardInterrupt):
            train.main(["--run-dir", str(path), *TINY_TEACHER, "--runtime.resume-seconds", "1e-6"])
    train.main(["--run-dir", str(path), *TINY_TEACHER])
    same_run(tiny_teacher, path)
    show.main([str(path), "--verify"])
    assert f"{tmp_path.name}/x=[y]/[/bold] *" in capsys.readouterr().out.replace("\n", "")


def interrupt(patch: pytest.MonkeyPatch, after: int) -> None:
    """Let the training die in its next chunk after so many."""
    advance, calls = ScanEngine.advance, iter(range(1000))

    def interrupted(*rest: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return advance(*rest)

    patch.setattr(ScanEngine, "advance", interrupted)


def interrupted_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Begin the run of the tiny teacher and let it die after six chunks; returns the arguments that
    go on with it."""
    args = ["--run-dir", str(path), *TINY_TEACHER, "--runtime.resume-seconds", "1e-6"]
    with monkeypatch.context() as patch:
        interrupt(patch, after=6)
        with pytest.raises(KeyboardInterrupt):
            train.main(args)
    return args


@pytest.mark.parametrize("damage", ["unreadable", "other contents"])
def test_a_place_that_gives_nothing_back_is_refused_before_time_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def restore(*_: object, **__: object) -> object:
        if damage == "unreadable":
            raise ValueError("DATA_LOSS")
        return PARAMS

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", restore)
    monkeypatch.setattr(ScanEngine, "advance", lambda *_: pytest.fail("trained"))
    with pytest.raises(RunError, match=r"no run can be kept in .*; choose another --run-dir"):
        train.main(["--run-dir", str(tmp_path / "run"), *TINY_TEACHER])


def test_what_the_system_refuses_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files, met by TensorStore while it writes; with more room the same run
    goes on."""
    large = {"hidden": {"kernel": np.random.default_rng(0).random((1, 100, 1000))}}
    with opened(tmp_path / "run", RECORD, **LANES) as run:
        Trajectory(run).save(0, PARAMS)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(RunError, match="File too large") as found:
                Trajectory(run).save(16, large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(found.value)
        assert capfd.readouterr().err == ""
        Trajectory(run).save(16, large)
    assert not Trajectory(RunDirectory(tmp_path / "run")).problems()


def test_no_permission_is_no_damage(tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", "manifest.ocdbt")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", restore)
    with pytest.raises(UserError, match="no permission") as found:
        Trajectory(RunDirectory(tiny_teacher)).restore(16)
    assert "delete" not in str(found.value)


def test_strays_are_ignored_and_kept(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of others in every folder of a run that is interrupted, goes on and ends; also where
    their names are near to ours."""
    path = tmp_path / "run"
    args = interrupted_run(path, monkeypatch)
    names = [
        f"{folder}/{name}"
        for folder in ("checkpoints", "resume")
        for name in (".DS_Store", "1024", "16.txt", "best/weights", "lost+found/x")
    ]
    strays = filled(
        path, dict.fromkeys([*names, ".DS_Store", "Thumbs.db", "notes/lab.md"], "not ours")
    )
    half = strays / "checkpoints" / "112.orbax-checkpoint-tmp"
    half.mkdir()
    before = {name: (path / name).read_text() for name in names}
    train.main(args)
    same_run(tiny_teacher, path)
    assert {name: (path / name).read_text() for name in names} == before
    assert not half.exists()
    assert sorted(entry.name for entry in (path / "resume").iterdir()) == [
        ".DS_Store",
        "1024",
        "16.txt",
        "best",
        "lost+found",
    ]


def test_strays_among_the_parts_of_a_probe(tiny_teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, run)
    filled(
        run / "probes",
        {
            ".DS_Store": "",
            "test.parts/.DS_Store": "not ours",
            "test.parts/0-0.npz": "of other settings",
        },
    )
    with probing.opened_probe(RunDirectory(run), "test", {"n": 1}) as probe:
        assert probe is not None
        (part,) = probe.over([0], lambda _: {"values": np.ones(3)})
        np.testing.assert_array_equal(part["values"], np.ones(3))
    assert [entry.name for entry in (run / "probes" / "test.parts").iterdir()] == [".DS_Store"]
    (
        run / "probes" / "test.parts" / "0-0.npz"
    ).touch()  # of a process that was killed when all was written
    with probing.opened_probe(RunDirectory(run), "test", {"n": 1}) as probe:
        assert probe is None
    assert [entry.name for entry in (run / "probes" / "test.parts").iterdir()] == [".DS_Store"]


def test_strays_among_the_runs_of_an_experiment(tiny_teacher: Path, tmp_path: Path) -> None:
    home = tmp_path / "quick"
    for name in ("teacher", "tune/ce"):
        shutil.copytree(tiny_teacher, home / name)
    strays = [
        ".DS_Store",
        "tune/.DS_Store",
        "tune/notes/todo.txt",
        "app/manifest.json",
        "model/config.json",
        "teacher-notes.txt",
    ]
    filled(home, dict.fromkeys(strays, "{}"))
    shutil.copytree(tiny_teacher, home / ".snapshot" / "teacher")
    (home / "tune" / "lost+found").mkdir()
    assert runs_below(home) == [home / "teacher", home / "tune" / "ce"]
    assert tuning_table(runs_below(home / "tune")).run.unique().tolist() == ["ce"]


def test_the_disk_needs_room_for_what_is_still_to_be_written(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of 17 checkpoints goes on with room for those it lacks and a second resume state, and
    not with a byte less."""
    path = tmp_path / "run"
    args = interrupted_run(path, monkeypatch)
    manifest = RunDirectory(path).manifest
    there = [step for step in manifest["checkpoints"] if int(step) <= manifest["resume"]["step"]]
    assert 3 < len(there) < 10
    checkpoint = 2 * 4 * (8 * 64 + 64 + 64 * 2 + 2)
    state = sum(leaf.nbytes for leaf in _leaves(Trajectory(RunDirectory(path)), manifest["resume"]))
    needed = (17 - len(there)) * checkpoint + state
    monkeypatch.setattr("common.train.run.free_bytes", lambda _: needed - 1)
    with pytest.raises(
        RunError,
        match=(
            r"still to be written needs \d+(\.\d+)? kB, the disk has \d+(\.\d+)? kB free; free 1 B"
            r" more"
        ),
    ):
        train.main(args)
    monkeypatch.setattr("common.train.run.free_bytes", lambda _: needed)
    train.main(args)
    same_run(tiny_teacher, path)


def _leaves(trajectory: Trajectory, resume: dict[str, Any]) -> list[np.ndarray]:
    import jax

    from common.runs.trajectory import _read

    return jax.tree.leaves(
        _read(trajectory._resume_path(resume["step"]), resume["sha256"], "", None)
    )


def test_looking_never_keeps_a_run_from_starting(tmp_path: Path) -> None:
    path, done = tmp_path / "run", threading.Event()
    with opened(path, RECORD, **LANES):
        pass

    def look() -> None:
        while not done.is_set():
            RunDirectory(path).state  # noqa: B018

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(300):
            with opened(path, RECORD, **LANES) as run:
                assert run.state.startswith("running")
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()
    assert RunDirectory(path).state.startswith("interrupted")


def test_a_run_that_was_killed_at_its_very_end_is_cleaned_up(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, run)
    shutil.copytree(run / "checkpoints" / "256", run / "resume" / "256")
    (run / "DONE").unlink()
    manifest = (run / "manifest.json").read_bytes()
    train.main(["--run-dir", str(run), *TINY_TEACHER])
    assert "already finished" in capsys.readouterr().err
    assert not (run / "resume").exists()
    assert (run / "DONE").exists()
    assert (run / "manifest.json").read_bytes() == manifest


def test_the_marker_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it finds the run as it stays."""
    found = []
    monkeypatch.setattr(
        RunDirectory,
        "mark_done",
        lambda run: found.append(sorted(path.name for path in run.path.iterdir())),
    )
    train.main(
        ["--run-dir", str(tmp_path / "run"), *TINY_TEACHER, "--runtime.resume-seconds", "1e-6"]
    )
    assert found == [
        ["checkpoints", "config.json", "lock", "manifest.json", "metrics.jsonl", "running"]
    ]
