"""`python -m figures.make`: draw every figure and the report of a preset from its run files."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.config import PresetName, chosen_preset, parse
from common.errors import UserError, run_command
from figures import first, law, levels, overview, report, spike, width
from parity.presets import PRESETS, Experiment

CAPTIONS = {
    "overview": (
        overview.draw,
        "Accuracy on held-out examples. Lines: mean over seeds; bands: the middle half of the seeds. Right: points of the paper's Figure 1 (left).",
    ),
    "spike": (
        spike.draw,
        "Left: the teachers (grey), and the one of median learning time (black) with its three candidate checkpoints. Middle: its degree-1"
        " correlations with 2p - 1. Right: students taught first by one candidate, then by the final checkpoint; mean over seeds, and the middle"
        " half of them.",
    ),
    "width": (
        width.draw,
        "Learning time on labels. Left: each seed at its width's best learning rate. Right: the sweep that chose the rate, on other seeds.",
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


def figures_of(experiment: Experiment) -> tuple[str, ...]:
    """The figures that an experiment has runs for."""
    absent = {"levels"} if experiment.tree is None else set()
    absent |= {"first"} if experiment.first is None else set()
    return tuple(name for name in CAPTIONS if name not in absent)


@dataclass(frozen=True)
class MakeCommand:
    """Arguments of `python -m figures.make`."""

    preset: PresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""
    out: Path = Path("site")
    """Figures and report go to OUT/PRESET."""


def main(args: list[str]) -> None:
    """Draw everything."""
    preset = chosen_preset(args, PRESETS)
    command = parse(MakeCommand, args, prog="figures.make", description="Draw every figure and the report of a preset from its run files.")
    home, folder = command.root / "parity" / preset.name, command.out / preset.name
    if not (home / "claims.json").exists():
        raise UserError(f"{home} is not complete; run `python -m parity.experiment --preset {preset.name} --root {command.root}` first")
    drawn = [report.Drawn(draw(home, folder), caption) for name, (draw, caption) in CAPTIONS.items() if name in figures_of(preset.config)]
    law_home = command.root / "law" / preset.name
    if (law_home / "fits.json").exists():
        drawn.append(report.Drawn(law.draw(law_home, folder), law.caption(law_home)))
    page = report.write(home, folder, preset.name, preset.note, drawn)
    console = Console(soft_wrap=True)
    for path in (*(figure.png for figure in drawn), page):
        console.print(str(path), highlight=False)


if __name__ == "__main__":
    run_command(main)
