"""Files: whole or not at all, of the usual permissions, in the place of files only. Locks: who
looks is in nobody's way."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from common.base.errors import UserError
from common.runs.files import bytes_text, is_stray, refuse_filled, replacing, size_bytes, write_text
from common.runs.lock import announced, is_announced, locked


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_usual_permissions(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "table.csv", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "table.csv"
    link.symlink_to(tmp_path / "elsewhere" / "table.csv")
    for text in ("first", "second"):
        write_text(link, text)
        assert (tmp_path / "elsewhere" / "table.csv").read_text() == text
    assert link.is_symlink()


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("pipe", "a device or a pipe"),
        ("device", "a device or a pipe"),
        ("folder", "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            write_text(tmp_path / name, "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "folder", "pipe"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (5648, "5.65 kB"),
        (999_600, "1 MB"),
        (12_345_678, "12.3 MB"),
        (1_230_000_000, "1.23 GB"),
    ],
)
def test_sizes_are_printed_in_units_that_show_them(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_what_vanishes_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "vanishes"):
        (tmp_path / name).write_text("12345")
    lstat = Path.lstat

    def vanished(path: Path) -> os.stat_result:
        if path.name == "vanishes":
            raise FileNotFoundError
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanished)
    assert size_bytes(tmp_path) == 5


def test_strays_are_what_file_managers_and_file_systems_leave() -> None:
    for name in (".DS_Store", "._16", "Thumbs.db", "lost+found", ".nfs000000000123", ".Trash-1000"):
        assert is_stray(name)
    for name in ("16", "config.json", ".git", "thesis.txt", "DONE"):
        assert not is_stray(name)


def test_results_are_not_written_among_other_things(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    refuse_filled(folder, "report.html", ours=["width.png"])
    folder.mkdir()
    for name in ("width.png", ".DS_Store"):  # a process was killed after the first figure
        (folder / name).touch()
        refuse_filled(folder, "report.html", ours=["width.png"])
    (folder / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"thesis\.tex.*no report\.html"):
        refuse_filled(folder, "report.html", ours=["width.png"])
    (folder / "report.html").touch()  # ours, and something that was put beside it
    refuse_filled(folder, "report.html", ours=["width.png"])


def test_looking_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment at which a process that looks holds any lock, another one can begin to
    work."""
    with locked(tmp_path), announced(tmp_path):
        assert is_announced(tmp_path)
        left_by_a_killed_process = (tmp_path / "running").read_bytes()
    assert not is_announced(tmp_path)
    (tmp_path / "running").write_bytes(left_by_a_killed_process)
    flock, starts = fcntl.flock, []

    def while_it_is_held(file: int, kind: int) -> None:
        flock(file, kind)
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", flock)
            with locked(tmp_path), announced(tmp_path):
                starts.append(is_announced(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", while_it_is_held)
        assert not is_announced(tmp_path)
    assert starts == [True]
