"""Tells whether the figures of a folder are up to date with the files that they are drawn from."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path

from common.runs.files import write_json

RECORD = "drawn.json"
_SOURCES = (Path(__file__).parent, Path(__file__).parent.parent / "common")
_READ = ("*.json", "*.jsonl", "*.csv")
"""The files of a run that figures read."""
_DRAWN_BY = ("matplotlib", "pandas", "numpy")


def fingerprint(homes: Iterable[Path], subject: str, page: Path) -> str:
    """SHA-256 of everything that a set of figures depends on.

    Args:
        homes: folders of runs that they are drawn from; one that does not exist counts as empty.
        subject: what else decides how they look, as text.
        page: folder of the experiment's code, which draws some of them.
    """
    digest = hashlib.sha256(subject.encode())
    for package in _DRAWN_BY:
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    for path in _below((*_SOURCES, page), ("*.py", "*.jinja", "*.csv")) + _below(homes, _READ):
        digest.update(f"{path}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _below(folders: Iterable[Path], patterns: Iterable[str]) -> list[Path]:
    """All files below some folders whose names have one of the patterns, in order."""
    found: list[Path] = []
    for folder in folders:
        for pattern in patterns:
            found += folder.rglob(pattern)
    return sorted(found)


def is_current(folder: Path, wanted: str) -> bool:
    """Whether the folder holds what was drawn from this fingerprint, unchanged since."""
    try:
        record = json.loads((folder / RECORD).read_text())
        return record["inputs"] == wanted and record["files"] == _hashes(folder, record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # nothing drawn yet, or not by us: it is drawn anew


def keep(folder: Path, inputs: str, files: Iterable[Path]) -> None:
    """Record what the files of a folder were drawn from."""
    names = [path.relative_to(folder).as_posix() for path in files]
    write_json(folder / RECORD, {"inputs": inputs, "files": _hashes(folder, names)})


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
