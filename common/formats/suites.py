"""Public suites of checkpoints: how their steps are named, which there are, and what is known of
them.

Names and grids as published: MultiBERTs (Sellam et al. 2022), Pythia (Biderman et al. 2023), Parc
(Michaelov), Mistral's GPT-2 (Karamcheti et al. 2021).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.base.errors import UserError
from common.formats.folder import CONFIG, has_pickle, has_weights


@dataclass(frozen=True)
class Suite:
    """How the checkpoints of a suite are named."""

    name: re.Pattern[str]
    """Of a checkpoint's folder, repository or revision; the group is the step, over `unit`."""
    steps: tuple[int, ...]
    """All that are published."""
    batch_size: int
    """Sequences that an update has seen."""
    unit: int = 1

    def step_of(self, name: str) -> int | None:
        """The step that a name tells; None: it is not of this suite."""
        found = self.name.search(name)
        return None if found is None else int(found[1]) * self.unit


SUITES: Mapping[str, Suite] = {
    "multiberts": Suite(
        re.compile(r"multiberts-seed_\d+-step_(\d+)k$"),
        (0, *range(20_000, 200_001, 20_000), *range(300_000, 2_000_001, 100_000)),
        batch_size=256,
        unit=1000,
    ),
    "pythia": Suite(
        re.compile(r"(?:^|[-_@])step(\d+)$"),
        (0, *(2**i for i in range(10)), *range(1000, 143_001, 1000)),
        batch_size=1024,
    ),
    "parc-pythia": Suite(
        re.compile(r"(?:^|[-_@])(?:step|checkpoint)[-_]?(\d+)$"),
        (*(10 * 2**i for i in range(9)), 4000),
        batch_size=512,
    ),
    "mistral-gpt2": Suite(
        re.compile(r"(?:^|[-_@])checkpoint-(\d+)$"),
        (
            *range(10, 100, 10),
            *range(100, 2000, 50),
            *range(2000, 20_000, 100),
            *range(20_000, 400_001, 1000),
        ),
        batch_size=512,
    ),
}
"""By the names that commands take."""


class Snapshot(NamedTuple):
    """A checkpoint of a suite on this disk."""

    step: int
    folder: Path


class Found(NamedTuple):
    """What a folder of snapshots holds of a suite."""

    snapshots: list[Snapshot]
    """Those that can be read, in the order of their steps."""
    unreadable: list[Snapshot]
    """Those whose weights are pickles, which are to be converted first."""
    missing: list[int]
    """Published steps of which there is nothing."""


def find_snapshots(folder: Path, suite: Suite) -> Found:
    """The checkpoints of a suite in the folders below one.

    Raises:
        UserError: it is no folder, or none of them is there; or two are of one step.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that holds the snapshots")
    snapshots, unreadable = [], []
    for path in sorted(path.parent for path in folder.glob(f"**/{CONFIG}")):
        step = suite.step_of(path.name)
        if step is None:
            continue
        if has_weights(path):
            snapshots.append(Snapshot(step, path))
        elif has_pickle(path):
            unreadable.append(Snapshot(step, path))
    if not snapshots and not unreadable:
        raise UserError(
            f"{folder} holds no checkpoint whose folder is named like {suite.name.pattern}, with"
            f" {CONFIG} and weights in it"
        )
    refuse_twice(snapshots)
    there = {snapshot.step for snapshot in (*snapshots, *unreadable)}
    missing = [step for step in suite.steps if step not in there]
    return Found(sorted(snapshots), sorted(unreadable), missing)


def listed_snapshots(path: Path) -> list[Snapshot]:
    """The checkpoints that a list file names: a step and a folder a line; a path that is relative
    is so to the file.

    Raises:
        UserError: it cannot be read, or a line of it; or two are of one step.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise UserError(f"{path} is no list of checkpoints; give a text file") from None
    snapshots = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        step, _, folder = line.strip().partition(" ")
        if not step.isdigit() or not folder:
            raise UserError(f"{path}, line {number}: {line!r} is no step and folder")
        snapshots.append(Snapshot(int(step), path.parent / folder.strip()))
    if not snapshots:
        raise UserError(f"{path} names no checkpoint")
    refuse_twice(snapshots)
    return sorted(snapshots)


def refuse_twice(snapshots: list[Snapshot]) -> None:
    """Raise a UserError if two checkpoints are of one step."""
    folder_of: dict[int, Path] = {}
    for step, folder in snapshots:
        if step in folder_of:
            raise UserError(f"{folder_of[step]} and {folder} are both of step {step}")
        folder_of[step] = folder
