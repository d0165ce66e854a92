"""Writes files whole or not at all, with the usual permissions; a folder or a device is never
replaced.

Also tells which files in a folder were left by file managers and file systems: these are nobody's
work.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from common.base.errors import UserError

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp")
_STRAYS = (
    *(".DS_Store", "._*", ".Spotlight-V100", ".Trash*", ".fseventsd"),  # macOS
    *("Thumbs.db", "desktop.ini", "System Volume Information", "$RECYCLE.BIN"),  # Windows
    # Linux, servers
    *("lost+found", ".nfs*", ".fuse_hidden*", ".snapshot*", "@eaDir", ".directory"),
)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that replaces `path` when the block ends without an error; a link is followed.

    A reader sees the old file or the new one, and so it remains if the process is killed.

    Raises:
        UserError: `path` is a folder, a device, or anything else but a file.
    """
    check_replaceable(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(temporary_name())
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_replaceable(path: Path) -> None:
    """Raise a UserError if `path` exists and is no file."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise UserError(
            f"{path} is a device or a pipe, which no file may replace; give another name"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as file:
        file.write(data)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files, all or none; there must be nothing of its name."""
    temporary = path.with_name(temporary_name())
    try:
        temporary.mkdir()
        for name, data in files.items():
            write_bytes(temporary / name, data)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's contents atomically."""
    write_bytes(target, source.read_bytes())


def temporary_name() -> str:
    """A name for a file until it is complete."""
    return f".{secrets.token_hex(4)}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a name is a temporary one, which a process that died has left."""
    return _TEMPORARY.fullmatch(name) is not None


def is_stray(name: str) -> bool:
    """Whether a name is one that file managers and file systems use in any folder."""
    return any(fnmatchcase(name, pattern) for pattern in _STRAYS)


def refuse_filled(folder: Path, mark: str, ours: Collection[str]) -> None:
    """Refuse to write results into a folder that holds other things.

    Args:
        folder: need not exist.
        mark: a file that shows that the folder is ours, whatever else is in it.
        ours: the names of all files that we write there.

    Raises:
        UserError: the folder holds something else, and not the mark.
    """
    if not folder.is_dir() or (folder / mark).is_file():
        return
    found = sorted(entry.name for entry in folder.iterdir())
    foreign = [
        name for name in found if name not in ours and not (is_stray(name) or is_temporary(name))
    ]
    if foreign:
        raise UserError(
            f"{folder} holds other things ({some_of(foreign)}) and no {mark}; choose another"
            " folder, so that nothing of yours is overwritten"
        )


def some_of(names: Collection[str]) -> str:
    """The first few of some names."""
    shown = list(names)[:3]
    if len(names) > 3:
        shown.append("...")
    return ", ".join(shown)


def size_bytes(path: Path) -> int:
    """Bytes in all files below a directory. Files that vanish meanwhile, because a process works
    there, are left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_size
    return total


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that would hold `path`."""
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def bytes_text(count: float) -> str:
    """A size in a fitting unit: 640 B, 1.02 kB, 12.3 MB."""
    exponent = 0
    while count >= 999.5 and exponent < len(_UNITS) - 1:
        count /= 1000
        exponent += 1
    return f"{count:.3g} {_UNITS[exponent]}"
