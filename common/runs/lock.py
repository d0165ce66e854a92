"""Locks of a directory: one process at a time writes there; others can tell that it does, without
disturbing it.

The kernel releases both locks when the process dies, also on a file server.
"""

import errno
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
WITHOUT_LOCKS = "CURRICULUM_WITHOUT_LOCKS"
"""A variable: 1 where a file system has no locks."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a directory.

    Args:
        path: a run directory, or a folder in one in which other processes may work too.
        name: the file that is locked.

    Raises:
        UserError: another process holds it.
    """
    with (path / name).open("a+") as file:
        if not _try_lock(file, fcntl.LOCK_EX):
            file.seek(0)
            raise UserError(
                f"{path} is in use by another process ({file.read().strip() or 'unknown'}), which"
                " may have outlived what started it; wait for it, stop it (it saves), or use"
                " another directory"
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
    """Show other processes that this one works in a directory, whose lock it must hold.

    It makes a new file, which is locked before it gets its name. Other processes try that lock;
    none waits for it.
    """
    temporary = path / temporary_name()
    with temporary.open("x") as file:
        _try_lock(file, fcntl.LOCK_EX)
        temporary.replace(path / RUNNING)
        try:
            yield
        finally:
            (path / RUNNING).unlink(missing_ok=True)


def is_announced(path: Path) -> bool:
    """Whether a process works in a directory; without locks, whether one has not ended as it
    should."""
    if not _uses_locks():
        return (path / RUNNING).exists()
    try:
        with (path / RUNNING).open() as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except OSError:
        return False
    except UserError:  # no locks
        return True


def is_left(path: Path) -> bool:
    """Whether a file is one of this module's, left by a process that died."""
    if path.name not in (LOCK, RUNNING) or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_OWNER)) in (b"", _OWNER.encode())


def _try_lock(file: IO[str], kind: int) -> bool:
    """Whether a file could be locked.

    Raises:
        UserError: its file system has no locks.
    """
    if not _uses_locks():
        return True
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"{file.name} lies on a file system without locks ({error.strerror}); choose another"
            f" folder, or set {WITHOUT_LOCKS}=1 and see to it yourself that no two processes write"
            " the same run"
        ) from None
    return True


def _uses_locks() -> bool:
    return os.environ.get(WITHOUT_LOCKS) != "1"
