"""Checkpoints of a run (Orbax): its trajectory of parameters, and the one full state to resume
from.

A checkpoint is written to a temporary directory, renamed, and then entered in the manifest with the
hash of its contents. A process killed in between leaves a directory that no manifest mentions.
Every load checks the hash. The first checkpoint of a run is loaded as soon as it has been written,
so that a disk or a path that cannot be read shows before time is spent.

Only checkpoints are deleted, complete or not: everything else in these folders belongs to others.
"""

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from common.base import processes
from common.base.environment import missing_device
from common.base.errors import RunError, UserError, explain_os_error, full_disk, means_full_disk
from common.nn.functional import Params
from common.runs.directory import RunDirectory

# Orbax logs each save, and the traceback of each error that it raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)

TreeT = TypeVar("TreeT")
_CHECKPOINT = re.compile(r"\d+(\.orbax-checkpoint-tmp.*)?")
_PLAIN_PATH = re.compile(r"(?!/(gs|s3|az|hf)/)(?!.*/\.\./)(?!.*\.__lock/)[\w/.+,=@ -]*", re.ASCII)
"""Paths that Orbax, etils and TensorStore read as the file system does: without patterns ([y], *),
backslashes, addresses (/gs/a, gs:/a), `..`, names of TensorStore's locks, and bytes that are no
UTF-8."""
_SYSTEM_ERROR = re.compile(r"\[OS error (\d+)|os_error_code='(\d+)'")
"""An error of the operating system in a message of TensorStore's."""


class Trajectory:
    """The checkpoints of one run directory."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def steps(self) -> tuple[int, ...]:
        """The steps at which parameters were saved, in order."""
        return tuple(sorted(int(step) for step in self.run.manifest["checkpoints"]))

    def save(self, step: int, params: Params) -> None:
        """Save the parameters after `step` updates; leaves are `(L, ...)`."""
        path = self._path(step)
        is_first = not self.run.manifest["checkpoints"]
        digest = _write(path, params)
        if is_first and processes.is_first():
            advice = (
                f"it has just been written there, so that no run can be kept in {self.run.path};"
                " choose another --run-dir"
            )
            _read(path, digest, advice, None)
        self.run.write_manifest(checkpoints=self.run.manifest["checkpoints"] | {str(step): digest})

    def save_waiting(self, step: int, params: Params) -> None:
        """Write a checkpoint that is not part of the trajectory yet: it waits to be kept or
        dropped."""
        if str(step) not in self.run.manifest["checkpoints"]:
            digest = _write(self._path(step), params)
            self.run.write_manifest(
                waiting=self.run.manifest.get("waiting", {}) | {str(step): digest}
            )

    def keep(self, steps: Sequence[int]) -> None:
        """Make waiting checkpoints part of the trajectory."""
        waiting = self.run.manifest.get("waiting", {})
        chosen = {str(step): waiting[str(step)] for step in steps if str(step) in waiting}
        rest = {step: digest for step, digest in waiting.items() if step not in chosen}
        self.run.write_manifest(checkpoints=self.run.manifest["checkpoints"] | chosen, waiting=rest)

    def drop_waiting_except(self, steps: Sequence[int]) -> None:
        """Delete the waiting checkpoints of all other steps."""
        waiting = self.run.manifest.get("waiting", {})
        kept = {str(step): waiting[str(step)] for step in steps if str(step) in waiting}
        if kept != waiting:
            self.run.write_manifest(waiting=kept)
            for step in waiting.keys() - kept.keys() if processes.is_first() else ():
                shutil.rmtree(self._path(int(step)), ignore_errors=True)

    def restore(self, step: int) -> Params:
        """The parameters after `step` updates as numpy arrays `(L, ...)`.

        Raises:
            UserError: no such checkpoint.
            RunError: it cannot be read, or its contents do not match the manifest.
        """
        digest = self.run.manifest["checkpoints"].get(str(step))
        if digest is None:
            raise UserError(
                f"{self.run.path} has no checkpoint at step {step}; it has"
                f" {describe_steps(self.steps())}"
            )
        return _read(self._path(step), digest, self._advice, None)

    def problems(self) -> list[str]:
        """Errors of checkpoints and of the resume state that do not match the manifest; empty if
        all do."""
        found = []
        for path, digest in self._saved().items():
            if self._problem(path, digest) is None:
                continue
            # A process that works there may have dropped or replaced it since.
            latest = Trajectory(RunDirectory(self.run.path))._saved().get(path)
            problem = None if latest is None else self._problem(path, latest)
            if problem is not None:
                found.append(problem)
        return found

    def _saved(self) -> dict[Path, str]:
        """Every checkpoint and state in the manifest, with its hash."""
        saved = {
            self._path(step): self.run.manifest["checkpoints"][str(step)] for step in self.steps()
        }
        resume = self.run.manifest.get("resume")
        if resume is not None and not self.run.finished:
            saved[self._resume_path(resume["step"])] = resume["sha256"]
        return saved

    def _problem(self, path: Path, digest: str) -> str | None:
        try:
            _read(path, digest, self._advice, None)
        except RunError as error:
            return str(error)
        return None

    def save_resume(self, step: int, state: object, **host_state: Any) -> None:
        """Save the full training state with its JSON values; it replaces the previous one.

        A run that is stopped where it went on has that step's state already. To write it again
        would delete it first, and whoever kills the process then would take the run with it.
        """
        saved = self.run.manifest.get("resume")
        if saved is not None and saved["step"] == step:
            self.run.write_manifest(resume=saved | host_state)
            return
        digest = _write(self._resume_path(step), state)
        self.run.write_manifest(resume={"step": step, "sha256": digest, **host_state})
        _drop_checkpoints(self.run.path / "resume", keep=[str(step)])

    def load_resume(self, template: TreeT) -> tuple[TreeT, dict[str, Any]] | None:
        """The saved training state in the structure of `template` with its JSON values; None when
        nothing was saved.

        Everything written after that state is discarded; it will be written again, bit for bit.
        """
        self.discard_unsaved()
        resume = self.run.manifest.get("resume")
        if resume is None:
            return None
        path = self._resume_path(resume["step"])
        return _read(path, resume["sha256"], self._advice, template), resume

    def discard_unsaved(self) -> None:
        """Delete the checkpoints after the state to resume from, and incomplete ones."""
        manifest = self.run.manifest
        last = manifest["resume"]["step"] if "resume" in manifest else -1
        saved = {name: manifest.get(name, {}) for name in ("checkpoints", "waiting")}
        kept = {
            name: {step: digest for step, digest in of_steps.items() if int(step) <= last}
            for name, of_steps in saved.items()
        }
        if kept != saved:
            self.run.write_manifest(**kept)
        _drop_checkpoints(self.run.path / "checkpoints", keep=kept["checkpoints"] | kept["waiting"])
        _drop_checkpoints(self.run.path / "resume", keep=[str(last)])

    def drop_leftovers(self) -> None:
        """Delete what a finished run no longer needs: the state to resume from and the waiting
        checkpoints."""
        self.drop_waiting_except(())
        _drop_checkpoints(self.run.path / "resume", keep=())
        if processes.is_first():
            with suppress(OSError):  # there is none, or something that is not ours in it
                (self.run.path / "resume").rmdir()

    @property
    def _advice(self) -> str:
        return (
            f"it was changed or damaged after it was written; delete {self.run.path} and run its"
            " command again, or restore it from a copy"
        )

    def _path(self, step: int) -> Path:
        return self.run.path / "checkpoints" / str(step)

    def _resume_path(self, step: int) -> Path:
        return self.run.path / "resume" / str(step)


def describe_steps(steps: tuple[int, ...]) -> str:
    """A list of checkpoint steps as a short text."""
    if not steps:
        return "none"
    if len(steps) <= 8:
        return ", ".join(map(str, steps))
    return f"{len(steps)} of them: {', '.join(map(str, steps[:3]))}, ..., {steps[-2]}, {steps[-1]}"


def content_hash(tree: object) -> str:
    """SHA-256 over the names, types, shapes and bytes of all leaves, whatever the file format."""
    digest = hashlib.sha256()
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    for path, leaf in sorted(leaves):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(path: Path, tree: object) -> str:
    """Write a checkpoint, of several processes the first one, and hash it."""
    tree = jax.tree.map(np.asarray, processes.gathered(tree))
    if not processes.is_first():
        return content_hash(tree)
    try:
        with _plain(path) as target, _checkpointer() as checkpointer:
            checkpointer.save(target, tree, force=True)
    # Orbax and TensorStore turn an error of the system into one of these.
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_written(path, error) from None
    return content_hash(tree)


def _not_written(path: Path, error: Exception) -> UserError | RunError:
    if means_full_disk(error):
        return full_disk(f": could not write {path}")
    if isinstance(error, OSError):
        return explain_os_error(error)
    return RunError(
        f"could not write {path} ({_reason(error)}); nothing saved so far is lost, the same command"
        " goes on from there"
    )


def _read(path: Path, digest: str, advice: str, template: Any) -> Any:
    try:
        with _plain(path) as source, _checkpointer() as checkpointer:
            tree = checkpointer.restore(source, item=template)
    # Orbax and TensorStore raise many types for a damaged file; all of them mean the same here.
    except Exception as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        if isinstance(error, OSError) and not is_missing:
            raise explain_os_error(error) from None  # no damage: no permission, say
        if no_device := missing_device():
            raise UserError(no_device) from None
        raise RunError(f"checkpoint {path} cannot be read ({_reason(error)}); {advice}") from None
    if content_hash(tree) != digest:
        raise RunError(f"checkpoint {path} does not match the hash in its manifest; {advice}")
    return tree


def _checkpointer() -> ocp.Checkpointer:
    """Reads and writes trees of numpy arrays by itself, whatever other processes do."""
    options = ocp.options.MultiprocessingOptions()
    if processes.count() > 1:
        number = jax.process_index()
        options = ocp.options.MultiprocessingOptions(number, {number}, f"process {number}")
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _reason(error: Exception) -> str:
    """An error in one line; if it quotes one of the operating system, that one."""
    if quoted := _SYSTEM_ERROR.search(str(error)):
        return f"{type(error).__name__}: {os.strerror(int(quoted[1] or quoted[2]))}"
    first_line = str(error).split("\n")[0]
    return f"{type(error).__name__}: {first_line[:200]}"


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """The path of a checkpoint for Orbax and TensorStore: through a link if it has characters with
    a special meaning for them."""
    path = path.absolute()
    if _PLAIN_PATH.fullmatch(str(path)):
        yield path
        return
    place = None if _PLAIN_PATH.fullmatch(tempfile.gettempdir()) else "/tmp"
    with tempfile.TemporaryDirectory(dir=place) as folder:
        link = Path(folder, "run")
        link.symlink_to(path.parent.parent)
        yield link / path.parent.name / path.name


def _drop_checkpoints(folder: Path, keep: Collection[str]) -> None:
    """Of several processes the first one does."""
    if not processes.is_first():
        return
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name not in keep and _CHECKPOINT.fullmatch(entry.name) and entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
