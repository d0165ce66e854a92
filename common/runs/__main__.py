"""`python -m common.runs DIR`: shows what a run is and how far it has come, and verifies its
checkpoints."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.base.config import flatten, parse
from common.base.errors import RunError, run_command
from common.runs.directory import RunDirectory
from common.runs.files import bytes_text, size_bytes
from common.runs.trajectory import Trajectory, describe_steps

_TAIL = 5
WATCH_SECONDS = 2.0
MEASURED = ("accuracy", "eval_loss", "train_loss")


@dataclass(frozen=True)
class RunsCommand:
    """Arguments of `python -m common.runs`."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory."""
    watch: bool = False
    """Print every further evaluation, on whatever machine it is made, until the run is
    finished."""
    verify: bool = False
    """Read every checkpoint and the resume state, and compare them with the hashes in the manifest;
    exit code 1 if one differs."""


def main(args: list[str]) -> None:
    """Show a run, and verify it if asked to."""
    command = parse(
        RunsCommand,
        args,
        prog="common.runs",
        description="Show a run: configuration, state, metrics, checkpoints, size.",
    )
    run = RunDirectory(command.run_dir)
    console = Console(soft_wrap=True, highlight=False)
    console.print(overview(run))
    if records := run.metrics():
        console.print(metrics_tail(records))
    if command.watch:
        watch(command.run_dir, console)
    if command.verify:
        console.print(f"verified: {escape(verify(run))}")


def watch(run_dir: Path, console: Console) -> None:
    """Print evaluations as they come, a line each, and how the run has ended."""
    run = RunDirectory(run_dir)
    num_shown = len(run.metrics())
    while not run.finished:
        time.sleep(WATCH_SECONDS)
        run = RunDirectory(run_dir)
        records = run.metrics()
        for record in records[num_shown:]:
            means = (f"{name} {_spread(record[name])}" for name in MEASURED)
            console.print(escape(f"step {record['step']:,}: {', '.join(means)}"))
        # A run that is resumed writes its last records again.
        num_shown = len(records)
    console.print(escape(f"{run_dir}: {run.state}"))


def overview(run: RunDirectory) -> Table:
    """A table of everything but the metrics."""
    table = Table("", "", title=escape(str(run.path)), show_header=False, title_justify="left")
    for name, value in _overview_rows(run):
        table.add_row(name, escape(value))
    return table


def _overview_rows(run: RunDirectory) -> Iterator[tuple[str, str]]:
    manifest = run.manifest
    yield "run", f"{run.record['experiment']}.{run.record['stage']}"
    yield "state", run.state
    yield "size", bytes_text(size_bytes(run.path))
    yield "checkpoints", describe_steps(Trajectory(run).steps())
    yield "seeds", ", ".join(map(str, dict.fromkeys(manifest["seeds"])))
    yield (
        "learning rates",
        ", ".join(f"{rate:g}" for rate in dict.fromkeys(manifest["learning_rates"])),
    )
    yield "commit", manifest["commit"]
    yield "device", ", ".join(f"{key} {value}" for key, value in manifest["device"].items())
    yield (
        "packages",
        ", ".join(f"{name} {version}" for name, version in manifest["packages"].items()),
    )
    for name, value in flatten({"made from": manifest.get("made_from", {})}).items():
        yield name, str(value)
    for name, value in flatten({"config": run.record["config"], **run.record["paths"]}).items():
        yield name, str(value)


def metrics_tail(records: list[dict[str, Any]]) -> Table:
    """A table of the last evaluations: mean over lanes, with the lowest and the highest."""
    table = Table(
        "step",
        "examples",
        *MEASURED,
        title=f"last of {len(records)} evaluations: mean over lanes \\[lowest, highest]",
        title_justify="left",
    )
    for record in records[-_TAIL:]:
        table.add_row(
            f"{record['step']:,}",
            f"{record['examples']:,}",
            *(_spread(record[name]) for name in MEASURED),
        )
    return table


def _spread(values_L: list[float | None]) -> str:
    known = [value for value in values_L if value is not None]
    if not known:
        return "none"
    return f"{np.mean(known):.4f} [{min(known):.4f}, {max(known):.4f}]"


def verify(run: RunDirectory) -> str:
    """Compare the checkpoints, and the resume state of an unfinished run, with the manifest; a
    sentence on what was verified.

    Raises:
        RunError: naming every checkpoint that cannot be read or does not match its hash.
    """
    trajectory = Trajectory(run)
    if problems := trajectory.problems():
        raise RunError("\n".join(problems))
    verified = f"{len(trajectory.steps())} checkpoints"
    if "resume" in run.manifest and not run.finished:
        verified += " and the resume state"
    return f"{verified} match the hashes in {run.path}/manifest.json"


if __name__ == "__main__":
    run_command(main)
