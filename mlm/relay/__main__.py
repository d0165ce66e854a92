"""`python -m mlm.relay --chain large mid small`: a chain of classifiers, each taught by the one
before it, the first by labels."""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape

from common.base import processes
from common.base.config import (
    SETS_DEFAULTS,
    PositiveInt,
    PresetName,
    Runtime,
    chosen_preset,
    describe_presets,
    parse,
    validate,
)
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.experiment.requests import RunRequest, student_run, teacher_run
from common.runs.directory import RunDirectory
from mlm.relay.config import NAME
from mlm.relay.data import SentenceConfig
from mlm.relay.presets import PRESETS, Experiment, Link
from mlm.relay.spec import SPEC
from mlm.relay.start import StartConfig
from mlm.relay.task import task_of

DESCRIPTION = (
    "Train a chain of classifiers of sentences, each of one seed and taught by the one before it,"
    " the first by labels: RUN_DIR/LINK for every link. Start it again to go on. A single link, or"
    " another schedule, is python -m mlm.relay.train and mlm.relay.distill; the arms that a chain"
    " has to be compared with are python -m mlm.relay.experiment."
)


@dataclass(frozen=True)
class RelayCommand:
    """Arguments of `python -m mlm.relay`."""

    data: SentenceConfig
    run_dir: Path = tyro.MISSING
    """Where the links are kept, a folder each."""
    chain: tuple[str, ...] = tyro.MISSING
    """Links of the preset, each the teacher of the next."""
    encoders: Path | None = None
    """A folder with a trained encoder for each link, under its name; None: those of others that the
    preset names, or random weights."""
    steps: PositiveInt | None = None
    """Optimiser updates of each link; None: the preset's."""
    preset: PresetName = "quick"
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Train the links that are not there yet, and say how far each comes."""
    set_up_devices()
    processes.join()
    experiment = chosen_preset(args, PRESETS).config
    command = parse(
        RelayCommand,
        args,
        prog=NAME,
        description=describe_presets(DESCRIPTION, SETS_DEFAULTS, PRESETS),
        default=RelayCommand(experiment.teacher.data, chain=tuple(experiment.links)),
    )
    links = chosen_links(command.chain, experiment)
    runtime, data = validate(command.runtime), validate(command.data)
    if command.encoders is not None:
        links = {
            name: replace(link, start=StartConfig(str(command.encoders / name)))
            for name, link in links.items()
        }
    for link in links.values():
        # All that can be refused, before anything is trained.
        task_of(replace(experiment.teacher, data=data, start=link.start)).start(link.model)
    above: Path | None = None
    for name, link in links.items():
        run_dir = command.run_dir / name
        request = request_of(experiment, data, link, command.steps, run_dir, above)
        run = teacher_run(SPEC, request) if above is None else student_run(SPEC, request)
        run.run(runtime)
        above = run_dir
    console = Console(soft_wrap=True, highlight=False)
    accuracy = {name: accuracy_of(command.run_dir / name) for name in links}
    told = ", ".join(f"{name} {value:.4f}" for name, value in accuracy.items())
    console.print(escape(f"{command.run_dir}: accuracy on validation sentences: {told}"))


def chosen_links(chain: tuple[str, ...], experiment: Experiment) -> dict[str, Link]:
    """The links of a chain, in its order.

    Raises:
        UserError: a link is unknown, occurs twice, or is the only one.
    """
    if unknown := [name for name in chain if name not in experiment.links]:
        raise UserError(
            f"--chain: no link is called {unknown[0]}; choose of {', '.join(experiment.links)}"
        )
    if len(set(chain)) != len(chain) or len(chain) < 2:
        raise UserError("--chain: give at least two links, each once, from the teacher on")
    return {name: experiment.links[name] for name in chain}


def request_of(
    experiment: Experiment,
    data: SentenceConfig,
    link: Link,
    steps: int | None,
    run_dir: Path,
    above: Path | None,
) -> RunRequest:
    """The run of a link.

    Args:
        experiment: whose optimisers and budgets it has.
        data: the sentences.
        link: its model, and what that begins with.
        steps: its updates; None: those of the experiment.
        run_dir: where it is kept.
        above: the run that teaches it; None: labels do.
    """
    base = experiment.teacher if above is None else experiment.student
    training = replace(base.training, num_seeds=1, steps=steps or base.training.steps)
    parts = {"data": data, "model": link.model, "start": link.start, "training": training}
    if above is None:
        return RunRequest(replace(experiment.teacher, **parts), run_dir)
    (teacher_seed,) = RunDirectory(above).manifest["seeds"]
    config = replace(experiment.student, **parts, teacher_seed=teacher_seed)
    return RunRequest(config, run_dir, teacher=above)


def accuracy_of(run_dir: Path) -> float:
    """That of the last record of a run of one seed."""
    return RunDirectory(run_dir).metrics()[-1]["accuracy"][0]


if __name__ == "__main__":
    run_command(main)
