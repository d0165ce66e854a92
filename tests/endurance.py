"""`python -m tests.endurance`: commands stopped at random moments by every signal that a user or a
scheduler sends.

A teacher, a student, a probe and an export are started, stopped and started again, with stray files
in their folders and a second process that looks on; some kills hit a checkpoint while it is
written. In the end everything is what an undisturbed run leaves, to the bit. The test suite runs a
short round of this.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.runs.directory import RunDirectory
from parity import probe
from tests.commands import run_module, start_module
from tests.conftest import TINY_STUDENT, TINY_TEACHER, same_run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, *(signal.SIGKILL,) * 4)
"""Half of them kill: the others let a process save itself."""
TEXT = (
    "Stop commands at random moments by every signal, and compare what is left in the end with what"
    " an undisturbed run leaves."
)
STRAY = (".DS_Store", "Thumbs.db", "notes.txt")
FOLDERS = (".", "checkpoints", "resume", "probes")
RING = (
    "--training.ring-every",
    "16",
    "--training.ring-size",
    "4",
    "--runtime.resume-seconds",
    "0.01",
)
TEACHER = (*TINY_TEACHER, "--training.checkpoint-every", "32", *RING)
SCHEDULE = (
    "--schedule",
    "till-saturate",
    "--supervision.patience",
    "128",
    "--supervision.interval",
    "64",
)
STUDENT = (*TINY_STUDENT, *SCHEDULE, "--runtime.resume-seconds", "0.01")
PROBE = ("--num-examples", "65536")
SHARES = {"teacher": 0.4, "student": 0.3, "probe": 0.2, "export": 0.1}
"""Of the starts."""
STEPS_PER_START = 112
"""So many that no process that is stopped after its next few evaluations reaches the end of its
run, even where others keep the machine busy."""
MOST_MISSED = 2
"""Pieces of work after which a kill waits for no checkpoint any more: on a busy machine none may be
seen while it is written."""


@dataclass(frozen=True)
class EnduranceCommand:
    """Arguments of `python -m tests.endurance`."""

    starts: Annotated[int, Field(ge=4)] = 50
    """Processes that are stopped, over all four commands."""
    seed: int = 0
    """Of signals and moments."""


@dataclass
class Tally:
    """What has happened."""

    hits: Counter[str] = field(default_factory=Counter)
    """Processes that were still working when a signal reached them, by its name."""
    in_checkpoint: int = 0
    """Those killed while a checkpoint was being written."""
    looks: int = 0
    """States that the second process read."""
    blind: list[Exception] = field(default_factory=list)
    """What it could not read."""


def main(args: list[str]) -> None:
    """Disturb, compare, report."""
    command = parse(EnduranceCommand, args, prog="tests.endurance", description=TEXT)
    with TemporaryDirectory() as scratch:
        tally = endure(Path(scratch), command.starts, command.seed)
    print(
        f"{sum(tally.hits.values())} of {command.starts} starts were stopped while they worked;"
        f" nothing lost, the same bits: stopped by {dict(tally.hits)},"
        f" {tally.in_checkpoint} of these inside a checkpoint's writing, under {tally.looks} looks"
        " by another process"
    )


def endure(root: Path, starts: int, seed: int) -> Tally:
    """Run every command undisturbed in one folder and disturbed in another.

    Raises:
        AssertionError: something was lost, or a command ended with a code that it does not have.
    """
    whole, disturbed = root / "whole", root / "disturbed"
    starts_of = {name: round(share * starts) for name, share in SHARES.items()}
    for stage in stages_of(whole, starts_of).values():
        finish(stage)
    rng, tally = random.Random(seed), Tally()
    for name, stage in stages_of(disturbed, starts_of).items():
        with looked_at(stage.run, tally):
            for _ in range(starts_of[name]):
                disturb(stage, rng, tally)
        finish(stage)
    compare(whole, disturbed)
    assert not tally.blind, tally.blind
    return tally


@dataclass(frozen=True)
class Stage:
    """A command, and what it leaves on the way."""

    command: tuple[str, ...]
    run: Path
    """The run that it works on."""
    progress: Path
    """A file that grows by a line, or a folder that grows by a file, for each piece of work."""


def stages_of(home: Path, starts_of: Mapping[str, int]) -> dict[str, Stage]:
    """The four commands in a folder, each after those it needs, on runs that are long enough for so
    many starts of each."""
    teacher, student = home / "teacher", home / "student"
    steps = {name: str(STEPS_PER_START * starts) for name, starts in starts_of.items()}
    length = ("--training.steps", steps["teacher"])
    train = ("parity.train", "--run-dir", str(teacher), *TEACHER, *length)
    distill = (
        "parity.distill",
        "--run-dir",
        str(student),
        "--teacher",
        str(teacher),
        *STUDENT,
        "--training.steps",
        steps["student"],
    )
    export = (
        "common.export",
        str(teacher),
        "--step",
        steps["teacher"],
        "--out",
        str(home / "teacher.safetensors"),
        "--overwrite",
    )
    return {
        "teacher": Stage(train, teacher, teacher / "metrics.jsonl"),
        "student": Stage(distill, student, student / "metrics.jsonl"),
        "probe": Stage(
            ("parity.probe", str(teacher), *PROBE),
            teacher,
            teacher / "probes" / "correlations.parts",
        ),
        "export": Stage(export, teacher, home),
    }


def finish(stage: Stage) -> None:
    """Let a command run to its end."""
    done = run_module(*stage.command)
    assert done.returncode == 0, done.stderr


def disturb(stage: Stage, rng: random.Random, tally: Tally) -> None:
    """Start a command and stop it at a random moment; most kills wait for a checkpoint that is
    being written."""
    scatter(stage.run, rng)
    # What nohup or a shell's background has told this process to ignore stops no child either.
    how = rng.choice([name for name in SIGNALS if signal.getsignal(name) != signal.SIG_IGN])
    at_checkpoint = how == signal.SIGKILL and rng.random() < 0.9
    wanted = amount(stage.progress) + rng.randint(1, 3)
    process = start_module(*stage.command)
    assert process.pid is not None
    if at_checkpoint:
        latest = wanted + MOST_MISSED
        while process.is_alive() and not is_writing(stage.run) and amount(stage.progress) < latest:
            time.sleep(0.0005)
    else:
        while process.is_alive() and amount(stage.progress) < wanted:
            time.sleep(0.005)
    if not at_checkpoint:
        time.sleep(rng.uniform(0, 0.1))
    caught_writing = is_writing(stage.run)
    if process.is_alive():
        os.kill(process.pid, how)
        tally.hits[how.name] += 1
        tally.in_checkpoint += how == signal.SIGKILL and caught_writing
    process.join(60)
    assert process.exitcode in (
        0,
        -how,
        128 + how,
    ), f"{stage.command}: {process.exitcode} after {how.name}"


def scatter(run: Path, rng: random.Random) -> None:
    """Leave a stray file somewhere in a run, as file managers and people do."""
    folder = run / rng.choice(FOLDERS)
    if folder.is_dir():
        (folder / rng.choice(STRAY)).write_text("not ours")


def amount(path: Path) -> int:
    """Lines of a file, or files in a folder; none of what does not exist yet."""
    if path.is_dir():
        return sum(1 for _ in path.iterdir())
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_writing(run: Path) -> bool:
    """Whether a checkpoint is being written: until it is complete it has a temporary name."""
    folders = [run / name for name in ("checkpoints", "resume")]
    names = [entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    return any(not name.isdecimal() and name not in STRAY for name in names)


@contextmanager
def looked_at(run: Path, tally: Tally) -> Iterator[None]:
    """Let another process ask again and again how far a run is."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            try:
                tally.looks += bool(RunDirectory(run).state)
            except UserError:  # it does not exist yet
                continue
            except Exception as error:
                tally.blind.append(error)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def compare(whole: Path, disturbed: Path) -> None:
    """Everything that the commands left is the same in both folders."""
    for name in ("teacher", "student"):
        same_run(whole / name, disturbed / name)
    for name in (probe.IN_SUPPORT, probe.BY_STRATUM):
        path = Path("teacher") / "probes" / name
        assert (whole / path).read_bytes() == (disturbed / path).read_bytes(), path
    assert (whole / "teacher.safetensors").read_bytes() == (
        disturbed / "teacher.safetensors"
    ).read_bytes()


if __name__ == "__main__":
    run_command(main)
