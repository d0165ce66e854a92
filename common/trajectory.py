"""Checkpoints of a run (Orbax): its trajectory of parameters, and the one full state to resume from.

A checkpoint is written to a temporary directory, renamed, and only then entered in the manifest with the hash of its contents; a process killed
anywhere in between leaves a directory that nobody refers to. Every load checks the hash.
"""

import errno
import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from common.environment import missing_device
from common.errors import RunError, UserError
from common.models import Params
from common.runs import RunDirectory

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each save

TreeT = TypeVar("TreeT")


class Trajectory:
    """The checkpoints of one run directory."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def steps(self) -> tuple[int, ...]:
        """The steps at which parameters were saved, in order."""
        return tuple(sorted(int(step) for step in self.run.manifest["checkpoints"]))

    def save(self, step: int, params: Params) -> None:
        """Keep the parameters after `step` updates; leaves carry the lane axis first."""
        digest = _write(self._path(step), params)
        self.run.write_manifest(checkpoints=self.run.manifest["checkpoints"] | {str(step): digest})

    def save_waiting(self, step: int, params: Params) -> None:
        """Write a checkpoint that is not part of the trajectory yet: it waits until it is kept or dropped."""
        if str(step) not in self.run.manifest["checkpoints"]:
            digest = _write(self._path(step), params)
            self.run.write_manifest(waiting=self.run.manifest.get("waiting", {}) | {str(step): digest})

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
            for step in waiting.keys() - kept.keys():
                shutil.rmtree(self._path(int(step)), ignore_errors=True)

    def restore(self, step: int) -> Params:
        """The parameters after `step` updates as numpy arrays, lane axis first.

        Raises:
            UserError: no such checkpoint.
            RunError: it cannot be read, or its contents do not match the manifest.
        """
        digest = self.run.manifest["checkpoints"].get(str(step))
        if digest is None:
            raise UserError(f"{self.run.path} has no checkpoint at step {step}; it has {describe_steps(self.steps())}")
        return _read(self._path(step), digest, self.run.path, None)

    def problems(self) -> list[str]:
        """Check every checkpoint and the resume state against the manifest; an empty list means all is well."""
        found = []
        for step in self.steps():
            try:
                self.restore(step)
            except RunError as error:
                found.append(str(error))
        resume = self.run.manifest.get("resume")
        if resume is not None and not self.run.finished:
            try:
                _read(self._resume_path(resume["step"]), resume["sha256"], self.run.path, None)
            except RunError as error:
                found.append(str(error))
        return found

    def save_resume(self, step: int, state: object, **host_state: Any) -> None:
        """Keep the full training state, and the JSON values that belong to it, in place of the previous one."""
        digest = _write(self._resume_path(step), state)
        self.run.write_manifest(resume={"step": step, "sha256": digest, **host_state})
        for other in (self.run.path / "resume").iterdir():
            if other != self._resume_path(step):
                shutil.rmtree(other)

    def load_resume(self, template: TreeT) -> tuple[TreeT, dict[str, Any]] | None:
        """The saved training state in the structure of `template` with its JSON values; None when nothing was saved.

        What was written after that state is discarded: it will be written again, bit for bit.
        """
        resume = self.run.manifest.get("resume")
        last = resume["step"] if resume else -1
        kept, waiting = (
            {step: digest for step, digest in self.run.manifest.get(name, {}).items() if int(step) <= last} for name in ("checkpoints", "waiting")
        )
        self.run.write_manifest(checkpoints=kept, waiting=waiting)
        checkpoints = self.run.path / "checkpoints"
        for entry in checkpoints.iterdir() if checkpoints.exists() else ():
            if entry.name not in kept | waiting:
                shutil.rmtree(entry)
        if resume is None:
            return None
        return _read(self._resume_path(last), resume["sha256"], self.run.path, template), resume

    def drop_resume(self) -> None:
        """A finished run needs no state to resume from."""
        shutil.rmtree(self.run.path / "resume", ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.run.path / "checkpoints" / str(step)

    def _resume_path(self, step: int) -> Path:
        return self.run.path / "resume" / str(step)


def describe_steps(steps: tuple[int, ...]) -> str:
    """A short text for a list of checkpoint steps."""
    if not steps:
        return "none"
    if len(steps) <= 8:
        return ", ".join(map(str, steps))
    return f"{len(steps)} of them: {', '.join(map(str, steps[:3]))}, ..., {steps[-2]}, {steps[-1]}"


def content_hash(tree: object) -> str:
    """SHA-256 over the names, types, shapes and bytes of all leaves, whatever the file format."""
    digest = hashlib.sha256()
    for path, leaf in sorted(
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(path: Path, tree: object) -> str:
    tree = jax.tree.map(np.asarray, jax.device_get(tree))
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(path.absolute(), tree, force=True)
    except Exception as error:
        if "No space left" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
            raise RunError(
                f"the disk is full: could not write {path}; free some space and run the same command again, nothing saved so far is lost"
            ) from None
        raise
    return content_hash(tree)


def _read(path: Path, digest: str, run_path: Path, template: Any) -> Any:
    advice = f"it was changed or damaged after it was written; delete {run_path} and run its command again, or restore it from a copy"
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute(), item=template)
    except Exception as error:  # Orbax and TensorStore raise many types for a damaged file; all of them mean the same here
        if advice := missing_device():
            raise UserError(advice) from None
        reason = str(error).split("\n")[0][:200]
        raise RunError(f"checkpoint {path} cannot be read ({type(error).__name__}: {reason}); {advice}") from None
    if content_hash(tree) != digest:
        raise RunError(f"checkpoint {path} does not match the hash in its manifest; {advice}")
    return tree
