"""Who works in a directory: one process at a time writes, and anybody may look without being in its
way.

The kernel releases both locks when the process dies, however it dies, also where a server keeps the
files.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from common.base.errors import UserError
from common.runs.files import temporary_name

LOCK = "lock"
RUNNING = "running"
_OWNER = "pid "


@contextmanager
def locked(path: Path, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a directory.

    Args:
        path: a run directory, or a part of one on which others may work beside this process.
        name: of the file that is locked.

    Raises:
        UserError: another process holds it.
    """
    with (path / name).open("a+") as file:
        if not _try_lock(file, fcntl.LOCK_EX):
            file.seek(0)
            raise UserError(
                f"{path} is in use by another process ({file.read().strip() or 'unknown'}); wait"
                " for it or use another directory"
            )
        file.truncate(0)
        file.write(f"{_OWNER}{os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


@contextmanager
def announced(path: Path) -> Iterator[None]:
    """Show whoever looks that a process works in a directory; to be called by the one that holds
    its lock.

    What is shown is a file that is locked before it gets its name, and a new one for each process.
    Who looks tries that lock, which nobody waits for.
    """
    temporary = path / temporary_name()
    with temporary.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        temporary.replace(path / RUNNING)
        try:
            yield
        finally:
            (path / RUNNING).unlink(missing_ok=True)


def is_announced(path: Path) -> bool:
    """Whether a process works in a directory."""
    try:
        with (path / RUNNING).open() as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except OSError:
        return False


def is_left(path: Path) -> bool:
    """Whether this module has left a file, that of a process which died."""
    if path.name not in (LOCK, RUNNING) or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_OWNER)) in (b"", _OWNER.encode())


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
