"""Pages of a dump of Wikipedia (`...pages-articles.xml.bz2`): mark-up, which gensim removes."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from common.base.errors import UserError

_ARTICLES = "0"  # the namespace


def pages(pieces: Iterator[bytes], path: Path) -> Iterator[str]:
    """The mark-up of every article; empty for a redirect.

    gensim's own reader keeps an empty element for every page, which is gigabytes for a whole dump.

    Raises:
        UserError: it is no dump.
    """
    parser = ET.XMLPullParser(("start", "end"))
    num_pages = 0
    try:
        for page in _elements(parser, pieces):
            num_pages += 1
            if _child(page, "ns") == _ARTICLES:
                yield _markup(page)
        parser.close()
    except ET.ParseError as error:
        raise UserError(f"{path} is no dump of Wikipedia, or damaged: {error}") from None
    if not num_pages:
        raise UserError(f"{path} is no dump of Wikipedia: it has no pages")


def _elements(parser: ET.XMLPullParser, pieces: Iterator[bytes]) -> Iterator[ET.Element]:
    """Every page, which is deleted afterwards."""
    root: ET.Element | None = None
    for chunk in pieces:
        parser.feed(chunk)
        for event, element in cast(Iterator[tuple[str, ET.Element]], parser.read_events()):
            if root is None:
                root = element
            if event == "end" and _name(element) == "page":
                yield element
                root.clear()


def _markup(page: ET.Element) -> str:
    is_redirect = any(_name(child) == "redirect" for child in page)
    revision = next((child for child in page if _name(child) == "revision"), None)
    if is_redirect or revision is None:
        return ""
    return _child(revision, "text")


def _child(element: ET.Element, name: str) -> str:
    """The text of a child; empty without one."""
    return next((child.text or "" for child in element if _name(child) == name), "")


def _name(element: ET.Element) -> str:
    """Without the namespace, which differs from one version of the format to the next."""
    return element.tag.rpartition("}")[2]
