"""A prepared corpus: a folder with a tokeniser, token ids in shards, and a manifest.

`python -m mlm.prepare` writes it:

    tokenizer.json             of the library `tokenizers`: WordPiece, or BPE of bytes
    manifest.json              what the corpus is made from and what is in it; it is written last
    train-00000.tokens.npy     ids of the documents of a shard, one after another, without
                               special tokens
    train-00000.offsets.npy    where each document begins, and where the last one ends
    validation-00000...        the same of the documents that nothing is trained on

A shard holds documents of one source. A source has a weight, which is carried out when rows are
drawn: a row of a source with weight 2 is drawn twice as often as a row of a source with weight 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from common.base.config import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    configuration,
    fingerprint,
    from_dict,
)
from common.base.errors import RunError, UserError
from common.base.reading import read_object
from common.runs.files import file_hash
from mlm.vocabulary import COMMAND, TOKENIZER, SpecialIds, TextEnd, Vocabulary, vocabulary_of

FORMAT = 1
"""Version of the folder's format."""
MANIFEST = "manifest.json"
WORK = "unfinished"
"""The folder inside a corpus in which parts lie until it is finished."""
TRAIN, VALIDATION = SPLITS = ("train", "validation")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SplitName = Literal["train", "validation"]


@configuration
class InputRecord:
    """A file that a corpus is made from."""

    name: str
    bytes: NonNegativeInt
    sha256: Sha256


@configuration
class DroppedRecord:
    """Documents that are not in a corpus."""

    empty: NonNegativeInt
    """Without text, and the redirects of a Wikipedia dump."""
    duplicates: NonNegativeInt
    """With the same text, to the letter, as an earlier document of any source."""
    invalid: NonNegativeInt
    """Whose bytes are no UTF-8."""


@configuration
class SourceRecord:
    """A source of documents, and what it contributes."""

    name: str
    weight: PositiveFloat
    revision: str | None
    """The commit of a data set of the hub."""
    inputs: tuple[InputRecord, ...]
    dropped: DroppedRecord
    documents: dict[SplitName, NonNegativeInt]
    tokens: dict[SplitName, NonNegativeInt]


@configuration
class ShardRecord:
    """A shard of one split."""

    name: str
    source: NonNegativeInt
    """Which of the sources its documents are from."""
    documents: PositiveInt
    tokens: PositiveInt


@configuration
class SplitRecord:
    """The documents of one split."""

    documents: NonNegativeInt
    tokens: NonNegativeInt
    shards: tuple[ShardRecord, ...]


@configuration
class Manifest:
    """The contents of `manifest.json`."""

    format: Literal[1]
    hash: Sha256
    """Of what a run reads: see `corpus_hash`."""
    made_by: Sha256
    """Fingerprint of the settings and inputs."""
    settings: dict[str, Any]
    vocabulary_size: PositiveInt
    special_ids: SpecialIds | TextEnd
    dtype: Literal["uint16", "uint32"]
    dropped: DroppedRecord
    sources: tuple[SourceRecord, ...]
    splits: dict[SplitName, SplitRecord]
    files: dict[str, Sha256]
    """Of every other file of the corpus."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Documents of one source, memory-mapped."""

    name: str
    source: str
    weight: float
    """How often a row of this source is drawn, relative to a row of another."""
    tokens: np.ndarray
    """Ids of the documents, one after another: uint16 or uint32."""
    offsets: np.ndarray
    """Document i is `tokens[offsets[i] : offsets[i + 1]]`: int64, one more than documents."""

    @property
    def num_documents(self) -> int:
        """Documents in it; none is empty."""
        return len(self.offsets) - 1


@dataclass(frozen=True, eq=False)
class Split:
    """The training documents of a corpus, or those for validation."""

    shards: tuple[Shard, ...]
    num_documents: int
    num_tokens: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus."""

    path: Path
    manifest: Manifest
    vocabulary: Vocabulary

    @property
    def hash(self) -> str:
        """Identity of what a run reads: the tokeniser, all tokens and offsets, and the weights."""
        return self.manifest.hash

    def split(self, name: SplitName) -> Split:
        """The documents of one split.

        Raises:
            RunError: a file is missing or damaged.
        """
        record = self.manifest.splits[name]
        shards = tuple(self._shard(shard) for shard in record.shards)
        return Split(shards, record.documents, record.tokens)

    def verify(self) -> None:
        """Read every file and compare it with its hash in the manifest.

        Raises:
            RunError: naming the first file that is missing or differs.
        """
        for name, expected in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                raise _damaged(path, "it is missing")
            if file_hash(path) != expected:
                raise _damaged(path, f"it is not the file whose hash {MANIFEST} holds")

    def _shard(self, record: ShardRecord) -> Shard:
        source = self.manifest.sources[record.source]
        tokens = _mapped(self.path / tokens_file(record.name), record.tokens, self.manifest.dtype)
        offsets = _mapped(self.path / offsets_file(record.name), record.documents + 1, "int64")
        if offsets[0] != 0 or offsets[-1] != record.tokens:
            raise _damaged(self.path / offsets_file(record.name), "its ends are wrong")
        return Shard(record.name, source.name, source.weight, tokens, offsets)


def open_corpus(path: Path) -> Corpus:
    """A corpus that `python -m mlm.prepare` has finished. Its tokens are not read yet.

    Raises:
        UserError: the folder is no prepared corpus, is unfinished, or has another format.
        RunError: its manifest or tokeniser is damaged.
    """
    manifest = read_manifest(path)
    vocabulary = vocabulary_of(path / TOKENIZER)
    if (vocabulary.size, vocabulary.ids) != (manifest.vocabulary_size, manifest.special_ids):
        raise _damaged(path / TOKENIZER, f"it is not the tokeniser that {MANIFEST} describes")
    return Corpus(path, manifest, vocabulary)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a finished corpus; raises as `open_corpus` does."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder of a prepared corpus; make one with {COMMAND}")
    if not (path / MANIFEST).exists():
        if (path / WORK).is_dir():
            raise UserError(
                f"{path} is a corpus that is not finished; give its {COMMAND} again, it goes on"
            )
        raise UserError(
            f"{path} is no prepared corpus: it has no {MANIFEST}; make one with {COMMAND}"
        )
    values = read_object(path / MANIFEST, (), COMMAND)
    if "format" not in values or "vocabulary_size" not in values:
        raise UserError(f"{path} is no prepared corpus: its {MANIFEST} is of something else")
    if values["format"] != FORMAT:
        raise UserError(
            f"{path} is a corpus of format {values['format']}, but this version reads format"
            f" {FORMAT}; prepare it again with {COMMAND}"
        )
    return from_dict(Manifest, values, path / MANIFEST)


def corpus_hash(files: Mapping[str, str], weights: Mapping[str, float]) -> str:
    """Identity of what a run reads.

    Args:
        files: hashes of the tokeniser and of all tokens and offsets, by name.
        weights: of the sources of the shards, by the shard's name.
    """
    return fingerprint({"format": FORMAT, "files": dict(files), "weights": dict(weights)})


def tokens_file(shard: str) -> str:
    """The name of the file with a shard's tokens."""
    return f"{shard}.tokens.npy"


def offsets_file(shard: str) -> str:
    """The name of the file with a shard's offsets."""
    return f"{shard}.offsets.npy"


def _mapped(path: Path, length: int, dtype: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _damaged(path, "it is missing") from None
    except (ValueError, EOFError) as error:  # what numpy raises on a file of another kind
        raise _damaged(path, str(error).splitlines()[0]) from None
    if array.shape != (length,) or array.dtype != dtype:
        raise _damaged(
            path, f"{array.dtype} {array.shape} where {MANIFEST} says {dtype} ({length},)"
        )
    return array


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        f"{path} is damaged ({reason}); delete {path.parent} and prepare it again with {COMMAND}"
    )
