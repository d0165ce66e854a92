"""`python -m figures.readme`: write the tables of the README anew from the published results.

Each of them stands below a comment that names it, `<!-- table: quick -->`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.runs.files import write_text
from figures import law, loaders, publish, students

_TABLE = re.compile(r"(?m)^<!-- table: (.+) -->\n(?:\|.*\n)*")


@dataclass(frozen=True)
class ReadmeCommand:
    """Arguments of `python -m figures.readme`."""

    readme: Path = Path("README.md")
    """The file that is changed in place."""
    results: Path = Path("results")
    """Where `python -m figures.publish` put the results."""


def main(args: list[str]) -> None:
    """Render, and write what has changed."""
    description = "Write the tables of the README anew from the published results."
    command = parse(ReadmeCommand, args, prog="figures.readme", description=description)
    write_text(command.readme, render(command.readme.read_text(encoding="utf-8"), command.results))
    print(command.readme)


def render(text: str, results: Path) -> str:
    """A text in which every marked table says what the results say.

    Raises:
        UserError: a mark names no table that is known.
    """

    def table(found: re.Match[str]) -> str:
        name = found[1]
        if name not in TABLES:
            raise UserError(f"table: {name} is unknown; there are {', '.join(TABLES)}")
        return f"<!-- table: {name} -->\n{TABLES[name](results)}"

    return _TABLE.sub(table, text)


def parity_claims(results: Path, preset: str) -> str:
    """The claims of a parity preset."""
    return publish.claims_table(loaders.claims(results / preset), "parity", preset)


def pcfg_claims(results: Path, preset: str) -> str:
    """The claims of a PCFG preset."""
    return publish.claims_table(loaders.claims(results / f"pcfg-{preset}"), "pcfg", preset)


def law_claims(results: Path, preset: str) -> str:
    """The claims of a law."""
    return law.table(law.fits_of(results / f"law-{preset}"), preset)


def steps_table(results: Path) -> str:
    """Training steps beside PyTorch's: a row for each, with one seed and with several."""
    table = pd.read_csv(results / "speed" / "steps.csv", dtype=str)
    rows = ["| step | PyTorch | here, 1 seed | here, seeds together |", "| --- | --- | --- | --- |"]
    for step, of_step in table[table.run == "first"].groupby("step", sort=False):
        one, many = (row for _, row in of_step.iterrows())
        unit = " ms" if one.unit == "ms" else ""
        alone = f"{one.here}{unit} ({one.times}x)"
        together = f"{many.here}{unit}, {many.seeds} seeds ({many.times}x)"
        rows.append(f"| {step} | {one.pytorch} {one.unit} | {alone} | {together} |")
    return "\n".join(rows) + "\n"


def blocked_table(results: Path) -> str:
    """What a step in blocks costs, by width, dimension and seeds."""
    table = pd.read_csv(results / "speed" / "blocked.csv", dtype=str, keep_default_na=False)
    table = table[table.run == "first"]
    problems = list(dict.fromkeys(zip(table.d, table.seeds, strict=True)))
    heads = [f"d={d}, {seeds} seed{'s' if seeds != '1' else ''}" for d, seeds in problems]
    rows = [
        f"| ms a step and seed (memory of the step) | {' | '.join(heads)} |",
        "| --- |" + " --- |" * len(heads),
    ]
    for width, of_width in table.groupby("width", sort=False):
        cells = [
            f"{row.ms} ({row.megabytes} MB)" if row.megabytes else row.ms
            for _, row in of_width.iterrows()
        ]
        rows.append(f"| width {_thousands(str(width))} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _thousands(width: str) -> str:
    return f"{int(width):,}" if int(width) >= 10_000 else width


TABLES: dict[str, Callable[[Path], str]] = {
    "quick": lambda results: parity_claims(results, "quick"),
    "transformer-quick": lambda results: parity_claims(results, "transformer-quick"),
    "law-quick": lambda results: law_claims(results, "quick"),
    "pcfg-laptop": lambda results: pcfg_claims(results, "laptop"),
    "pcfg-laptop beside the published students": lambda results: students.beside_published(
        results / "pcfg-laptop"
    ),
    "speed of steps": steps_table,
    "speed of blocked steps": blocked_table,
}
"""What renders each table, from the folder of the results."""


if __name__ == "__main__":
    run_command(main)
