"""What a user names as a source of documents: `sample`, a file, a folder, or a data set of the
hub."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from common.base.errors import UserError
from common.runs.files import is_stray, some_of
from mlm.prepare import hub, sample
from mlm.prepare.cleaning import Form, Raw
from mlm.prepare.dump import pages
from mlm.prepare.reading import DOCUMENTS, chunks, lines, uncompressed_suffix

_SAMPLE, _HUB = "sample", "hub:"
_OPTION = re.compile(r"(weight|column|documents|config|split|revision)=(.*)", re.S)
_KINDS = ".txt and .jsonl (plain, .gz, .xz, .zst, .bz2), .xml.bz2 (a dump of Wikipedia)"

Options = dict[str, str]
"""What stands after a source's name, `name=value`."""
Records = Callable[[IO[bytes], Path], Iterator[bytes | str]]
"""The documents of an open file."""


class Reader(Protocol):
    """Reads the documents of a source, from its beginning or from where another has stopped."""

    total: int | None
    """How much there is to read, in `unit`; None: not known."""
    unit: str
    size: int
    """Units in one that is shown."""

    def __iter__(self) -> Iterator[Raw]: ...

    @property
    def done(self) -> int:
        """How much is read, in `unit`."""
        ...

    @property
    def position(self) -> str:
        """Where reading goes on after the last document, as JSON."""
        ...


@dataclass(frozen=True)
class Input:
    """A file that documents come from."""

    name: str
    """Without the folder that the user named."""
    path: Path


@dataclass(frozen=True)
class Source:
    """Where documents come from, in an order that is always the same."""

    name: str
    weight: float
    form: Form
    inputs: tuple[Input, ...]
    open: Callable[[str | None, str | None], Reader]
    """A reader from a position (None: the beginning), of a revision."""
    settings: dict[str, Any]
    """What decides, beside the inputs, which documents there are."""
    column: str = ""
    unit: str = "document"
    find_revision: Callable[[], str | None] = field(default=lambda: None)
    """The commit of what has no files here."""


class FileReader:
    """The documents of some files."""

    size = 10**6
    unit = "MB"

    def __init__(self, inputs: tuple[Input, ...], records: Records, position: str | None) -> None:
        """Begin, or go on from a position."""
        self._inputs = inputs
        self._records = records
        self._input, self._number = json.loads(position) if position else (0, 0)
        self._sizes = [input_.path.stat().st_size for input_ in inputs]
        self._file: IO[bytes] | None = None
        self.total: int | None = sum(self._sizes)

    def __iter__(self) -> Iterator[Raw]:
        """The documents after the position."""
        num_skipped = self._number
        for index in range(self._input, len(self._inputs)):
            path = self._inputs[index].path
            with path.open("rb") as self._file:
                for number, data in enumerate(self._records(self._file, path), 1):
                    if number > num_skipped:
                        self._input, self._number = index, number
                        yield Raw(index, number, data)
            self._file = None
            self._input, self._number = index + 1, 0
            num_skipped = 0

    @property
    def done(self) -> int:
        """Bytes, as they lie on the disk."""
        within = 0 if self._file is None else self._file.tell()
        return sum(self._sizes[: self._input]) + within

    @property
    def position(self) -> str:
        """The input, and how many of its documents have been read."""
        return json.dumps([self._input, self._number])


class DataSetReader:
    """The documents of a data set of the hub."""

    size = 1
    unit = "documents"

    def __init__(self, data_set: hub.HubReader, column: str, position: str | None) -> None:
        """Begin, or go on from a position."""
        self._data_set = data_set
        self._column = column
        self.done, self._state = json.loads(position) if position else (0, None)
        self.total = data_set.num_documents

    def __iter__(self) -> Iterator[Raw]:
        """The documents after the position."""
        for text in self._data_set.texts(self._column, self._state):
            self.done += 1
            yield Raw(0, self.done, text)

    @property
    def position(self) -> str:
        """How many documents have been read, and the state of the data set."""
        return json.dumps([self.done, self._data_set.state])


def parse_source(word: str) -> Source:
    """The source that a user means.

    Args:
        word: `sample`, `hub:NAME`, a file or a folder; then options, `,name=value`.

    Raises:
        UserError: there is no such file, nothing to read in it, or an option that it does not have.
    """
    name, options = _split(word)
    weight = _weight(word, options.pop("weight", "1"))
    if name == _SAMPLE:
        _refuse_others(word, options, ())
        return _sample(weight)
    if name.startswith(_HUB):
        _refuse_others(word, options, ("column", "config", "split", "revision"))
        return _data_set(name.removeprefix(_HUB), weight, options)
    path = Path(name)
    if not path.exists():
        raise UserError(
            f"{name}: there is no such file or folder; give one, {_SAMPLE}, or {_HUB}NAME for a"
            " data set of the Hugging Face hub"
        )
    return _files(word, path, weight, options)


def _split(word: str) -> tuple[str, Options]:
    """The name, and what stands after it; a file's name may look like that, too."""
    options: Options = {}
    name, comma, last = word.rpartition(",")
    while comma and not Path(word).exists() and (option := _OPTION.fullmatch(last)):
        if option[1] in options:
            raise UserError(f"{word}: {option[1]} is given twice; leave out one")
        options[option[1]] = option[2]
        word = name
        name, comma, last = word.rpartition(",")
    return word, options


def _weight(word: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UserError(f"{word}: weight={text} is no positive number")
    return weight


def _refuse_others(word: str, options: Options, known: tuple[str, ...]) -> None:
    if others := [name for name in options if name not in known]:
        raise UserError(
            f"{word}: such a source has no {', '.join(others)}; it has"
            f" {', '.join(('weight', *known))}"
        )


def _sample(weight: float) -> Source:
    paths = sample.fetched_wheels()
    inputs = tuple(Input(path.name, path) for path in paths)

    def records(_: IO[bytes], path: Path) -> Iterator[str]:
        return sample.documents(path)

    def open_(position: str | None, _: str | None) -> Reader:
        return FileReader(inputs, records, position)

    return Source(_SAMPLE, weight, "text", inputs, open_, {"kind": _SAMPLE})


def _data_set(name: str, weight: float, options: Options) -> Source:
    column, split = options.get("column", "text"), options.get("split", hub.SPLIT)
    config, revision = options.get("config"), options.get("revision")
    folder = Path(name)
    inputs = _inputs_below(folder) if folder.is_dir() else ()

    def open_(position: str | None, pinned: str | None) -> Reader:
        return DataSetReader(hub.HubReader(name, config, split, pinned), column, position)

    shown = f"{_HUB}{folder.resolve().name if inputs else name}"
    settings = {"kind": "hub", "name": shown, "column": column, "split": split, "config": config}
    return Source(
        shown,
        weight,
        "text",
        inputs,
        open_,
        settings | {"revision": revision},
        find_revision=lambda: hub.pinned_revision(name, revision),
    )


def _files(word: str, path: Path, weight: float, options: Options) -> Source:
    inputs = _inputs_below(path) if path.is_dir() else (Input(path.name, path),)
    kinds = {_kind(input_.path) for input_ in inputs}
    ignored = [input_.name for input_ in inputs if _kind(input_.path) is None]
    inputs = tuple(input_ for input_ in inputs if _kind(input_.path) is not None)
    found = sorted(kinds - {None}, key=str)
    if not inputs:
        raise UserError(f"{path}: no text; its files may be {_KINDS}")
    if len(found) > 1:
        raise UserError(
            f"{path} has {' and '.join(map(str, found))}; give them as a source each, so that"
            " their weights may differ"
        )
    if ignored:
        print(
            f"{path}: {len(ignored)} files are no text and are left out ({some_of(ignored)})",
            file=sys.stderr,
        )
    return _FILES[str(found[0])](word, path.resolve().name, inputs, weight, options)


def _text_files(
    word: str, name: str, inputs: tuple[Input, ...], weight: float, options: Options
) -> Source:
    _refuse_others(word, options, ("documents",))
    documents = options.get("documents", "files")
    if documents not in DOCUMENTS:
        raise UserError(f"{word}: documents={documents}; choose one of {', '.join(DOCUMENTS)}")
    split = DOCUMENTS[documents]

    def records(file: IO[bytes], path: Path) -> Iterator[bytes]:
        return split(chunks(file, path), path)

    def open_(position: str | None, _: str | None) -> Reader:
        return FileReader(inputs, records, position)

    settings = {"kind": "txt", "documents": documents}
    unit = "line" if documents == "lines" else "document"
    return Source(name, weight, "text", inputs, open_, settings, unit=unit)


def _json_files(
    word: str, name: str, inputs: tuple[Input, ...], weight: float, options: Options
) -> Source:
    _refuse_others(word, options, ("column",))
    column = options.get("column", "text")

    def records(file: IO[bytes], path: Path) -> Iterator[bytes]:
        return lines(chunks(file, path), path)

    def open_(position: str | None, _: str | None) -> Reader:
        return FileReader(inputs, records, position)

    settings = {"kind": "jsonl", "column": column}
    return Source(name, weight, "json", inputs, open_, settings, column, "line")


def _dumps(
    word: str, name: str, inputs: tuple[Input, ...], weight: float, options: Options
) -> Source:
    _refuse_others(word, options, ())

    def records(file: IO[bytes], path: Path) -> Iterator[str]:
        return pages(chunks(file, path), path)

    def open_(position: str | None, _: str | None) -> Reader:
        return FileReader(inputs, records, position)

    return Source(name, weight, "wikitext", inputs, open_, {"kind": "dump"}, unit="article")


_FILES = {".txt": _text_files, ".jsonl": _json_files, ".xml": _dumps}


def _kind(path: Path) -> str | None:
    """Which of `_FILES` reads a file; None: none of them."""
    if ".xml" in path.suffixes or any(part.startswith(".xml-p") for part in path.suffixes):
        return ".xml"  # parts of a dump are named ...pages-articles1.xml-p1p41242.bz2
    suffix = uncompressed_suffix(path)
    return suffix if suffix in _FILES else None


def _inputs_below(folder: Path) -> tuple[Input, ...]:
    """All files in a folder and below it but those that file managers leave."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not is_stray(path.name)]
    named = [(path.relative_to(folder).as_posix(), path) for path in paths]
    return tuple(Input(name, path) for name, path in sorted(named))
