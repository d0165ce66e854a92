"""Run directories, the only interface between stages.

    config.json      what was asked for; its hash is the run's identity
    manifest.json    what happened: commit, versions, device, seeds, checkpoint hashes, resume state, wall time, status
    metrics.jsonl    one JSON object per evaluation
    checkpoints/     the trajectory; resume/ the state to go on from; probes/ what probes wrote
    lock             held (flock) by the process that writes; DONE marks a finished run

`python -m common.runs DIR` shows one; `--verify` checks every hash in it.
"""

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import jax

from common.config import fingerprint, flatten
from common.errors import UserError
from common.runs.schema import check_manifest, check_metrics, check_record, corrupted

DONE = "DONE"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class RunDirectory:
    """A run on disk. `RunDirectory(path)` reads one; `opened` creates or continues one and holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = _read_json(path / "config.json", "it is not a run directory")
        check_record(self.record, path / "config.json")
        self.manifest = _read_json(path / "manifest.json", "its manifest is missing")
        check_manifest(self.manifest, path / "manifest.json")

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
        doing = "running" if _is_locked(self.path) else "interrupted"
        resume = self.manifest.get("resume")
        return f"{doing}; saved at step {resume['step']}" if resume else f"{doing}; no state saved yet"

    def write_manifest(self, **changes: Any) -> None:
        """Change some manifest entries, atomically."""
        self.manifest.update(changes)
        write_json(self.path / "manifest.json", self.manifest)

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics records; an unfinished last line (a process died while writing) is left out."""
        path = self.path / "metrics.jsonl"
        try:
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        except FileNotFoundError:
            return []
        except ValueError as error:  # no JSON, or no UTF-8
            raise corrupted(path, str(error)) from None
        check_metrics(records, path)
        return records

    def finish(self, wall_seconds: float) -> None:
        """Mark the run as finished."""
        self.write_manifest(status="finished", wall_seconds=round(wall_seconds, 3))
        (self.path / DONE).touch()


def finished_run(path: Path, what: str = "run") -> RunDirectory:
    """A run that has reached its end.

    Args:
        path: its directory.
        what: it is, in the message.

    Raises:
        UserError: it is missing or unfinished.
    """
    run = RunDirectory(path)
    if not run.finished:
        raise UserError(f"the {what} {path} is not finished ({run.state}); run its command again, it goes on from where it stopped")
    return run


@contextmanager
def opened(path: Path, record: Mapping[str, Any], **provenance: Any) -> Iterator[RunDirectory]:
    """Create the run directory, or open the one an earlier process left, and hold its lock.

    Args:
        path: where.
        record: what is asked for, as JSON values. Its key `config` and `teacher_hash` identify the run.
        **provenance: further manifest entries (seeds, support, ...).

    Raises:
        UserError: the directory belongs to another configuration, is locked by another process, or is not a run directory.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / "config.json").exists() and not _left_by_a_crash(path):
        raise UserError(f"{path} is not empty and not a run directory; choose another --run-dir")
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        identity = fingerprint({key: record[key] for key in sorted(record) if key != "paths"})
        if (path / "config.json").exists() and (path / "manifest.json").exists():
            run = RunDirectory(path)
            if run.hash != identity:
                raise UserError(
                    f"{path} holds a run of another configuration:\n{_differences(run.record, record)}\nchoose another --run-dir, or delete this one"
                )
            if run.finished:
                (path / DONE).touch()  # a workflow manager may have removed the marker before it asked again
        else:
            write_json(path / "config.json", record)
            write_json(path / "manifest.json", _provenance() | provenance | {"config_hash": identity, "status": "started", "checkpoints": {}})
            run = RunDirectory(path)
        yield run


def write_json(path: Path, values: object) -> None:
    """Write JSON so that a reader, or a process that was killed, sees the old file or the new one and nothing between."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def size_bytes(path: Path) -> int:
    """Bytes in all files below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that would hold `path`."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


@contextmanager
def locked(path: Path, name: str = "lock") -> Iterator[None]:
    """Hold the lock of a directory; the kernel releases it when the process dies, however it dies.

    Args:
        path: a run directory, or a part of one on which others may work beside this process.
        name: of the file that is locked.

    Raises:
        UserError: another process holds it.
    """
    with (path / name).open("a+") as file:
        if not _try_lock(file):
            file.seek(0)
            raise UserError(f"{path} is in use by another process ({file.read().strip() or 'unknown'}); wait for it or use another directory")
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        with (path / "lock").open("r") as file:
            return not _try_lock(file)
    except OSError:
        return False


def _left_by_a_crash(path: Path) -> bool:
    """Whether the directory holds only what a process that died before writing its configuration leaves."""
    return all(entry.name == "lock" or entry.name.startswith(".") for entry in path.iterdir())


def _read_json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist; give the directory of a run (the --run-dir of an earlier command)")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: {otherwise} ({path.name} is missing)") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise corrupted(path, str(error)) from None


def _provenance() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "commit": _git_commit(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count(), "host_cores": os.cpu_count()},
    }


def _git_commit() -> str:
    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    a, b = flatten(old), flatten(new)
    rows = [
        f"  {key}: {a.get(key, '(absent)')} there, {b.get(key, '(absent)')} asked for"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]
    return "\n".join(rows)
