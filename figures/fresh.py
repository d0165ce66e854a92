"""Whether the figures of a folder are those of the files that they would be drawn from now."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path

from common.runs.files import write_json

RECORD = "drawn.json"
_SOURCES = (Path(__file__).parent, Path(__file__).parent.parent / "common")
_READ = ("*.json", "*.jsonl", "*.csv")
"""What figures read of runs; checkpoints they do not."""
_DRAWN_BY = ("matplotlib", "pandas", "numpy")


def fingerprint(homes: Iterable[Path], subject: str) -> str:
    """SHA-256 of everything that a set of figures depends on.

    Args:
        homes: folders of runs that they are drawn from; one that does not exist counts as empty.
        subject: what else decides how they look, as text.
    """
    digest = hashlib.sha256(subject.encode())
    for package in _DRAWN_BY:
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    code = [
        path
        for folder in _SOURCES
        for pattern in ("*.py", "*.jinja", "*.csv")
        for path in folder.rglob(pattern)
    ]
    files = [path for home in homes for pattern in _READ for path in home.rglob(pattern)]
    for path in sorted(code) + sorted(files):
        digest.update(f"{path}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(folder: Path, wanted: str) -> bool:
    """Whether the folder holds what was drawn from exactly this, unchanged since."""
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
