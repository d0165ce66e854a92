"""`python -m mlm.suite`: a suite of checkpoints, as it was published, as one run."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape

from common.base.config import parse, validate
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.formats.fetch import HUB, fetched, name_and_revision, revisions_of
from common.formats.folder import conversion
from common.formats.suites import (
    SUITES,
    Found,
    Snapshot,
    Suite,
    find_snapshots,
    listed_snapshots,
)
from common.runs.trajectory import describe_steps
from common.sequence.masking import CountedMaskingConfig
from mlm.config import LoadedTraining
from mlm.data import TextConfig
from mlm.load import load

DESCRIPTION = f"""\
Load a suite of checkpoints as one run, which every probe reads and which can teach (see \
mlm.load). It tells which published steps are missing, which are pickles, and whether a drop of \
the loss lies between two checkpoints. Start it again to go on.

--like says how the checkpoints are named: {", ".join(SUITES)}; or it is a file with a step and a \
folder a line.

FOLDER is one with the snapshots in folders below it, or hub:NAME, whose branches and tags are the \
checkpoints."""


@dataclass(frozen=True)
class SuiteCommand:
    """Arguments of `python -m mlm.suite`."""

    run_dir: Path
    like: str
    """A suite's name, or a list file."""
    data: TextConfig
    folder: tyro.conf.Positional[str] = "."
    """Where the checkpoints are; a list file names its own."""
    seed: int = 0
    """What to call their seed: students are paired with teachers by it."""
    eval_examples: int = 1024
    """Rows that every checkpoint is evaluated on."""
    masking: CountedMaskingConfig = CountedMaskingConfig()
    """Of what a BERT is evaluated on."""


def main(args: list[str]) -> None:
    """Find the checkpoints, say which are missing, and load them."""
    set_up_devices()
    command = parse(SuiteCommand, args, prog="mlm.suite", description=DESCRIPTION)
    if command.like in SUITES:
        suite = SUITES[command.like]
        found = found_of(command.folder, suite)
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        for line in what_is_not_there(found):
            console.print(f"[yellow]warning:[/] {escape(line)}")
        snapshots, batch_size = found.snapshots, suite.batch_size
    elif Path(command.like).is_file():
        snapshots, batch_size = listed_snapshots(Path(command.like)), 1
    else:
        raise UserError(
            f"--like {command.like}: neither a suite ({', '.join(SUITES)}) nor a list file"
        )
    if not snapshots:
        raise UserError(f"{command.folder}: none of its checkpoints can be read")
    training = LoadedTraining(snapshots[-1].step, batch_size, command.eval_examples, command.seed)
    load(snapshots, command.run_dir, validate(command.data), training, command.masking)


def found_of(folder: str, suite: Suite) -> Found:
    """The checkpoints of a suite in a folder, or of a name on the hub.

    Raises:
        UserError: there are none, or the hub cannot be reached.
    """
    if not folder.startswith(HUB):
        return find_snapshots(Path(folder), suite)
    name, _ = name_and_revision(folder)
    step_of = {revision: suite.step_of(revision) for revision in revisions_of(name)}
    known = {revision: step for revision, step in step_of.items() if step is not None}
    if not known:
        raise UserError(f"{folder}: no branch or tag is named like {suite.name.pattern}")
    snapshots = [Snapshot(step, fetched(name, revision)) for revision, step in known.items()]
    missing = sorted(set(suite.steps) - set(known.values()))
    return Found(sorted(snapshots), [], missing)


def what_is_not_there(found: Found) -> list[str]:
    """What is to be told of checkpoints that are missing or cannot be read."""
    lines = []
    if found.missing:
        lines.append(f"steps that were published and are missing: {described(found.missing)}")
    if found.unreadable:
        steps = described([snapshot.step for snapshot in found.unreadable])
        lines.append(f"steps {steps}: {conversion(found.unreadable[0].folder)}")
    return lines


def described(steps: list[int]) -> str:
    """Steps as a short text."""
    return describe_steps(tuple(steps))


if __name__ == "__main__":
    run_command(main)
