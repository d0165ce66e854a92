"""Probes of a whole trajectory: what every one of them does with a run directory, whatever it
measures.

A probe reads the checkpoints of a finished run and writes tables into `probes/` inside it, and last
`probes/<name>.json`, which holds its settings and the hash of the run, and says that it is
complete. What it has computed is kept checkpoint by checkpoint, so that an interrupted probe goes
on where it stopped.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.base.errors import RunError, UserError
from common.base.interruption import telling
from common.base.progress import progress_bar
from common.base.reading import read_object
from common.runs.directory import RunDirectory, finished_run
from common.runs.files import replacing, write_json
from common.runs.lineage import MADE_FROM, VERSION, probed_here, result_hash
from common.runs.lock import locked

FOLDER = "probes"
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class OpenProbe:
    """A probe of one run that is not complete yet."""

    run: RunDirectory
    folder: Path
    """Where its tables go."""
    parts: Path
    """Where what it has computed waits."""
    summary: dict[str, Any] = field(default_factory=dict)
    """Further entries of its JSON file."""

    def over(
        self,
        steps: Sequence[int],
        compute: Callable[[Sequence[int]], Mapping[str, np.ndarray]],
        together: int = 1,
        unit: str = "checkpoints",
    ) -> list[dict[str, np.ndarray]]:
        """Compute arrays for the checkpoints of a trajectory, some of them together, or take what
        an interrupted probe has left.

        Args:
            steps: the checkpoints, or other numbers that tell parts of the work apart.
            compute: steps of one group to named arrays.
            together: checkpoints in a group.
            unit: what they are, for the progress bar.

        Returns:
            The arrays of every group, in order.
        """
        groups = [steps[start : start + together] for start in range(0, len(steps), together)]
        with progress_bar("probe", len(steps), unit=unit, rate_unit=unit) as progress:
            for group in groups:
                target = self._part(group)
                if not target.exists():
                    arrays: dict[str, Any] = dict(compute(group))
                    with replacing(target) as file:
                        np.savez(file, **arrays)
                progress(min(len(steps), groups.index(group) * together + len(group)))
        return [self._load(group) for group in groups]

    def what_is_saved(self) -> str:
        """What is left if this process ends now, and what to do."""
        num_parts = len(list(self.parts.glob("*.npz")))
        if not num_parts:
            return (
                f"nothing of the probe of {self.run.path} is saved yet; the same command begins it"
                " again"
            )
        return (
            f"the probe of {self.run.path} is saved up to its part {num_parts}; the same command"
            " goes on from there"
        )

    def _part(self, group: Sequence[int]) -> Path:
        return self.parts / f"{group[0]}-{group[-1]}.npz"

    def _load(self, group: Sequence[int]) -> dict[str, np.ndarray]:
        path = self._part(group)
        try:
            with np.load(path) as part:
                return dict(part)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path} is damaged ({error}); delete {self.parts} and run the probe's command"
                " again"
            ) from None


def probed_run(path: Path, experiment: str) -> RunDirectory:
    """The finished run that is to be probed.

    Raises:
        UserError: it is missing, unfinished, or of another experiment.
    """
    run = RunDirectory(path)
    if run.record["experiment"] != experiment:
        raise UserError(
            f"{path} is a run of {run.record['experiment']}, and this probe measures runs of"
            f" {experiment}; give it one of `python -m {experiment}.train` or `.distill`"
        )
    return finished_run(path)


@contextmanager
def opened_probe(
    run: RunDirectory, name: str, settings: Mapping[str, Any], version: int = 1
) -> Iterator[OpenProbe | None]:
    """Begin a probe of a finished run, or go on with it; complete it when the block ends. None if
    it has been done.

    What can be refused is refused before: from here on the run holds files of the probe.

    Args:
        run: as `probed_run` returns it.
        name: of its JSON file.
        settings: plain JSON values.
        version: of the code that measures.

    Raises:
        UserError: another process probes the run in this way, it was probed with other settings, or
            it is not the run that was probed.
        RunError: the JSON file of an earlier probe is damaged.
    """
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    # Not that of the run, which several probes may read at the same time.
    with locked(folder, f"{name}.lock"):
        complete, parts = folder / f"{name}.json", folder / f"{name}.parts"
        settings = json.loads(json.dumps(settings))
        if complete.exists():
            record = read_object(complete, ("settings",), "the probe's command")
            if record["settings"] != settings:
                raise UserError(
                    f"{folder} holds a probe with other settings; delete {complete} to probe again"
                )
            if not probed_here(record, run):
                raise UserError(
                    f"{folder} holds a probe of another run than {run.path} is now; delete"
                    f" {complete} to probe again"
                )
            _drop_parts(parts)  # of a process that was killed at the very end
            print(f"{complete}: already there, nothing to do")
            yield None
            return
        made_from = {MADE_FROM: {"run": {"hash": result_hash(run)}}, VERSION: version}
        marker, begun = parts / _SETTINGS, {"settings": settings, **made_from}
        if _left_by(marker) != begun:
            _drop_parts(parts)
            parts.mkdir(exist_ok=True)
            write_json(marker, begun)
        probe = OpenProbe(run, folder, parts)
        with telling(probe.what_is_saved):
            yield probe
        write_json(complete, begun | probe.summary)
        _drop_parts(parts)


def _drop_parts(parts: Path) -> None:
    """Delete what a probe has kept, and its folder if nothing else lies there."""
    for entry in parts.iterdir() if parts.is_dir() else ():
        if entry.suffix in (".npz", ".tmp") or entry.name == _SETTINGS:
            entry.unlink()
    with suppress(OSError):  # there is none, or something that is not ours in it
        parts.rmdir()


def _left_by(marker: Path) -> Any:
    """What an interrupted probe was begun with; None where there is none, or none that can be
    read."""
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def chosen_steps(steps: Sequence[int], every: int) -> tuple[int, ...]:
    """Every so many of the checkpoints, the first and the last among them."""
    return tuple(sorted({steps[0], steps[-1], *(steps[::every] if every else ())}))
