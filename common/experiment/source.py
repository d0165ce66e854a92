"""The source code of an experiment, as far as it decides how runs and verdicts come out."""

import functools
import hashlib
import importlib.util
from pathlib import Path

_DRAWS_ONLY = "page.py"


def package_folder(package: str) -> Path:
    """Where a package lies.

    Raises:
        ModuleNotFoundError: it is not on Python's path.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    return Path(found.submodule_search_locations[0])


@functools.cache
def source_hash(package: str) -> str:
    """SHA-256 of a package's Python files, but for its page, which only draws."""
    folder = package_folder(package)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.name != _DRAWS_ONLY:
            digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
