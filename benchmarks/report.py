"""What benchmarks of training steps write with `--out`, and the tables of README.md show."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu import PACKAGES, version_of
from benchmarks.turns import Timing
from common.base.mesh import use_all_cores
from common.runs.directory import start_of_now
from common.runs.files import write_json


@dataclass(frozen=True)
class StepSpeed:
    """A training step of ours beside the fastest PyTorch loop of it."""

    step: str
    """What is trained."""
    unit: Literal["examples/s", "ms"]
    """examples/s: of all seeds together. ms: a step and seed."""
    pytorch: float
    """Of one seed."""
    seeds: int
    """Of ours, which train together."""
    here: float

    @property
    def times(self) -> float:
        """How many times as fast ours is."""
        return self.here / self.pytorch if self.unit == "examples/s" else self.pytorch / self.here


@dataclass(frozen=True)
class BlockedCost:
    """What a step in blocks costs."""

    width: int
    d: int
    seeds: int
    block: int
    """Examples in a block."""
    ms: float
    """A step and seed."""
    megabytes: float
    """Of the compiled steps, on one device."""


def write_found(
    out: Path,
    benchmark: str,
    timings: Mapping[str, Mapping[str, Timing]],
    steps: Sequence[StepSpeed],
    blocked: Sequence[BlockedCost] = (),
) -> None:
    """Write what a benchmark has measured as JSON, with every round and with the machine.

    Args:
        out: the file.
        benchmark: its module.
        timings: all of them, by the titles of tables, then by side.
        steps: rows of the table of steps.
        blocked: rows of that of steps in blocks.
    """
    seconds = {
        title: {name: list(timing.seconds) for name, timing in sides.items()}
        for title, sides in timings.items()
    }
    rows = {
        "steps": [asdict(row) | {"times": row.times} for row in steps],
        "blocked": [asdict(row) for row in blocked],
    }
    write_json(out, {"about": about(benchmark), **rows, "seconds_of_rounds": seconds})


def about(benchmark: str) -> dict[str, Any]:
    """What was typed and when, the code, the machine, and the versions."""
    use_all_cores()
    return {
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **start_of_now(),
        "packages": {name: version_of(name) for name in PACKAGES},
    }


def our_name(seeds: int) -> str:
    """Of our side, in tables."""
    return f"this laboratory, {seeds} seed{'s' if seeds > 1 else ''}"
