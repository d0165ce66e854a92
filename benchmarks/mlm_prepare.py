"""`python -m benchmarks.mlm_prepare`: time and memory of `python -m mlm.prepare`.

Its input is made up: words whose frequencies follow Zipf's law, with far more distinct ones than a
text of that size has, because the tokeniser's training holds them in memory. Memory is the sum of
what all processes of the command hold, so that what they share counts once for each of them: the
worst case.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.base.config import PositiveInt, parse
from common.base.errors import RunError, run_command
from common.runs.files import bytes_text
from mlm.prepare.__main__ import num_cores

_LETTERS = np.array(list("etaoinshrdlu"))
_SHORTEST, _LONGEST = 2, 12
_WORDS_PER_DOCUMENT = 600
_SAMPLE_SECONDS = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.mlm_prepare`."""

    sources: tuple[str, ...] = ()
    """Sources to prepare; none: text that is made up."""
    megabytes: PositiveInt = 1000
    """Of the text that is made up."""
    words: PositiveInt = 1_000_000
    """Distinct words that it is drawn from."""
    vocabulary_size: PositiveInt = 8192
    workers: PositiveInt = num_cores()


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    seconds: float
    peak_bytes: int
    """Resident, of all its processes together."""


def main(args: list[str]) -> None:
    """Measure and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.mlm_prepare",
        description="Time and memory of python -m mlm.prepare.",
    )
    with tempfile.TemporaryDirectory() as scratch:
        sources = command.sources
        if not sources:
            made_up = Path(scratch) / "made-up.jsonl"
            write_made_up(made_up, command.megabytes * 10**6, command.words)
            sources = (str(made_up),)
        flags = ("--vocabulary-size", command.vocabulary_size, "--workers", command.workers)
        out = Path(scratch) / "corpus"
        measured = measure(("mlm.prepare", *sources, "--out", out, *flags))
        manifest = json.loads((out / "manifest.json").read_text())
    tokens = sum(split["tokens"] for split in manifest["splits"].values())
    print(
        f"{tokens:,} tokens in {measured.seconds:.0f} s ({tokens / measured.seconds:,.0f} a"
        f" second), {command.workers} workers, at most {bytes_text(measured.peak_bytes)} of memory"
    )


def write_made_up(path: Path, size: int, num_words: int) -> None:
    """Write documents, one a line, of about so many bytes in all."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(_SHORTEST, _LONGEST, num_words, endpoint=True)
    letters = "".join(rng.choice(_LETTERS, int(lengths.sum())))
    ends = np.cumsum(lengths)
    words = np.array(
        [letters[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    )
    ranks = np.arange(1, num_words + 1)
    below = np.cumsum(1 / ranks) / np.sum(1 / ranks)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            drawn = words[np.searchsorted(below, rng.random(_WORDS_PER_DOCUMENT))]
            file.write(json.dumps({"text": " ".join(drawn)}) + "\n")


def measure(command: tuple[object, ...]) -> Measured:
    """Run `python -m` to its end."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], stdout=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise RunError(f"the command ended with exit code {process.returncode}")
    return Measured(time.monotonic() - began, peak)


def resident_bytes(pid: int) -> int:
    """Of a process and all that it has started, and these, and so on."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return 0
    return pages * _PAGE + sum(map(resident_bytes, children))


if __name__ == "__main__":
    run_command(main)
