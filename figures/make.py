"""`python -m figures.make`: draw every figure and the report of a preset from its run files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.base.config import PresetName, chosen_preset, last_value, parse
from common.base.errors import UserError, run_command
from common.experiment.plan import plan_preset, states
from common.experiment.source import source_folder
from common.experiment.spec import ExperimentSpec
from common.experiment.stages import Stage
from common.runs.files import refuse_filled
from common.runs.lineage import refuse_stale_judgement
from figures import fresh, loaders, registry, report
from figures.page import Page


@dataclass(frozen=True)
class MakeCommand:
    """Arguments of `python -m figures.make`."""

    experiment: str = registry.EXPERIMENTS[0]
    """Whose runs: the name of an experiment."""
    preset: PresetName = "quick"
    root: Path = Path("runs")
    """Where runs are kept."""
    out: Path = Path("site")
    """Figures and report go to OUT/EXPERIMENT/PRESET."""


def main(args: list[str]) -> None:
    """Draw everything."""
    spec, page = chosen_experiment(args)
    preset = chosen_preset(args, spec.presets)
    command = parse(
        MakeCommand,
        args,
        prog="figures.make",
        description=describe("Draw every figure and the report of a preset from its runs.", spec),
    )
    home, folder = command.root / spec.name / preset.name, command.out / spec.name / preset.name
    made_by = f"python -m {spec.name}.experiment --preset {preset.name}"
    refuse_incomplete(spec, home, f"{made_by} --root {command.root}")
    pictures = [f"{name}.{kind}" for name in page.names for kind in ("png", "pdf")]
    refuse_filled(folder, "report.html", ours=("data", fresh.RECORD, *pictures))
    study_home = None
    if page.study is not None and (command.root / page.study.name / preset.name).is_dir():
        study_home = command.root / page.study.name / preset.name
    console = Console(soft_wrap=True, highlight=False)
    if note := what_is_stale(plan_preset(spec, preset.name, command.root)):
        console.print(f"[yellow]note:[/] {escape(note)}")
    homes = [home] if study_home is None else [home, study_home]
    inputs = fresh.fingerprint(homes, str(preset), source_folder(spec.name))
    if fresh.is_current(folder, inputs):
        console.print(f"{folder / 'report.html'}: already drawn from these runs, nothing to do")
        return
    drawn = [
        report.Drawn(figure.draw(home, folder), figure.caption(home))
        for figure in page.chosen(preset.config, home)
    ]
    additions = []
    if page.study is not None and study_home is not None:
        judgement = study_home / page.study.output
        if judgement.exists():
            makes_it = f"python -m {page.study.module} --preset {preset.name} --root {command.root}"
            refuse_stale_judgement(judgement, makes_it)
            figure, addition = page.study.find(study_home, folder)
            drawn.append(figure)
            additions.append(addition)
    subject = report.Subject(
        title=page.title,
        preset=preset.name,
        note=preset.note,
        command=made_by,
        footnote=page.footnote(preset.config),
        data=page.data(home),
        tables=page.tables(home),
    )
    written = report.write(home, folder, subject, drawn, additions)
    pngs = [figure.png for figure in drawn]
    fresh.keep(folder, inputs, (*pngs, *(png.with_suffix(".pdf") for png in pngs), written))
    for path in (*pngs, written):
        console.print(str(path), markup=False)


def describe(text: str, spec: ExperimentSpec) -> str:
    """The `--help` text of a command on the runs of any experiment; `spec` is the chosen one."""
    return (
        f"{text}\n\nExperiments: {', '.join(registry.names())}. Presets of {spec.name}:"
        f" {', '.join(spec.presets)}."
    )


def what_is_stale(stages: Sequence[Stage]) -> str:
    """Of which runs the figures would be others, were they made now; empty if of none."""
    stale = [
        f"{stage.name} {state.reason}"
        for stage, state in zip(stages, states(stages), strict=True)
        if state.word == "stale"
    ]
    if not stale:
        return ""
    return (
        f"these figures are of the runs that are there, of which {len(stale)} are stale: {stale[0]}"
    )


def refuse_incomplete(spec: ExperimentSpec, home: Path, makes_it: str) -> None:
    """Raise a UserError unless the claims of an experiment are judged, of the runs that are there.

    Args:
        spec: which experiment.
        home: the folder of its runs.
        makes_it: the command that runs it.
    """
    if not (home / spec.paper.output).exists():
        raise UserError(f"{home} is not complete; run `{makes_it}` first")
    refuse_stale_judgement(home / spec.paper.output, makes_it)
    if (home / loaders.BEYOND).exists():
        refuse_stale_judgement(home / loaders.BEYOND, f"{makes_it} --beyond")


def chosen_experiment(args: Sequence[str]) -> tuple[ExperimentSpec, Page]:
    """The experiment that the arguments name.

    Raises:
        UserError: there is none of that name.
    """
    name = last_value(args, "--experiment") or registry.EXPERIMENTS[0]
    return registry.spec_of(name), registry.page_of(name)


if __name__ == "__main__":
    run_command(main)
