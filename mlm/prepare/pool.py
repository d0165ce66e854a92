"""Worker processes, which take tasks as fast as they can and give results in any order."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from common.base.errors import RunError, UserError
from common.base.interruption import STOP_SIGNALS, noting
from mlm.prepare.cleaning import BadInput
from mlm.prepare.worker import begin

_WAITING = 2
"""Tasks for each worker that are handed out at a time: one under way, one ready."""


class Task(NamedTuple):
    """What a worker is to do."""

    key: Hashable
    """By which its result is known."""
    function: Callable[..., Any]
    args: tuple[Any, ...]


class Pool:
    """A number of worker processes."""

    def __init__(self, executor: ProcessPoolExecutor, size: int) -> None:
        self._executor = executor
        self._most = _WAITING * size

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Any, Any]]:
        """The key and result of every task, as they come. Tasks are drawn when a worker can take
        them, so that few are in memory at a time.

        Raises:
            UserError: a worker says what is wrong with the input.
            RunError: a worker was killed.
        """
        drawn = iter(tasks)
        running: dict[Future[Any], Any] = {}
        while True:
            for task in itertools.islice(drawn, self._most - len(running)):
                running[self._submit(task)] = task.key
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(done)
                yield key, _result(done)

    def _submit(self, task: Task) -> Future[Any]:
        # A process that is half started when this one ends would show a traceback. The mask of a
        # thread is not enough, because another one takes the signal.
        with noting(second_interrupt_ends=False):
            # A new process must not answer a Ctrl-C before it ignores it: it inherits this mask.
            earlier = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                return self._executor.submit(task.function, *task.args)
            except BrokenProcessPool:
                raise _killed() from None
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


@contextmanager
def worker_pool(size: int) -> Iterator[Pool]:
    """So many worker processes. They start anew instead of as copies of this process, which holds
    JAX and its threads."""
    _start_quiet_tracker()
    executor = ProcessPoolExecutor(
        size,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin,
        initargs=(tuple(STOP_SIGNALS),),
    )
    try:
        yield Pool(executor, size)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _start_quiet_tracker() -> None:
    """Start the process that deletes the semaphores of this one when it is stopped. It would warn
    of each such deletion, after the last words of the command."""
    earlier = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        if earlier is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = earlier


def _result(done: Future[Any]) -> Any:
    try:
        return done.result()
    except BadInput as error:
        raise UserError(str(error)) from None
    except BrokenProcessPool:
        raise _killed() from None


def _killed() -> RunError:
    return RunError(
        "a worker process was killed, perhaps for want of memory; the same command goes on, with"
        " less memory if you add --workers 1"
    )
