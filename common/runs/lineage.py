"""What runs, probes and judgements were made from, and whether that is what is there now.

Each says so by name. A run: its configuration, what identifies its data, and the hash of its
teacher in `config.json`; teacher and sweep, by path and hash, in its manifest. A probe: the run
that it looked at. A judgement (claims, fits): every run and probe that it was made from. All carry
the version that the code which made them declares. Runs and judgements also carry a hash of the
experiment's own code: a judgement by other code is made again, a run by other code is only told of,
because most changes change no run. These records are compared here with what is
there. What an older record does not say is not compared.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.base.config import fingerprint, flatten
from common.base.errors import UserError
from common.base.reading import read_object
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy, tuned_rate

MADE_FROM = "made_from"
"""The entry that says it, of a run's manifest, a probe or a judgement."""
VERSION = "version"
"""The entry with the version of the code."""
SOURCE = "source"
"""The entry with the hash of the experiment's own code."""
_RATE = "optim.learning_rate"
_SETTINGS = {"experiment", "stage", "config"}
"""The parts of a run's record that say in words what it is; further ones are hashes of its data."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class PlannedRun:
    """The run that a planned command makes."""

    record: Mapping[str, Any]
    """What identifies it, its teacher aside, before a sweep has chosen its rate."""
    criterion: TunedBy
    """By which it takes the best rate of a sweep."""
    version: str
    """Of the code that trains it."""
    idle: tuple[str, ...] = ()
    """How the names of the settings begin that have no effect on it."""


def result_hash(run: RunDirectory) -> str:
    """Identity of a run and of what came out: the same bits trained again have the same."""
    return fingerprint({"config": run.hash, "checkpoints": run.manifest["checkpoints"]})


def source(path: Path) -> dict[str, Any]:
    """A run that something is made from, as it is recorded."""
    return {"path": str(path), "hash": result_hash(RunDirectory(path))}


def why_run_is_stale(
    path: Path, planned: PlannedRun, teacher: Path | None, sweep: Path | None
) -> str:
    """What of a run is not as planned, to be read after its name; empty if all is.

    Args:
        path: the run, finished or not.
        planned: what it is to be.
        teacher: the run that is to teach it.
        sweep: the run that is to choose its learning rate.
    """
    run = RunDirectory(path)
    return (
        _other_settings(run, planned, sweep)
        or _other_version(run.manifest, planned.version)
        or _other_rate(run, planned, sweep)
        or _other_teacher(run, teacher)
    )


def why_probe_is_stale(summary: Path, settings: Mapping[str, Any], version: int) -> str:
    """What of a complete probe is not as planned, to be read after its name; empty if all is.

    Args:
        summary: its JSON file, among the probes of its run.
        settings: what it is to be made with.
        version: of the code that measures.
    """
    record = read_object(summary, ("settings",), "the probe's command")
    path = summary.parent.parent
    differing = _differing(record["settings"], settings)
    if differing:
        return f"was made with {differing}"
    if not probed_here(record, RunDirectory(path)):
        return f"was made of another run than the one in {path} (trained again since)"
    return _other_version(record, version)


def probed_here(record: Mapping[str, Any], run: RunDirectory) -> bool:
    """Whether a probe's record is of this run, as far as it says."""
    return MADE_FROM not in record or record[MADE_FROM]["run"]["hash"] == result_hash(run)


def contents(home: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Hashes of runs and files below `home`, by name; None for what is missing or unfinished."""
    return {name: _content(home / name) for name in names}


def why_judgement_is_stale(
    judgement: Path,
    names: Iterable[str] | None = None,
    version: int | None = None,
    source: str | None = None,
) -> str:
    """Why a judgement is not of the runs that are there, to be read after its name; empty if it is.

    Args:
        judgement: its JSON file.
        names: the runs and probes beside it that it is to be made from; None for those that it
            names itself.
        version: of the code that judges; None: whatever it was.
        source: hash of the experiment's code; None: whatever it was.
    """
    record = read_object(judgement, (), "its command")
    recorded = record.get(MADE_FROM)
    if recorded is None:
        return "does not say which runs it was made from (an older version wrote it)"
    now = contents(judgement.parent, recorded if names is None else names)
    differing = sorted(
        name for name in recorded.keys() | now.keys() if recorded.get(name) != now.get(name)
    )
    if differing:
        return f"was made from other runs than those that are there: {_first_of(differing, ', ')}"
    if version is not None and (reason := _other_version(record, version)):
        return reason
    if source is not None and record.get(SOURCE, source) != source:
        return "was judged before the experiment's code was changed"
    return ""


def refuse_stale_judgement(judgement: Path, command: str) -> None:
    """Refuse to go on with a judgement of other runs than those that are there.

    Args:
        judgement: its JSON file, which exists.
        command: makes it anew.

    Raises:
        UserError: it is stale.
    """
    if reason := why_judgement_is_stale(judgement):
        raise UserError(f"{judgement} {reason}; run `{command}` first")


def _other_settings(run: RunDirectory, planned: PlannedRun, sweep: Path | None) -> str:
    not_compared = (
        planned.idle if sweep is None else (*planned.idle, _RATE)
    )  # on which the sweep has the last word
    there, wanted = (_settings(record, not_compared) for record in (run.record, planned.record))
    if differing := _differing(there, wanted):
        return f"was trained with {differing}"
    for name in sorted(planned.record.keys() & run.record.keys() - _SETTINGS):
        if run.record[name] != planned.record[name]:
            return f"was trained on another {name} than the one of that name is now"
    return ""


def _other_version(record: Mapping[str, Any], wanted: int | str) -> str:
    made_by = record.get(VERSION, wanted)
    return "" if made_by == wanted else f"was made by version {made_by} of its code, now {wanted}"


def _other_rate(run: RunDirectory, planned: PlannedRun, sweep: Path | None) -> str:
    if sweep is None or not _is_finished(sweep):
        return ""
    if recorded := run.manifest.get(MADE_FROM, {}).get("tuned_by"):
        if recorded["hash"] == result_hash(RunDirectory(sweep)):
            return ""
        return (
            f"had its learning rate chosen by another sweep than the one in {sweep} (trained again"
            " since)"
        )
    there = run.record["config"]["optim"]["learning_rate"]
    wanted = tuned_rate(sweep, planned.criterion)
    if there == [wanted]:
        return ""
    return f"was trained with {_RATE} = {_shown(there)}, the sweep in {sweep} chooses {wanted}"


def _other_teacher(run: RunDirectory, teacher: Path | None) -> str:
    recorded = run.record.get("teacher_hash")
    if teacher is None or recorded is None or not _is_finished(teacher):
        return ""
    if recorded == result_hash(RunDirectory(teacher)):
        return ""
    return f"was taught by another teacher than the one in {teacher} (trained again since)"


def _is_finished(path: Path) -> bool:
    """Whether what it is compared with is there; one that is still to be trained may become the
    same."""
    return (path / "manifest.json").exists() and RunDirectory(path).finished


def _content(path: Path) -> str | None:
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return result_hash(RunDirectory(path)) if _is_finished(path) else None


def _settings(record: Mapping[str, Any], but: tuple[str, ...]) -> dict[str, Any]:
    """All settings of a record by their names on the command line, but those whose names begin
    so."""
    parts = flatten({name: value for name, value in record.items() if name in _SETTINGS})
    settings = {name.removeprefix("config."): value for name, value in parts.items()}
    return {name: value for name, value in settings.items() if not name.startswith(but)}


def _differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [
        name for name in sorted(there.keys() | wanted.keys()) if there.get(name) != wanted.get(name)
    ]
    return _first_of(
        [
            f"{name} = {_shown(there.get(name))}, the preset now says {_shown(wanted.get(name))}"
            for name in names
        ],
        "; ",
    )


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _first_of(texts: list[str], separator: str) -> str:
    more = len(texts) - _MOST_NAMED
    return separator.join([*texts[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
