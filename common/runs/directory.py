"""Run directories, the only interface between stages.

    config.json      what was asked for; its hash is the run's identity
    manifest.json    what happened: commit, versions, devices of every start, seeds, hashes of
                     checkpoints, resume state, wall time, status
    metrics.jsonl    one JSON object per evaluation
    checkpoints/     the trajectory
    resume/          the state to go on from
    probes/          the results of probes
    lock             held (flock) by the process that writes; readers do not touch it
    running          exists while a process writes, for readers
    DONE             marks a finished run

`python -m common.runs DIR` shows one; `--verify` checks every hash in it.
"""

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from common.base import processes
from common.base.config import ConfigT, fingerprint, flatten, from_dict
from common.base.errors import UserError
from common.runs.files import is_stray, is_temporary, some_of, write_json, write_text
from common.runs.lock import announced, is_announced, is_left, locked
from common.runs.schema import check_manifest, check_metrics, check_record, corrupted

__all__ = [
    "DONE",
    "RunDirectory",
    "finished_run",
    "is_run",
    "locked",
    "opened",
    "runs_below",
    "write_json",
    "write_text",
]

DONE = "DONE"
CONFIG, MANIFEST, METRICS = "config.json", "manifest.json", "metrics.jsonl"
_SEEN_WITHIN = 60
"""Seconds."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class RunDirectory:
    """A run on disk. `RunDirectory(path)` reads one. `opened` creates or continues one and holds
    its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = _read_json(path / CONFIG, "it is not a run directory")
        check_record(self.record, path / CONFIG)
        self.manifest = _read_json(path / MANIFEST, "its manifest is missing")
        check_manifest(self.manifest, path / MANIFEST)

    @property
    def hash(self) -> str:
        """The identity of the run: SHA-256 of what was asked for."""
        return self.manifest["config_hash"]

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        return self.manifest["status"] == "finished"

    @property
    def state(self) -> str:
        """One line on how far the run is."""
        if self.finished:
            return f"finished in {self.manifest['wall_seconds']:.1f} s"
        doing = "running" if is_announced(self.path) else "interrupted"
        resume = self.manifest.get("resume")
        saved = f"saved at step {resume['step']}" if resume else "no state saved yet"
        return f"{doing}; {saved}"

    def config(self, cls: type[ConfigT]) -> ConfigT:
        """What was asked for, as a configuration of this class.

        Raises:
            RunError: it is none.
        """
        return from_dict(cls, self.record["config"], self.path / CONFIG)

    def write_manifest(self, **changes: Any) -> None:
        """Change some manifest entries, atomically; of several processes the first one does."""
        self.manifest.update(changes)
        if processes.is_first():
            write_json(self.path / MANIFEST, self.manifest)

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics records. An incomplete last line, left by a process that died, is left
        out."""
        path = self.path / METRICS
        try:
            complete = path.read_text(encoding="utf-8").split("\n")[:-1]
            records = [json.loads(line) for line in complete]
        except FileNotFoundError:
            return []
        except ValueError as error:  # no JSON, or no UTF-8
            raise corrupted(path, str(error)) from None
        check_metrics(records, path)
        return records

    def finish(self, wall_seconds: float) -> None:
        """Record that the run has reached its end."""
        self.write_manifest(status="finished", wall_seconds=round(wall_seconds, 3))

    def mark_done(self) -> None:
        """Write the marker of a finished run. It comes last, and again where a workflow manager has
        removed it."""
        processes.by_first((self.path / DONE).touch)


def is_run(path: Path) -> bool:
    """Whether a directory holds a run, by the names of its files."""
    return (path / CONFIG).is_file() and (path / MANIFEST).is_file()


def runs_below(folder: Path) -> list[Path]:
    """All run directories below a folder."""
    found = []
    for manifest in folder.glob(f"**/{MANIFEST}"):
        run = manifest.parent
        in_stray = any(is_stray(part) for part in run.relative_to(folder).parts)
        if is_run(run) and not in_stray:
            found.append(run)
    return sorted(found)


def finished_run(path: Path, what: str = "run") -> RunDirectory:
    """A run that has reached its end.

    Args:
        path: its directory.
        what: what to call it in the message.

    Raises:
        UserError: it is missing or unfinished.
    """
    run = RunDirectory(path)
    refuse_unfinished(run, what)
    return run


def refuse_unfinished(run: RunDirectory, what: str = "run") -> None:
    """Raise a UserError if a run has not reached its end; the message calls it `what`."""
    if not run.finished:
        raise UserError(
            f"the {what} {run.path} is not finished ({run.state}); run its command again, it goes"
            " on from where it stopped"
        )


@contextmanager
def opened(path: Path, record: Mapping[str, Any], **provenance: Any) -> Iterator[RunDirectory]:
    """Create the run directory, or open the one an earlier process left, and hold its lock: that of
    the first process, if there are several.

    Args:
        path: the directory.
        record: what is asked for, as JSON values; all but `paths` identifies the run.
        **provenance: further manifest entries (seeds, support, ...).

    Raises:
        UserError: the directory belongs to another configuration, is locked by another process, or
            is not a run directory. It is left as it is.
    """
    with ExitStack() as stack:
        runs: list[RunDirectory] = []
        processes.by_first(
            lambda: runs.append(stack.enter_context(_opened(path, record, provenance)))
        )
        yield runs[0] if runs else _seen(path)


def _seen(path: Path) -> RunDirectory:
    """A run that another process has just opened; a file server may show it late."""
    until = time.monotonic() + _SEEN_WITHIN
    while True:
        try:
            return RunDirectory(path)
        except UserError:
            if time.monotonic() > until:
                raise
        time.sleep(1)


@contextmanager
def _opened(
    path: Path, record: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[RunDirectory]:
    identity = _identity(record)
    _refuse_foreign(path, identity)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path), announced(path):
        for entry in path.iterdir():
            if is_temporary(entry.name):  # left by a process that was killed
                entry.unlink()
        if (path / MANIFEST).exists():
            yield _continued(path, record, identity)
        else:
            yield _created(path, record, {**provenance, "config_hash": identity})


def _continued(path: Path, record: Mapping[str, Any], identity: str) -> RunDirectory:
    run = RunDirectory(path)
    if run.hash != identity:
        raise UserError(
            f"{path} holds a run of another configuration:\n{_differences(run.record, record)}\n"
            "choose another --run-dir, or delete this one"
        )
    return run


def _created(path: Path, record: Mapping[str, Any], entries: dict[str, Any]) -> RunDirectory:
    write_json(path / CONFIG, record)
    start = {"status": "started", "checkpoints": {}}
    write_json(path / MANIFEST, _provenance() | entries | start)
    return RunDirectory(path)


def _identity(record: Mapping[str, Any]) -> str:
    return fingerprint({key: record[key] for key in sorted(record) if key != "paths"})


def _refuse_foreign(path: Path, identity: str) -> None:
    """Raise a UserError if a directory holds anything else than a run, or than what a process
    leaves that dies before its run has a manifest."""
    if not path.is_dir():
        return
    if (path / MANIFEST).exists():
        RunDirectory(path)
        return
    foreign = [
        entry.name
        for entry in path.iterdir()
        if not (is_stray(entry.name) or is_temporary(entry.name) or is_left(entry))
    ]
    if foreign == [CONFIG] and _identity_of(path / CONFIG) == identity:
        return
    if foreign:
        raise UserError(
            f"{path} is not empty and not a run directory (it has {some_of(sorted(foreign))}, no"
            f" {MANIFEST}); choose another --run-dir"
        )


def _identity_of(config: Path) -> str | None:
    try:
        record = json.loads(config.read_text(encoding="utf-8"))
        return _identity(record) if isinstance(record, dict) else None
    except (OSError, ValueError):
        return None


def _read_json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.parent.is_dir():
        raise UserError(
            f"{path.parent} does not exist; give the directory of a run (the --run-dir of an"
            " earlier command)"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: {otherwise} ({path.name} is missing)") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise corrupted(path, str(error)) from None


def _provenance() -> dict[str, Any]:
    return start_of_now() | {
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
    }


def start_of_now() -> dict[str, Any]:
    """Code and devices of this process."""
    device = jax.devices()[0]
    devices = {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}
    return {
        "commit": _git_commit(),
        "device": devices | {"host_cores": os.cpu_count(), "processor": _processor()},
    }


def _processor() -> str:
    """The model of the processor; XLA only knows "cpu"."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def _git_commit() -> str:
    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    a, b = flatten(old), flatten(new)
    rows = [
        f"  {key}: {a.get(key, '(absent)')} there, {b.get(key, '(absent)')} asked for"
        for key in sorted(a.keys() | b.keys())
        if key not in a or key not in b or a[key] != b[key]
    ]
    return "\n".join(rows)
