"""Sides of a benchmark that compute nothing, for `tests.test_turns`; `python -m tests.sides` lets
some of them take turns."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.side import Work


def writing(name: str, path: str) -> Work:
    """Adds its name to a file in every round, and prints it."""
    print("a library's greeting")

    def advance() -> None:
        print(name)
        with Path(path).open("a") as file:
            file.write(f"{name}\n")

    return Work(advance, {"process": os.getpid()})


def failing(in_round: int) -> Work:
    """Fails in one of its rounds, of which the first is to warm up."""
    rounds = iter(range(in_round))

    def advance() -> None:
        if next(rounds, None) is None:
            raise ValueError("no such shape")

    return Work(advance)


def killed() -> Work:
    """Is killed as for taking too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Work(lambda: None)


def lasting(path: str) -> Work:
    """Takes its time, and tells where it runs."""
    Path(path).write_text(str(os.getpid()))
    return Work(lambda: time.sleep(0.2))


def importing(modules: list[str], libraries: list[str]) -> Work:
    """Finds which libraries come with some modules."""
    for module in modules:
        importlib.import_module(module)
    return Work(lambda: None, {library: library in sys.modules for library in libraries})


def multiplying(threads: int) -> Work:
    """Products of matrices in PyTorch."""
    import torch

    torch.set_num_threads(threads)
    matrix = torch.ones(400, 400)
    return Work(lambda: matrix @ matrix, {"process": os.getpid()})


def main(args: list[str]) -> None:
    """For as long as nobody stops it."""
    from benchmarks.turns import Side, time_in_turns

    sides = {name: Side("tests.sides:lasting", {"path": name}) for name in args}
    time_in_turns(sides, 1000)


if __name__ == "__main__":
    from common.base.errors import run_command

    run_command(main)
