"""What the report of an experiment holds, as the experiment says it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.base.config import Preset
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
    """What a further command of an experiment has found: its figure, and its part of the report."""

    drawn: Drawn
    addition: Addition


@dataclass(frozen=True)
class Page:
    """What the report of an experiment holds."""

    title: str
    presets: Mapping[str, Preset[Any]]
    figures: Mapping[str, Figure]
    """All that can be drawn of it."""
    figure_of: Mapping[str, str]
    """The figure that shows each claim."""
    footnote: Callable[[Any], str] = lambda _: ""
    """How to read the claims of an experiment of this configuration."""
    absent: Callable[[Any, Path], set[str]] = lambda *_: set()
    """Figures for which an experiment of this configuration has no runs in its folder."""
    beyond: Callable[[str], tuple[tuple[str, ...], ...]] = lambda _: ()
    """The commands that run what a preset has beyond the paper, without root and runtime."""
    study: Callable[[Path, str, Path], Study | None] = lambda *_: None
    """What a further command has found, from the root of runs and the preset, drawn into a folder;
    None where it has not been run."""
    study_home: Callable[[Path, str], Path | None] = lambda *_: None
    """Where that command keeps its runs."""
    tables: Callable[[Path], Mapping[str, Any]] = lambda _: {}
    """Further tables to be published, by file name, made from the experiment's runs."""

    def chosen(self, experiment: Any, home: Path) -> Sequence[tuple[str, Figure]]:
        """The figures that an experiment has runs for, in order."""
        absent = self.absent(experiment, home)
        return [(name, figure) for name, figure in self.figures.items() if name not in absent]
