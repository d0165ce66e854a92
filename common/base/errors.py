"""Errors that a user can act on. A command turns them into a message and an exit code."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from common.base.environment import (
    close_stdout,
    flush_streams,
    missing_device,
    prepare_streams,
    unreadable,
)
from common.base.interruption import Preempted, ending, leave


class UserError(Exception):
    """Bad input: the command cannot be carried out as given. Exit code 2."""

    exit_code = 2


class RunError(Exception):
    """A correct command failed: NaN loss, corrupted checkpoint, full disk. Exit code 1."""

    exit_code = 1


class Others(NamedTuple):
    """What is to be known of the other processes of a command (`common.base.processes`)."""

    are_lost: Callable[[Exception], bool]
    """Whether an error says that one of them cannot be reached any more."""
    end: Callable[[int, str], None]
    """Ends this process, with an exit code and a message, without waiting for them."""


_joined: list[Others] = []
"""Empty where a process is alone."""


def joined(others: Others) -> None:
    """From now on this process is one of several."""
    _joined.append(others)


def means_full_disk(error: Exception) -> bool:
    """Whether there is no room left, on the disk or in the user's quota. Libraries put the system's
    error into the text of their own."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in full:
        return True
    return any(os.strerror(code) in str(error) for code in full)


def full_disk(where: str) -> RunError:
    """The error that says what to do when there is no room left."""
    return RunError(
        f"the disk is full, or your quota is used up{where}; free some space and run the same"
        " command again, nothing saved so far is lost"
    )


def explain_os_error(error: OSError) -> UserError | RunError:
    """Turn an operating-system error into one that says what to do."""
    where = f" ({error.filename})" if error.filename else ""
    if means_full_disk(error):
        return full_disk(where)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"no permission to read or write{where}; check the owner and mode, or choose another"
            " directory"
        )
    if error.errno in (
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    ):
        return UserError(f"{error.strerror}{where}; choose another path")
    return RunError(f"the operating system refused{where}: {error.strerror}")


def run_command(command: Callable[[list[str]], None]) -> None:
    """Run a command on `sys.argv`. Errors and signals become one message on stderr and an exit
    code, without a traceback."""
    sys.unraisablehook = without_late_callbacks(sys.unraisablehook)
    prepare_streams()
    try:
        with ending():
            if advice := unreadable(sys.argv[1:]):
                raise UserError(advice)
            command(sys.argv[1:])
            flush_streams()
    except Preempted as stop:
        leave(stop)
    except (UserError, RunError) as error:
        _fail(error)
    except BrokenPipeError:
        close_stdout()
        sys.exit(0)
    except OSError as error:
        _fail(explain_os_error(error))
    except (RuntimeError, AssertionError, ValueError) as error:
        if lost := _lost_process(error):
            _fail(RunError(lost))
        advice = missing_device()  # JAX removes from its errors what would tell why
        if advice is None:
            raise
        _fail(UserError(advice))


def without_late_callbacks(report: Callable[[Any], object]) -> Callable[[Any], object]:
    """A hook for exceptions that cannot be caught; it ignores those that follow a failed read.

    The failed read itself is reported as an error. TensorStore's callbacks come later, after Orbax
    has closed its event loop, and would add a traceback.
    """

    def hook(unraisable: Any) -> None:
        if not (
            isinstance(unraisable.exc_value, RuntimeError)
            and "Event loop is closed" in str(unraisable.exc_value)
        ):
            report(unraisable)

    return hook


def _fail(error: UserError | RunError) -> None:
    with suppress(OSError):  # a terminal that was closed
        Console(stderr=True, soft_wrap=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False
        )
    for others in _joined:
        others.end(error.exit_code, str(error))
    sys.exit(error.exit_code)


def _lost_process(error: Exception) -> str | None:
    """What to do if an error means that another process of this command has ended."""
    if not any(others.are_lost(error) for others in _joined):
        return None
    reason = str(error).split("\n")[0]
    return (
        f"another process of this command has ended ({reason}); start all of them again, they go on"
        " from what is saved"
    )
