"""Sides of a benchmark that take turns, each in a process of its own.

PyTorch's threads slow XLA in the same process by a third, and so may any library another. So each
side is set up in a process that has what it needs and nothing else (`benchmarks.side`); there it
waits, asleep, while others have their turn. They take turns, so that a slow moment of the machine
hits all of them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from common.base.errors import RunError

SECONDS_TO_END = 1.0
"""That processes have to end by themselves when there is nothing more to do."""
LAST_WORDS = 2000
"""Characters of what a failed side has printed that are shown."""


class Side(NamedTuple):
    """Something to time, as a new process can make it."""

    make: str
    """`MODULE:FUNCTION`, which returns a `benchmarks.side.Work`."""
    arguments: Mapping[str, Any]
    """Of the function, by name; plain values."""
    environment: Mapping[str, str] = {}
    """Variables of the process besides those of this one."""


class Timing(NamedTuple):
    """What has been measured of a side."""

    seconds: Sequence[float]
    """Of each round, one warm-up round apart."""
    facts: Mapping[str, float]
    """What the side told of itself when it was set up."""

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)


def time_in_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, Timing]:
    """Set all sides up at the same time, then time them one after the other, round by round.

    Raises:
        RunError: a side has failed; the message says which, and its last words.
    """
    with running(sides) as processes:
        facts = {name: process.answer()["facts"] for name, process in processes.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, process in processes.items():
                process.ask()
                seconds[name].append(process.answer()["seconds"])
    return {name: Timing(seconds[name], facts[name]) for name in sides}


@contextmanager
def running(sides: Mapping[str, Side]) -> Iterator[dict[str, "SideProcess"]]:
    """A process for each side; all of them end with the block, however it ends."""
    processes: dict[str, SideProcess] = {}
    try:
        for name, side in sides.items():
            processes[name] = SideProcess(name, side)
        yield processes
    finally:
        for process in processes.values():
            process.dismiss()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in processes.values():
            process.end(max(deadline - time.monotonic(), 0.0))


class SideProcess:
    """The process of one side."""

    def __init__(self, name: str, side: Side) -> None:
        """Start it.

        Args:
            name: what its failure is reported under.
            side: what it is to make.
        """
        self.name = name
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        here = Path(__file__).parent.parent
        paths = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
        # In a session of its own, because Ctrl-C is for this process, which then ends the others.
        # Should it be killed, they end too, because their stdin does.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", side.make, json.dumps(dict(side.arguments))],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "PYTHONPATH": paths, **side.environment},
            start_new_session=True,
        )

    def ask(self) -> None:
        """Let it begin a round."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and does not answer either
            self.process.stdin.write(b"\n")

    def answer(self) -> dict[str, Any]:
        """What it tells next.

        Raises:
            RunError: nothing, because it has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        last_words = self.log.read().decode(errors="replace").strip()[-LAST_WORDS:]
        raise RunError(
            f"the side {self.name!r} has ended with exit code {code}; its last words:\n{last_words}"
        )

    def dismiss(self) -> None:
        """Tell it that no further round is asked for."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self, seconds: float) -> None:
        """Wait until it has ended, or end it after so many seconds."""
        assert self.process.stdout is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
