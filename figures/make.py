"""`python -m figures.make`: draw every figure and the report of a preset from its run files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from common.config import Preset, PresetName, chosen_preset, last_value, parse
from common.errors import UserError, run_command
from common.lineage import refuse_stale_judgement
from common.runs.files import refuse_filled
from figures import ancestors, first, fresh, law, levels, loaders, overview, phases, report, spike, students, transition, width
from parity.presets import PRESETS as PARITY_PRESETS
from pcfg.presets import PRESETS as PCFG_PRESETS

LAW_SIZES = ("quick", "laptop")
"""Presets of `python -m parity.law`."""
ExperimentName = Literal["parity", "pcfg"]
Figure = tuple[Callable[[Path, Path], Path], str]
"""What draws it from an experiment's runs into a folder, and its caption."""

PARITY: dict[str, Figure] = {
    "overview": (
        overview.draw,
        "Accuracy on held-out examples. Lines: mean over seeds; bands: the middle half of the seeds. Right: points of the paper's Figure 1 (left).",
    ),
    "spike": (
        spike.draw,
        "Left: the teachers (grey), and the one of median learning time (black) with its three candidate checkpoints. Middle: its degree-1"
        " correlations with 2p - 1. Right: students taught first by one candidate, then by the final checkpoint; mean over seeds, and the middle"
        " half of them. Diamonds, at published scale: the paper's.",
    ),
    "transition": (
        transition.draw,
        "At most three teachers around their transitions (shaded; dotted: the detected checkpoint), from the published tables. Above: accuracy."
        " Middle: mean |correlation| with 2p - 1 of the coordinates of the support and of the others. Below: of the support's monomials of higher"
        " degrees. At published scale diamonds show the paper's points, read by eye; its correlations are with p and are shown doubled, and its"
        " checkpoint inside the transition, of 75% accuracy, is laid on the detected one; its checkpoints lie 100k examples apart.",
    ),
    "width": (
        width.draw,
        "Learning time on labels. Left: each seed at its width's best learning rate. Right: the sweep that chose the rate, on other seeds; where a"
        " point is missing, too few of them had learnt when the sweep ended, which it does at twice the best median.",
    ),
    "levels": (
        levels.draw,
        "Hierarchical parity: the labels are the leaves of a tree whose inner nodes each own a parity of coordinates of their own. Left: accuracy of"
        " the most probable node at each level; mean and middle half of the seeds. Right: the detected transition of each level, one line a seed.",
    ),
    "first": (
        first.draw,
        "Two-shot students of first checkpoints across the transition. Left: share that learns (95% intervals) and the checkpoint's accuracy."
        " Middle: its correlations with the support's monomials, mean over teachers. Right: how well the correlations of one degree tell who learns.",
    ),
}
PCFG: dict[str, Figure] = {
    "phases": (
        phases.draw,
        "Left: the teacher's loss on held-out sentences, with the exact optimum of a model that sees n tokens around a position and nothing else"
        " (solid), or also knows the position (dotted), and of the best model of all. Shaded: the drop that the detector finds in the mean curve;"
        " dotted: C1. Then: how far the teacher's prediction moves when a window around the position is masked, or all but the window; median over"
        " positions, mean and middle half of the seeds. Diamonds: the same for the best model that learns from such sentences. Far right: the paper's"
        " teacher.",
    ),
    "students": (
        students.draw,
        "From the left: accuracy on the selected tokens of held-out sentences, mean over seeds and the middle half of them; thin lines: the best"
        " models that see n tokens (solid), or also know the position (dotted). Accuracy at the end of"
        " runs of several lengths, mean over seeds and (from 3 seeds on) its 95% interval. Accuracy of 2-shot students by their first checkpoint."
        " Points of the paper's Figure 1 (right).",
    ),
    "ancestors": (
        ancestors.draw,
        "How well the non-terminals above every token can be read off the last hidden layer (level 0 is the start symbol): off the token's own"
        " position (linear), or off all positions, weighted by position (mixing). Intervals: 95% over seeds.",
    ),
}


@dataclass(frozen=True)
class Page:
    """What the report of an experiment holds."""

    title: str
    presets: Mapping[str, Preset[Any]]
    figures: Callable[[Any, Path], Sequence[tuple[str, Figure]]]
    """The figures that an experiment of this configuration has runs for in its folder."""
    footnote: str
    beyond: Callable[[str], tuple[tuple[str, ...], ...]] = lambda _: ()
    """The commands that run what a preset has beyond the paper."""


def parity_figures(experiment: Any, home: Path) -> list[tuple[str, Figure]]:
    """All but those of stages that the preset leaves out, or that have not been run: those beyond the paper."""
    has_beyond = (home / loaders.BEYOND).exists()
    absent = set()
    if experiment.tree is None or not has_beyond:
        absent.add("levels")
    if experiment.first is None or not has_beyond:
        absent.add("first")
    return [(name, figure) for name, figure in PARITY.items() if name not in absent]


def beyond_parity(preset: str) -> tuple[tuple[str, ...], ...]:
    """First checkpoints, hierarchical parity and further teachers, and the law over d, as far as a preset has them."""
    runs = (("parity.experiment", "--preset", preset, "--beyond"),)
    law_runs = (("parity.law", "--preset", preset),)
    return (runs if PARITY_PRESETS[preset].config.goes_beyond else ()) + (law_runs if preset in LAW_SIZES else ())


PAGES: dict[str, Page] = {
    "parity": Page(
        "Implicit curriculum in sparse parity",
        PARITY_PRESETS,
        parity_figures,
        "t90: first evaluation at or above 90% accuracy that is sustained for three evaluations, in training examples. A seed that does not get there"
        " within its budget is censored and ranks after all others. Learning rates were chosen on other seeds than those shown.",
        beyond_parity,
    ),
    "pcfg": Page(
        "Implicit curriculum in masked prediction on a grammar",
        PCFG_PRESETS,
        lambda *_: list(PCFG.items()),
        "Distances are total variations, half of the L1 norm that the paper reports.",
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
    makes_it = f"python -m {name}.experiment --preset {preset.name} --root {command.root}"
    if not (home / "claims.json").exists():
        raise UserError(f"{home} is not complete; run `{makes_it}` first")
    refuse_stale_judgement(home / "claims.json", makes_it)
    if (home / loaders.BEYOND).exists():
        refuse_stale_judgement(home / loaders.BEYOND, f"{makes_it} --beyond")
    drawn_names = [f"{figure}.{kind}" for figure in (*PARITY, *PCFG, "law") for kind in ("png", "pdf")]
    refuse_filled(folder, "report.html", ours=("data", fresh.RECORD, *drawn_names))
    law_home = command.root / "law" / preset.name
    console = Console(soft_wrap=True, highlight=False)
    inputs = fresh.fingerprint((home, law_home), f"{preset}")
    if fresh.is_current(folder, inputs):
        console.print(f"{folder / 'report.html'}: already drawn from these runs, nothing to do")
        return
    drawn = [report.Drawn(draw(home, folder), caption) for _, (draw, caption) in page.figures(preset.config, home)]
    if name == "parity" and (law_home / "fits.json").exists():
        refuse_stale_judgement(law_home / "fits.json", f"{law.COMMAND} {preset.name} --root {command.root}")
        drawn.append(report.Drawn(law.draw(law_home, folder), law.caption(law_home)))
    subject = report.Subject(page.title, preset.name, preset.note, f"python -m {name}.experiment --preset {preset.name}", page.footnote)
    written = report.write(home, folder, subject, drawn)
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
        raise UserError(f"--experiment {name}: unknown experiment; choose one of {', '.join(PAGES)}")
    return name, PAGES[name], chosen_preset(args, PAGES[name].presets)


def folder_of(experiment: str, preset: str) -> str:
    """What the results of a preset are called among those of all experiments."""
    return preset if experiment == "parity" else f"{experiment}-{preset}"


if __name__ == "__main__":
    run_command(main)
