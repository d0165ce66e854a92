"""Signals that ask a process to stop: Ctrl-C, a scheduler's warning before its time limit, a closed
terminal. All of them mean the same.

What trains notes them, and saves when it next looks at its notes. Everything else ends where it is,
because every file is written whole or not at all. Either way the last words say what is saved, and
the exit code is 128 + the signal's number.

Python runs a signal's handler in the main thread, once compiled code has returned to it. So a
thread of its own hears of every signal at once.
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
"""SIGUSR1 and SIGUSR2 are what Slurm, LSF and Grid Engine can be told to send ahead of the end,
SIGXCPU a limit on processor time."""
PATIENCE_SECONDS = 2.0
"""How long the main thread may take to end by itself, before the process is ended over its head."""
SAME_KEYSTROKE_SECONDS = 0.5
"""Within this time a second SIGINT is the first one again: `timeout`, `srun` and shells signal a
process and its group."""


class Preempted(KeyboardInterrupt):
    """A signal asked the process to stop; the message says what is saved. No `Exception`: nobody is
    to take it for a failure of their own."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(_last_words(number, saved))
        self.exit_code = exit_code(number)


def leave(stop: Preempted) -> NoReturn:
    """End the process with the last words and the exit code of a signal.

    Not by `sys.exit`: XLA may still compute in its threads, and has been seen to crash where the
    interpreter was taken down under them.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    _leave(str(stop), stop.exit_code)


def exit_code(number: int) -> int:
    """What a shell reports of a process that died of the signal, so that `a && b` does not go on to
    b and a scheduler sees its own code."""
    return 128 + number


_saved: list[Callable[[], str]] = [
    lambda: "nothing is left half done; the same command begins again"
]
"""What is true of all that goes on now, the innermost last."""


@contextmanager
def telling(saved: Callable[[], str]) -> Iterator[None]:
    """While this lasts, the last words of a process that is stopped say what is saved, by this
    function's answer at that time."""
    _saved.append(saved)
    try:
        yield
    finally:
        _saved.pop()


@contextmanager
def ending() -> Iterator[None]:
    """A signal ends what goes on inside.

    Raises:
        Preempted: one has arrived. Where the main thread does not get to raise it, the process ends
            with the same words and exit code.
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
        """The one to answer, if any."""
        return self.numbers[0] if self.numbers else None


@contextmanager
def noting(*, second_interrupt_ends: bool = True) -> Iterator[Notes]:
    """Signals are noted for whoever looks at the notes, who answers by raising `Preempted`;
    unanswered, the first comes again afterwards.

    Args:
        second_interrupt_ends: say at once that the signal has been heard, and end the process at a
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
    """Every stop signal goes to the second function as it comes, in a thread, and to the first one
    when the main thread is back in Python.

    A signal that the process was started to ignore (by `nohup`, or as a script's background job)
    stays ignored.
    """
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as the interpreter asks

    def listen() -> None:
        while arrived := os.read(
            reading, 1
        ):  # one byte a signal; nothing once the other end is closed
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
