"""`python -m benchmarks.publish FILE...`: put what benchmarks wrote with `--out` into
`benchmarks/results`, from which `python -m figures.readme` renders the tables.

Rows of the same step, or of the same blocks, are replaced, others are added; numbers have three
digits. provenance.json gets the command, the commit, the machine and the versions of each
benchmark.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.runs.files import write_json, write_text

KEYS = {"steps": ("run", "step", "seeds"), "blocked": ("run", "width", "d", "seeds", "block")}
"""The tables, and the columns by which a row is known."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class PublishCommand:
    """Arguments of `python -m benchmarks.publish`."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """What benchmarks wrote."""
    run: str = "first"
    """What these measurements are called in the tables; `first` are those that the README's tables
    show."""
    results: Path = RESULTS
    """The folder of steps.csv, blocked.csv and provenance.json, which are changed."""


def main(args: list[str]) -> None:
    """Merge the files into the tables."""
    command = parse(
        PublishCommand,
        args,
        prog="benchmarks.publish",
        description="Put measurements of training steps into the published tables.",
    )
    found = [found_in(path) for path in command.files]
    for table, keys in KEYS.items():
        rows = [row_of(command.run, row) for of_file in found for row in of_file[table]]
        path = command.results / f"{table}.csv"
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        records = [
            dict(zip(old.columns, line, strict=True)) for line in old.itertuples(index=False)
        ]
        table_now = pd.DataFrame(merged(records, rows, keys), columns=old.columns)
        write_text(path, table_now.to_csv(index=False, lineterminator="\n"))
        print(f"{path}: {len(rows)} rows of these measurements")
    path = command.results / "provenance.json"
    provenance = json.loads(path.read_text())
    of_run = provenance["runs"].setdefault(command.run, {})
    of_run |= {of_file["benchmark"]: of_file["about"] for of_file in found}
    write_json(path, provenance)
    print(path)


def found_in(path: Path) -> dict[str, Any]:
    """What a benchmark wrote.

    Raises:
        UserError: another file, or none.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"benchmark", "about", *KEYS} <= found.keys():
        raise UserError(f"{path} was not written by a benchmark of steps with --out")
    return found


def row_of(run: str, row: Mapping[str, Any]) -> dict[str, str]:
    """A row as the table has it."""
    return {"run": run} | {name: text_of(value) for name, value in row.items()}


def text_of(value: str | float | None) -> str:
    """A number of three digits; whole ones, which count something, and words as they are."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def merged(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Old rows, those that are known as a new one replaced by it, then the other new ones."""
    by_keys = {tuple(row[key] for key in keys): row for row in (*old, *new)}
    return list(by_keys.values())


if __name__ == "__main__":
    run_command(main)
