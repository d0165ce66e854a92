"""`python -m figures.make`: draw every figure and the report of a preset from its run files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console

from common.base.config import Preset, PresetName, chosen_preset, last_value, parse
from common.base.errors import UserError, run_command
from common.runs.files import refuse_filled
from common.runs.lineage import refuse_stale_judgement
from figures import (
    ancestors,
    first,
    fresh,
    law,
    levels,
    loaders,
    overview,
    phases,
    report,
    spike,
    students,
    transition,
    width,
)
from parity.presets import PRESETS as PARITY_PRESETS
from pcfg.presets import PRESETS as PCFG_PRESETS

LAW_SIZES = ("quick", "laptop")
"""Presets of `python -m parity.law`."""
ExperimentName = Literal["parity", "pcfg"]


class Figure(Protocol):
    """A module that draws one figure of an experiment's runs, `home`, into a folder, and says what
    it shows there."""

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
    figures: Callable[[Any, Path], Sequence[tuple[str, Figure]]]
    """The figures that an experiment of this configuration has runs for in its folder."""
    footnote: Callable[[Any], str]
    """How to read the claims of an experiment of this configuration."""
    beyond: Callable[[str], tuple[tuple[str, ...], ...]] = lambda _: ()
    """The commands that run what a preset has beyond the paper."""


def parity_figures(experiment: Any, home: Path) -> list[tuple[str, Figure]]:
    """All but those of stages that the preset leaves out, or that have not been run: those beyond
    the paper."""
    has_beyond = (home / loaders.BEYOND).exists()
    absent = set()
    if experiment.tree is None or not has_beyond:
        absent.add("levels")
    if experiment.first is None or not has_beyond:
        absent.add("first")
    return [(name, figure) for name, figure in PARITY.items() if name not in absent]


def beyond_parity(preset: str) -> tuple[tuple[str, ...], ...]:
    """First checkpoints, hierarchical parity and further teachers, and the law over d, as far as a
    preset has them."""
    runs = (("parity.experiment", "--preset", preset, "--beyond"),)
    law_runs = (("parity.law", "--preset", preset),)
    return (runs if PARITY_PRESETS[preset].config.goes_beyond else ()) + (
        law_runs if preset in LAW_SIZES else ()
    )


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
        beyond_parity,
    ),
    "pcfg": Page(
        "Implicit curriculum in masked prediction on a grammar",
        PCFG_PRESETS,
        lambda *_: list(PCFG.items()),
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
    """Figures and report go to OUT/EXPERIMENT/PRESET."""


def main(args: list[str]) -> None:
    """Draw everything."""
    name, page, preset = chosen_page(args)
    command = parse(
        MakeCommand,
        args,
        prog="figures.make",
        description="Draw every figure and the report of a preset from its run files.",
    )
    home, folder = command.root / name / preset.name, command.out / name / preset.name
    makes_it = f"python -m {name}.experiment --preset {preset.name} --root {command.root}"
    if not (home / "claims.json").exists():
        raise UserError(f"{home} is not complete; run `{makes_it}` first")
    refuse_stale_judgement(home / "claims.json", makes_it)
    if (home / loaders.BEYOND).exists():
        refuse_stale_judgement(home / loaders.BEYOND, f"{makes_it} --beyond")
    drawn_names = [
        f"{figure}.{kind}" for figure in (*PARITY, *PCFG, "law") for kind in ("png", "pdf")
    ]
    refuse_filled(folder, "report.html", ours=("data", fresh.RECORD, *drawn_names))
    law_home = command.root / "law" / preset.name
    console = Console(soft_wrap=True, highlight=False)
    inputs = fresh.fingerprint((home, law_home), f"{preset}")
    if fresh.is_current(folder, inputs):
        console.print(f"{folder / 'report.html'}: already drawn from these runs, nothing to do")
        return
    figures = page.figures(preset.config, home)
    drawn = [report.Drawn(figure.draw(home, folder), figure.caption(home)) for _, figure in figures]
    additions = []
    if name == "parity" and (law_home / "fits.json").exists():
        refuse_stale_judgement(
            law_home / "fits.json", f"{law.COMMAND} {preset.name} --root {command.root}"
        )
        drawn.append(report.Drawn(law.draw(law_home, folder), law.caption(law_home)))
        additions.append(law.addition(law_home))
    made_by = f"python -m {name}.experiment --preset {preset.name}"
    subject = report.Subject(
        page.title, preset.name, preset.note, made_by, page.footnote(preset.config)
    )
    written = report.write(home, folder, subject, drawn, additions)
    pictures = [figure.png for figure in drawn]
    fresh.keep(folder, inputs, (*pictures, *(png.with_suffix(".pdf") for png in pictures), written))
    for path in (*pictures, written):
        console.print(str(path), markup=False)


def chosen_page(args: Sequence[str]) -> tuple[str, Page, Preset[Any]]:
    """The experiment and the preset that the arguments name.

    Raises:
        UserError: there is none of that name.
    """
    name = last_value(args, "--experiment") or "parity"
    if name not in PAGES:
        raise UserError(
            f"--experiment {name}: unknown experiment; choose one of {', '.join(PAGES)}"
        )
    return name, PAGES[name], chosen_preset(args, PAGES[name].presets)


if __name__ == "__main__":
    run_command(main)
