"""`python -m figures.make`: draw every figure and the report of a preset from its run files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console

from common.config import Preset, PresetName, chosen_preset, last_value, parse
from common.errors import UserError, run_command
from figures import ancestors, first, law, levels, overview, phases, report, spike, students, transition, width
from parity.presets import PRESETS as PARITY_PRESETS
from pcfg.presets import PRESETS as PCFG_PRESETS

ExperimentName = Literal["parity", "pcfg"]


class Figure(Protocol):
    """A module that draws one figure of an experiment's runs, `home`, into a folder, and says what it shows there."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Returns the path of the PNG."""
        ...

    def caption(self, home: Path) -> str:
        """Nothing but what is drawn of these runs."""
        ...


PARITY: dict[str, Figure] = {
    "overview": overview,
    "spike": spike,
    "transition": transition,
    "width": width,
    "levels": levels,
    "first": first,
}
PCFG: dict[str, Figure] = {"phases": phases, "students": students, "ancestors": ancestors}


@dataclass(frozen=True)
class Page:
    """What the report of an experiment holds."""

    title: str
    presets: Mapping[str, Preset[Any]]
    figures: Callable[[Any], Sequence[tuple[str, Figure]]]
    """The figures that an experiment of this configuration has runs for."""
    footnote: Callable[[Any], str]
    """How to read the claims of an experiment of this configuration."""


def parity_figures(experiment: Any) -> list[tuple[str, Figure]]:
    """All but those of stages that the preset leaves out."""
    absent = {"levels"} if experiment.tree is None else set()
    absent |= {"first"} if experiment.first is None else set()
    return [(name, figure) for name, figure in PARITY.items() if name not in absent]


def parity_footnote(experiment: Any) -> str:
    """What a learning time is, and where the learning rates come from."""
    if experiment.tuning is None:
        rates = "Learning rates are the preset's; no sweep of this experiment chose them."
    else:
        rates = "Learning rates were chosen on other seeds than those shown."
    return (
        "t90: first evaluation at or above 90% accuracy that is sustained for three evaluations, in"
        " training examples. A seed that does not get there within its budget is censored and ranks"
        f" after all others. {rates}"
    )


PAGES: dict[str, Page] = {
    "parity": Page(
        "Implicit curriculum in sparse parity",
        PARITY_PRESETS,
        parity_figures,
        parity_footnote,
    ),
    "pcfg": Page(
        "Implicit curriculum in masked prediction on a grammar",
        PCFG_PRESETS,
        lambda _: list(PCFG.items()),
        lambda _: "Distances are total variations, half of the L1 norm that the paper reports.",
    ),
}


@dataclass(frozen=True)
class MakeCommand:
    """Arguments of `python -m figures.make`."""

    experiment: ExperimentName = "parity"
    """Whose runs."""
    preset: PresetName = "quick"
    """Which of its presets."""
    root: Path = Path("runs")
    """Where runs are kept."""
    out: Path = Path("site")
    """Figures and report go to OUT/PRESET, or OUT/pcfg-PRESET."""


def main(args: list[str]) -> None:
    """Draw everything."""
    name, page, preset = chosen_page(args)
    command = parse(MakeCommand, args, prog="figures.make", description="Draw every figure and the report of a preset from its run files.")
    home, folder = command.root / name / preset.name, command.out / folder_of(name, preset.name)
    if not (home / "claims.json").exists():
        raise UserError(f"{home} is not complete; run `python -m {name}.experiment --preset {preset.name} --root {command.root}` first")
    figures = page.figures(preset.config)
    drawn = [report.Drawn(figure.draw(home, folder), figure.caption(home)) for _, figure in figures]
    additions = []
    law_home = command.root / "law" / preset.name
    if name == "parity" and (law_home / "fits.json").exists():
        drawn.append(report.Drawn(law.draw(law_home, folder), law.caption(law_home)))
        additions.append(law.addition(law_home))
    made_by = f"python -m {name}.experiment --preset {preset.name}"
    subject = report.Subject(page.title, preset.name, preset.note, made_by, page.footnote(preset.config))
    written = report.write(home, folder, subject, drawn, additions)
    console = Console(soft_wrap=True)
    for path in (*(figure.png for figure in drawn), written):
        console.print(str(path), highlight=False)


def chosen_page(args: Sequence[str]) -> tuple[str, Page, Preset[Any]]:
    """The experiment and the preset that the arguments name.

    Raises:
        UserError: there is none of that name.
    """
    name = last_value(args, "--experiment") or "parity"
    if name not in PAGES:
        raise UserError(f"--experiment {name}: unknown experiment; choose one of {', '.join(PAGES)}")
    return name, PAGES[name], chosen_preset(args, PAGES[name].presets)


def folder_of(experiment: str, preset: str) -> str:
    """What the results of a preset are called among those of all experiments."""
    return preset if experiment == "parity" else f"{experiment}-{preset}"


if __name__ == "__main__":
    run_command(main)
