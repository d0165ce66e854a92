"""The source code of an experiment, as far as it decides how runs and verdicts come out."""

import functools
import hashlib
import importlib.util
from pathlib import Path

_DRAWS_ONLY = "page.py"


def source_folder(experiment: str) -> Path:
    """Where the code of an experiment lies: its outermost package, because a package within another
    is made of that one's modules too.

    Raises:
        ModuleNotFoundError: it is not on Python's path.
    """
    package = experiment.partition(".")[0]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    return Path(found.submodule_search_locations[0])


@functools.cache
def source_hash(experiment: str) -> str:
    """SHA-256 of the Python files of an experiment's outermost package, but for its pages, which
    only draw."""
    folder = source_folder(experiment)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.name != _DRAWS_ONLY:
            digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
