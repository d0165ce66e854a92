"""`python -m figures.redraw results/parity/PRESET`: draw figures of published results again from
their tables, where the runs are gone.

Figures that show more than what was published as a table are left as they are.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.runs.files import copy_file
from figures import first, law, tables, transition, width
from parity.presets import PRESETS


@dataclass(frozen=True)
class RedrawCommand:
    """Arguments of `python -m figures.redraw`."""

    published: tyro.conf.Positional[Path]
    """Results of an experiment, for example results/parity/paper; the figures go there too."""


@dataclass(frozen=True)
class FromTables:
    """A figure that published tables suffice for."""

    draw: Callable[[Path, Path], Path]
    """From the folder of the tables into another."""
    tables: tuple[str, ...]


FIGURES: dict[str, tuple[FromTables, ...]] = {
    "parity": (
        FromTables(width.draw, ("learning_times.csv",)),
        FromTables(first.draw, (tables.FIRST, "claims.json")),
        FromTables(transition.draw_published_tables, (tables.CURVES, tables.CORRELATIONS)),
    ),
    "law": (FromTables(law.draw, ("fits.json", "learning_times.csv")),),
}
"""By experiment."""


def main(args: list[str]) -> None:
    """Draw beside the tables."""
    published = parse(
        RedrawCommand,
        args,
        prog="figures.redraw",
        description="Draw the figures of published results again from their tables.",
    ).published
    figures = FIGURES.get(published.absolute().parent.name, ())
    drawable = [figure for figure in figures if has_all(published, figure.tables)]
    if not drawable or published.name not in PRESETS:
        raise UserError(
            f"{published} has no tables that a figure could be drawn from; name a folder such as"
            " results/parity/quick, as `python -m figures.publish` writes them"
        )
    for figure in drawable:
        with tempfile.TemporaryDirectory() as scratch:
            drawn = figure.draw(published, Path(scratch))
            copy_file(drawn, published / drawn.name)
        print(published / drawn.name)


def has_all(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether a folder has all of these files."""
    return all((folder / name).exists() for name in names)


if __name__ == "__main__":
    run_command(main)
