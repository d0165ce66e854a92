"""Signals that ask a process to stop: Ctrl-C, a scheduler's warning before its time limit, a closed
terminal. All of them mean the same.

A training loop notes them, and saves when it next looks at its notes. Every other command ends at
once; it can, because every file is written whole or not at all. The last words say what is saved,
and the exit code is 128 + the signal's number.

Python runs a signal's handler in the main thread, and only when compiled code has returned to it.
So a separate thread receives every signal at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

STOP_SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if name in signal.Signals.__members__
)
"""Slurm, LSF and Grid Engine can send SIGUSR1 or SIGUSR2 ahead of a time limit; a limit on
processor time sends SIGXCPU."""
PATIENCE_SECONDS = 2.0
"""Seconds that the main thread has to end; after them another thread ends the process."""
SAME_KEYSTROKE_SECONDS = 0.5
"""A second SIGINT within this time counts as the first one: `timeout`, `srun` and shells signal a
process and its group."""


class Preempted(KeyboardInterrupt):
    """A signal asked the process to stop; the message says what is saved. It is no `Exception`, so
    that no handler of failures catches it."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(_last_words(number, saved))
        self.exit_code = exit_code(number)


def leave(stop: Preempted) -> NoReturn:
    """End the process with the last words and the exit code of a signal.

    `sys.exit` would take down the interpreter while XLA may still compute in its threads, which has
    been seen to crash.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    _leave(str(stop), stop.exit_code)


def exit_code(number: int) -> int:
    """The code that a shell reports for a process killed by the signal: `a && b` stops after a, and
    a scheduler recognises its own signal."""
    return 128 + number


_saved: list[Callable[[], str]] = [
    lambda: "nothing is left half done; the same command begins again"
]
"""Functions that say what is saved, one for each block of `telling`, the innermost last."""


@contextmanager
def telling(saved: Callable[[], str]) -> Iterator[None]:
    """Inside this block, a process that is stopped ends with this function's answer, which says
    what is saved."""
    _saved.append(saved)
    try:
        yield
    finally:
        _saved.pop()


@contextmanager
def ending() -> Iterator[None]:
    """Inside this block, a signal ends what is going on.

    Raises:
        Preempted: a signal has arrived. If the main thread cannot raise it in time, the process
            ends with the same words and exit code.
    """
    has_ended = threading.Event()

    def preempt(number: int) -> None:
        raise Preempted(number, _saved[-1]())

    def insist(number: int) -> None:
        if not has_ended.wait(PATIENCE_SECONDS):
            _end_at_once(number)

    with _listening(in_main_thread=preempt, at_once=insist):
        try:
            yield
        finally:
            has_ended.set()


class Notes:
    """The signals that have arrived, in order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    @property
    def first(self) -> int | None:
        """The signal to answer; None if none has arrived."""
        return self.numbers[0] if self.numbers else None


@contextmanager
def noting(*, second_interrupt_ends: bool = True) -> Iterator[Notes]:
    """Inside this block, signals are only noted. The code inside looks at the notes and answers by
    raising `Preempted`; if it does not, the first signal is raised again at the end.

    Args:
        second_interrupt_ends: say at once that a signal has arrived, and end the process at a
            second Ctrl-C.
    """
    notes, interrupted_at = Notes(), 0.0

    def note(number: int) -> None:
        nonlocal interrupted_at
        is_first, now = not notes.numbers, time.monotonic()
        is_second_interrupt = number == signal.SIGINT and signal.SIGINT in notes.numbers
        if is_second_interrupt and now - interrupted_at < SAME_KEYSTROKE_SECONDS:
            return
        if is_second_interrupt and second_interrupt_ends:
            _end_at_once(number)
        if number == signal.SIGINT:
            interrupted_at = now
        notes.numbers.append(number)
        if is_first and second_interrupt_ends:
            name = signal.Signals(number).name
            _say(
                f"{name}: the run is saved after the steps under way; a further Ctrl-C ends it at"
                " once"
            )

    with _listening(in_main_thread=lambda _: None, at_once=note):
        yield notes
    if notes.first is not None:
        signal.raise_signal(notes.first)


@contextmanager
def _listening(
    *, in_main_thread: Callable[[int], None], at_once: Callable[[int], None]
) -> Iterator[None]:
    """Inside this block, every stop signal calls two functions with its number. A signal that the
    process was started to ignore (by `nohup`, or as a script's background job) stays ignored.

    Args:
        in_main_thread: called when the main thread is back in Python.
        at_once: called immediately, in another thread.
    """
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as the interpreter asks

    def listen() -> None:
        # Each signal is one byte; nothing comes once the other end is closed.
        while arrived := os.read(reading, 1):
            if arrived[0] in heeded:
                at_once(arrived[0])

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    earlier_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    earlier = {
        number: signal.signal(number, lambda arrived, _: in_main_thread(arrived))
        for number in heeded
    }
    listener.start()
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(earlier_fd)
        os.close(writing)
        listener.join()
        os.close(reading)


def _last_words(number: int, saved: str) -> str:
    return f"by {signal.Signals(number).name}: {saved}"


def _end_at_once(number: int) -> NoReturn:
    """Leave without returning to the main thread, which may be in compiled code for long."""
    _leave(_last_words(number, _saved[-1]()), exit_code(number))


def _leave(last_words: str, code: int) -> NoReturn:
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a progress bar hides
    _say(f"{show_cursor}stopped {last_words}")
    os._exit(code)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be what has gone
        os.write(2, f"{text}\n".encode())
