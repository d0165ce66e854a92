"""The first stages: parts of text from the sources, and what becomes of each document."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.base.config import fingerprint
from common.base.progress import progress_bar
from common.base.reading import read_object
from common.runs.files import file_hash, replacing, write_json
from mlm.corpus import InputRecord
from mlm.prepare.cleaning import Block, Raw, clean
from mlm.prepare.encoding import DROP, TRAIN, VALIDATION
from mlm.prepare.parts import Summary, TextPart, read_summary, write_text
from mlm.prepare.pool import Pool, Task
from mlm.prepare.sources import Reader, Source
from mlm.vocabulary import COMMAND

VERSION = 1
"""Of the code that makes a corpus; raised when the same sources and settings come out otherwise."""
BLOCK_BYTES = 2**22
"""Of the documents of a block, as they are read."""
_DOCUMENT_BYTES = 64  # what a document costs beside its text
_REVISIONS = "revisions.json"
_MB = 10**6

InputRecords = tuple[InputRecord, ...]


@dataclass(frozen=True)
class Part:
    """A part of text: a block of a source, cleaned."""

    source: int
    number: int
    path: Path

    @property
    def name(self) -> str:
        """Of its file; a part of token ids made from it has the same."""
        return self.path.name


@dataclass(frozen=True)
class Texts:
    """All parts of text."""

    parts: tuple[Part, ...]
    revisions: tuple[str | None, ...]
    """Of each source."""


@dataclass(frozen=True)
class Dropped:
    """Documents of a source that the corpus does not have."""

    empty: int
    invalid: int
    duplicates: int
    first_invalid: str
    """Where the first document is that is no UTF-8; empty if there is none."""


@dataclass(frozen=True)
class Fates:
    """What becomes of every document."""

    of_part: tuple[np.ndarray, ...]
    """DROP, TRAIN or VALIDATION, for each part `(N,)`."""
    dropped: tuple[Dropped, ...]
    """Of each source."""
    train_bytes: int
    """Of the texts of all training documents."""


def hash_inputs(sources: Sequence[Source]) -> tuple[InputRecords, ...]:
    """Size and hash of the files of each source."""
    sizes = [[input_.path.stat().st_size for input_ in source.inputs] for source in sources]
    total, done = sum(map(sum, sizes)), 0
    records = []
    with progress_bar("hash of the inputs", total // _MB, unit="MB", rate_unit="MB") as update:
        for source, sizes_of_source in zip(sources, sizes, strict=True):
            of_source = []
            for input_, size in zip(source.inputs, sizes_of_source, strict=True):
                of_source.append(InputRecord(input_.name, size, file_hash(input_.path)))
                done += size
                update(done // _MB)
            records.append(tuple(of_source))
    return tuple(records)


def reading_fingerprint(sources: Sequence[Source], inputs: Sequence[InputRecords]) -> str:
    """Of everything that decides which texts there are."""
    hashes = [[(record.name, record.sha256) for record in of_source] for of_source in inputs]
    settings = [source.settings for source in sources]
    return fingerprint({"version": VERSION, "sources": settings, "inputs": hashes})


def read_texts(sources: Sequence[Source], folder: Path, pool: Pool) -> Texts:
    """Read the sources, and write parts of text.

    Args:
        sources: where documents come from.
        folder: for the parts, which belong to these sources; those that are there are not made
            again.
        pool: who cleans the documents.

    Raises:
        UserError: something is wrong with the input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    revisions = _pinned(sources, folder / _REVISIONS)
    parts: list[Part] = []
    for index, (source, revision) in enumerate(zip(sources, revisions, strict=True)):
        parts += _read(index, source, revision, folder, pool)
    return Texts(tuple(parts), revisions)


def decide(texts: Texts, num_sources: int, validation_fraction: float) -> Fates:
    """What becomes of every document: the later ones with the same text are dropped, and the hash
    of the text decides for whom the others are."""
    summaries = [read_summary(part.path) for part in texts.parts]
    digests_Nx2 = np.concatenate(
        [np.zeros((0, 2), np.uint64), *(summary.digests_Nx2 for summary in summaries)]
    )
    is_later_N = _occurs_before(digests_Nx2)
    is_validation_N = digests_Nx2[:, 0] < np.uint64(int(validation_fraction * 2.0**64))
    fate_N = np.where(is_validation_N, VALIDATION, TRAIN).astype(np.uint8)
    fate_N[is_later_N] = DROP
    ends = np.cumsum([len(summary.lengths_N) for summary in summaries])
    of_part = tuple(np.split(fate_N, ends[:-1])) if summaries else ()
    train_bytes = sum(
        int(summary.lengths_N[fate == TRAIN].sum())
        for summary, fate in zip(summaries, of_part, strict=True)
    )
    dropped = []
    for source in range(num_sources):
        of_source = [i for i, part in enumerate(texts.parts) if part.source == source]
        num_duplicates = sum(int(np.sum(of_part[i] == DROP)) for i in of_source)
        dropped.append(_dropped([summaries[i] for i in of_source], num_duplicates))
    return Fates(of_part, tuple(dropped), train_bytes)


def _pinned(sources: Sequence[Source], path: Path) -> tuple[str | None, ...]:
    """The revision of each source, as it was when its first part was made."""
    if not path.exists():
        write_json(path, {"revisions": [source.find_revision() for source in sources]})
    return tuple(read_object(path, ("revisions",), COMMAND)["revisions"])


def _read(index: int, source: Source, revision: str | None, folder: Path, pool: Pool) -> list[Part]:
    """The parts of one source."""
    done = folder / f"{index:03d}.json"
    if not done.exists():
        write_json(done, {"parts": _read_rest(index, source, revision, folder, pool)})
    count = read_object(done, ("parts",), COMMAND)["parts"]
    return [_part(folder, index, number) for number in range(count)]


def _read_rest(index: int, source: Source, revision: str | None, folder: Path, pool: Pool) -> int:
    """Make those parts of a source that are not there yet; how many there are in all."""
    first, position = 0, None
    while (part := _part(folder, index, first)).path.exists():
        position = read_summary(part.path).end
        first += 1
    reader = source.open(position, revision)
    total = None if reader.total is None else reader.total // reader.size
    ends: dict[int, str] = {}
    count = first

    def tasks() -> Iterator[Task]:
        nonlocal count
        for number, block in enumerate(_blocks(source, reader), first):
            count = number + 1
            update(reader.done // reader.size)
            if not _part(folder, index, number).path.exists():
                ends[number] = reader.position
                yield Task(number, clean, (block,))

    read_before = reader.done // reader.size
    with progress_bar(
        f"texts of {source.name}", total, read_before, reader.unit, rate_unit=reader.unit
    ) as update:
        for number, text_part in pool.results(tasks()):
            _write(_part(folder, index, number).path, text_part, ends.pop(number))
    return count


def _blocks(source: Source, reader: Reader) -> Iterator[Block]:
    """The documents of a source in blocks. Where one ends depends on nothing but the documents
    after the end of the last one."""
    names = tuple(input_.name for input_ in source.inputs) or (source.name,)
    documents: list[Raw] = []
    size = 0
    for raw in reader:
        documents.append(raw)
        size += len(raw.data) + _DOCUMENT_BYTES
        if size >= BLOCK_BYTES:
            yield Block(source.form, source.column, names, source.unit, tuple(documents))
            documents, size = [], 0
    if documents:
        yield Block(source.form, source.column, names, source.unit, tuple(documents))


def _write(path: Path, part: TextPart, end: str) -> None:
    with replacing(path) as file:
        write_text(file, part, end)


def _part(folder: Path, source: int, number: int) -> Part:
    return Part(source, number, folder / f"{source:03d}-{number:06d}.npz")


def _occurs_before(digests_Nx2: np.ndarray) -> np.ndarray:
    """Which rows have occurred before."""
    order_N = np.lexsort((digests_Nx2[:, 1], digests_Nx2[:, 0]))  # stable: the first stays first
    sorted_Nx2 = digests_Nx2[order_N]
    is_later_N = np.zeros(len(digests_Nx2), bool)
    is_later_N[order_N[1:]] = np.all(sorted_Nx2[1:] == sorted_Nx2[:-1], axis=1)
    return is_later_N


def _dropped(summaries: list[Summary], num_duplicates: int) -> Dropped:
    """Of one source."""
    places = [summary.first_invalid for summary in summaries if summary.first_invalid]
    return Dropped(
        empty=sum(summary.num_empty for summary in summaries),
        invalid=sum(summary.num_invalid for summary in summaries),
        duplicates=num_duplicates,
        first_invalid=places[0] if places else "",
    )
