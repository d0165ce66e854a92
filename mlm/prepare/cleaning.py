"""From raw documents to parts of text, in a worker process."""

import hashlib
import importlib
import json
import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from mlm.prepare.parts import TextPart

Form = Literal["text", "json", "wikitext"]
"""What the data of a raw document are: its text, a line of JSON, or a page's mark-up."""
_FAST = 1  # zlib's level: parts are read once or twice, and deleted


class BadInput(ValueError):
    """The input cannot be used; the message says where and what to do. The main process makes a
    UserError of it."""


class Raw(NamedTuple):
    """A document as it was read."""

    input: int
    """Which of the source's inputs it is from."""
    number: int
    """Counted from 1 in its input: the line, where documents are lines."""
    data: bytes | str


@dataclass(frozen=True)
class Block:
    """Documents of one source, one after another."""

    form: Form
    column: str
    """The field of a line of JSON that holds the text."""
    inputs: tuple[str, ...]
    """Names of the inputs, for messages."""
    unit: str
    """What the numbers of documents count, for messages."""
    documents: tuple[Raw, ...]

    def where(self, raw: Raw) -> str:
        """Where a document is, for messages."""
        return f"{self.inputs[raw.input]}, {self.unit} {raw.number}"


def clean(block: Block) -> TextPart:
    """The texts of a block, without white space around them. Documents without text or that are no
    UTF-8 are counted.

    Raises:
        BadInput: a line is no JSON, or has no such column; gensim is not installed.
    """
    texts: list[bytes] = []
    num_empty = num_invalid = 0
    first_invalid = ""
    for raw in block.documents:
        if block.form == "json" and not raw.data.strip():
            continue  # a blank line is no document
        try:
            text = _text(block, raw).strip().encode()
        except UnicodeError:  # of bytes, or of half a letter that JSON spells as \ud800
            num_invalid += 1
            first_invalid = first_invalid or block.where(raw)
            continue
        if text:
            texts.append(text)
        else:
            num_empty += 1
    digests = b"".join(hashlib.sha256(text).digest()[:16] for text in texts)
    return TextPart(
        compressed=zlib.compress(b"".join(texts), _FAST),
        lengths_N=np.array([len(text) for text in texts], np.int64),
        digests_Nx2=np.frombuffer(digests, np.uint64).reshape(-1, 2),
        num_empty=num_empty,
        num_invalid=num_invalid,
        first_invalid=first_invalid,
    )


def _text(block: Block, raw: Raw) -> str:
    data = raw.data.decode() if isinstance(raw.data, bytes) else raw.data
    if block.form == "json":
        return _field(data, block.column, block.where(raw))
    if block.form == "wikitext":
        return _without_markup(data)
    return data


def _field(line: str, column: str, where: str) -> str:
    """The text in a line of JSON; null is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: no JSON ({error}); a .jsonl file has an object a line") from None
    if not isinstance(values, dict):
        raise BadInput(f"{where}: no JSON object, but {type(values).__name__}")
    if column not in values:
        found = ", ".join(values) or "none"
        raise BadInput(
            f"{where}: no column {column}; its columns are: {found}. Name the one with the text:"
            " FILE,column=NAME"
        )
    value = values[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInput(f"{where}: the column {column} holds no text, but {type(value).__name__}")
    return value


def _without_markup(page: str) -> str:
    """The text of a Wikipedia page."""
    try:
        wikicorpus = importlib.import_module("gensim.corpora.wikicorpus")
    except ImportError:
        raise BadInput(missing_package("gensim", "a Wikipedia dump")) from None
    return wikicorpus.filter_wiki(page)


def missing_package(package: str, what: str) -> str:
    """The message where an optional package is not installed."""
    return f"{what} is read with {package}, which is not installed: pip install {package}"
