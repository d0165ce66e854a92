"""What benchmarks of training steps write with `--out`; `benchmarks.publish` reads it."""

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
    """A training step of ours beside the fastest PyTorch loop of it: a row of
    `results/steps.csv`."""

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
    """What a step in blocks costs: a row of `results/blocked.csv`."""

    width: int
    d: int
    seeds: int
    block: int | None
    """Examples in a block; None: as many as runs have."""
    ms: float
    """A step and seed."""
    megabytes: float | None
    """Of the compiled steps; None: it is not shown."""


@dataclass(frozen=True)
class Found:
    """What a benchmark has measured."""

    timings: Mapping[str, Mapping[str, Timing]]
    """By the titles of tables, then by side."""
    steps: Sequence[StepSpeed] = ()
    blocked: Sequence[BlockedCost] = ()

    def write(self, out: Path, module: str) -> None:
        """Write it as JSON, with every round and with what it was measured on.

        Args:
            out: the file.
            module: the benchmark's.
        """
        seconds = {
            title: {name: list(timing.seconds) for name, timing in sides.items()}
            for title, sides in self.timings.items()
        }
        rows = {
            "steps": [asdict(row) | {"times": row.times} for row in self.steps],
            "blocked": [asdict(row) for row in self.blocked],
        }
        found = {"benchmark": module, "about": about(module), **rows, "seconds_of_rounds": seconds}
        write_json(out, found)


def our_name(seeds: int) -> str:
    """Of our side, in tables."""
    return f"this laboratory, {seeds} seed{'s' if seeds > 1 else ''}"


def about(module: str) -> dict[str, Any]:
    """What was typed and when, the code, the machine, and the versions."""
    use_all_cores()
    return {
        "command": shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **start_of_now(),
        "packages": {name: version_of(name) for name in PACKAGES},
    }
