"""`python -m figures.reproduce`: every experiment of a size end to end, then its figures and its
report.

What has been done is found done, so that the same command goes on after an interruption. What is
run and drawn are the commands that a person would type: `python -m EXPERIMENT.experiment --preset
NAME` and `python -m figures.make`.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.base import processes
from common.base.config import Runtime, parse
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.experiment.plan import counted, not_done, plan_preset, states
from common.experiment.spec import ExperimentSpec
from common.experiment.stages import Stage
from figures import make, registry


@dataclass(frozen=True)
class ReproduceCommand:
    """Arguments of `python -m figures.reproduce`."""

    preset: str = "quick"
    """A size, quick, laptop or paper: the presets of that name and those on Transformers; or one
    preset by its own name."""
    beyond: bool = False
    """What the paper does not have instead: the law over d, hierarchical parity, first checkpoints,
    further teachers."""
    root: Path = Path("runs")
    """Where runs are kept."""
    out: Path = Path("site")
    """Where figures and reports go."""
    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class Part:
    """A preset of an experiment, and the commands that run it."""

    experiment: str
    preset: str
    commands: tuple[tuple[str, ...], ...]


def main(args: list[str]) -> None:
    """Run what has not been run, draw what has not been drawn."""
    text = (
        "Run every experiment of a size from the teachers to the claims, and draw its figures."
        " Start it again to go on."
    )
    command = parse(ReproduceCommand, args, prog="figures.reproduce", description=text)
    parts = list(parts_of(command.preset, beyond=command.beyond))
    if not parts:
        specs = [registry.spec_of(name) for name in registry.names()]
        known = sorted({preset for spec in specs for preset in spec.presets})
        what = "nothing goes beyond the paper there" if command.beyond else "no experiment has it"
        raise UserError(f"--preset {command.preset}: {what}; choose one of {', '.join(known)}")
    processes.refuse_several()
    set_up_devices()
    stages = [stage for part in parts for stage in stages_of(part, command)]
    with counted(not_done(stages, states(stages)), stages):
        run_and_draw(parts, command)
    reports = [command.out / part.experiment / part.preset / "report.html" for part in parts]
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"reports: {', '.join(map(str, reports))}"
    )


def run_and_draw(parts: Sequence[Part], command: ReproduceCommand) -> None:
    """The parts in order, by their commands."""
    where = ("--root", str(command.root))
    runtime = ("--runtime.resume-seconds", str(command.runtime.resume_seconds))
    for part in parts:
        for module, *rest in part.commands:
            importlib.import_module(module).main([*rest, *where, *runtime])
        drawn = ("--experiment", part.experiment, "--preset", part.preset)
        make.main([*drawn, *where, "--out", str(command.out)])


def stages_of(part: Part, command: ReproduceCommand) -> list[Stage]:
    """The stages of its experiment, where that is among its commands. A study is not counted: its
    stages run side by side, in processes of their own."""
    spec, module = registry.spec_of(part.experiment), f"{part.experiment}.experiment"
    if not any(words[0] == module for words in part.commands):
        return []
    return plan_preset(spec, part.preset, command.root, beyond=command.beyond)


def parts_of(size: str, *, beyond: bool) -> Iterator[Part]:
    """What a size consists of, in order; beyond the paper only presets that have something
    there."""
    for name in registry.names():
        spec = registry.spec_of(name)
        for preset in (size, f"transformer-{size}"):
            if preset not in spec.presets:
                continue
            runs = (f"{name}.experiment", "--preset", preset)
            commands = beyond_commands(spec, preset) if beyond else (runs,)
            if commands:
                yield Part(name, preset, commands)


def beyond_commands(spec: ExperimentSpec, preset: str) -> tuple[tuple[str, ...], ...]:
    """The commands that run what a preset has beyond the paper."""
    commands = []
    if spec.goes_beyond(spec.presets[preset].config):
        commands.append((f"{spec.name}.experiment", "--preset", preset, "--beyond"))
    study = registry.page_of(spec.name).study
    if study is not None and preset in study.presets:
        commands.append((study.module, "--preset", preset))
    return tuple(commands)


if __name__ == "__main__":
    run_command(main)
