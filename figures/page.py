"""What the report of an experiment holds, as the experiment says it in its module `page`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from figures.report import Addition, Drawn


class Figure(Protocol):
    """A module that draws one figure of an experiment's runs, `home`, into a folder, and says what
    it shows there."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Returns the path of the PNG."""
        ...

    def caption(self, home: Path) -> str:
        """Nothing but what is drawn of these runs."""
        ...


@dataclass(frozen=True)
class Study:
    """A further command of an experiment, whose findings stand in the same report."""

    name: str
    """Of the folder of its runs below the root, and of its figure."""
    module: str
    """Of the command that runs it, which takes the name of a preset."""
    output: str
    """The JSON file that marks its end, in its folder."""
    find: Callable[[Path, Path], tuple[Drawn, Addition]]
    """What its folder of runs holds, drawn into another folder."""
    presets: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """What the report of an experiment holds."""

    title: str
    figures: Mapping[str, Figure]
    """All that can be drawn, in order."""
    figure_of: Mapping[str, str]
    """The figure that shows each claim."""
    beyond: frozenset[str] = frozenset()
    """Those of the claims that are on runs which the paper does not have."""
    data: Callable[[Path], Mapping[str, str]] = lambda _: {}
    """The tables in an experiment's folder, those of its judgement and of its probes, that are kept
    beside the report if they are there: by path, and what each holds. `tuning.csv` always is."""
    published: tuple[str, ...] = ()
    """Files in an experiment's folder that are small enough to be committed, by path."""
    footnote: Callable[[Any], str] = lambda _: ""
    """How to read the claims of an experiment of this configuration."""
    absent: Callable[[Any, Path], set[str]] = lambda *_: set()
    """Figures for which an experiment of this configuration has no runs in its folder."""
    study: Study | None = None
    tables: Callable[[Path], Mapping[str, tuple[str, pd.DataFrame]]] = lambda _: {}
    """Tables that are in no file of the experiment and made from its runs now, for report and
    results: by file name, each with what it holds."""

    def chosen(self, experiment: Any, home: Path) -> list[Figure]:
        """The figures that an experiment has runs for, in order."""
        absent = self.absent(experiment, home)
        return [figure for name, figure in self.figures.items() if name not in absent]

    @property
    def names(self) -> list[str]:
        """Of all pictures."""
        return [*self.figures, *([] if self.study is None else [self.study.name])]
