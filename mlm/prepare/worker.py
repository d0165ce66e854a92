"""How a worker process begins."""

import multiprocessing
import os
import signal
import threading


def begin(ignored: tuple[int, ...]) -> None:
    """Leave signals to the main process, end with it, and use one core.

    Args:
        ignored: numbers of the signals that ask to stop; a terminal sends them to all processes.
    """
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ignored)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed process cannot tell its workers, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
