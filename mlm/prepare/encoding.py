"""From parts of text to parts of token ids, and what the tokeniser's training needs of them, in a
worker process."""

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from mlm.prepare.parts import TokenPart, read_text

DROP, TRAIN, VALIDATION = range(3)
"""What becomes of a document."""
NUM_CODE_POINTS = 0x110000
_WHITE_SPACE = re.compile(r"[ \t\n\r]+")
"""Where WordPiece's texts are cut into chunks, which have none of it."""
_BEFORE_WHITE_SPACE = re.compile(r"(?<=\S)(?=[ \t\n\r])")
"""Where those of BPE of bytes are: white space belongs to what follows."""
_MOST_KNOWN = 200_000
"""Chunks that are remembered: about 40 MB."""
_LONG = 64
"""Letters of a chunk that is not remembered: an address, or a line in a script without spaces."""
_LONGEST = 10_000
"""Longer chunks are cut: the tokeniser takes some hundred bytes of memory a letter."""
_AT_ONCE = 4096


def encode(
    part: Path, fate_N: np.ndarray, tokenizer: Path, dtype: str
) -> tuple[TokenPart, TokenPart, int]:
    """The token ids of a part of text.

    Args:
        part: its file.
        fate_N: what becomes of each document.
        tokenizer: file of the tokeniser.
        dtype: of the ids.

    Returns:
        Training documents, documents for validation, and the number of documents that have a text,
        but no token: of control characters, say.
    """
    encoder = _encoder(tokenizer)
    ids: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    num_empty = 0
    for text, fate in zip(read_text(part).texts(), fate_N.tolist(), strict=True):
        if fate == DROP:
            continue
        ids_T = encoder.ids(text).astype(dtype)
        if len(ids_T):
            ids[fate == VALIDATION].append(ids_T)
        else:
            num_empty += 1
    train, validation = (_joined(documents, dtype) for documents in ids)
    return train, validation, num_empty


def count_letters(part: Path, is_train_N: np.ndarray) -> np.ndarray:
    """How often each code point occurs in the chosen documents of a part of text."""
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    for text, is_train in zip(read_text(part).texts(), is_train_N.tolist(), strict=True):
        if is_train:
            points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            found, times = np.unique(points, return_counts=True)
            counts[found] += times
    return counts


class Encoder:
    """Token ids of texts by a tokeniser that cuts at white space, or before it, first: it is asked
    once for every chunk in between, which is several times faster than to ask it for whole texts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()  # a given one may cut after some hundred tokens
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a text that says [MASK] masks nothing
        self._tokenizer = tokenizer
        is_of_bytes = isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
        self._cuts = _BEFORE_WHITE_SPACE if is_of_bytes else _WHITE_SPACE
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> np.ndarray:
        """Ids of a text, without [CLS] and [SEP]: int64."""
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        chunks = self._cuts.split(text)
        unknown = {chunk for chunk in chunks if chunk not in self._known and len(chunk) <= _LONG}
        for some in _batched(sorted(unknown), _AT_ONCE):
            encodings = self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
            for chunk, encoding in zip(some, encodings, strict=True):
                self._known[chunk] = encoding.ids
        ids = itertools.chain.from_iterable(map(self._ids_of_chunk, chunks))
        return np.fromiter(ids, np.int64)

    def _ids_of_chunk(self, chunk: str) -> list[int]:
        if len(chunk) <= _LONG:
            return self._known[chunk]
        pieces = [chunk[start : start + _LONGEST] for start in range(0, len(chunk), _LONGEST)]
        encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        return [id_ for encoding in encodings for id_ in encoding.ids]


@functools.cache
def _encoder(tokenizer: Path) -> Encoder:
    return Encoder(Tokenizer.from_file(str(tokenizer)))


def _joined(documents: list[np.ndarray], dtype: str) -> TokenPart:
    tokens = np.concatenate(documents) if documents else np.zeros(0, dtype)
    return TokenPart(tokens, np.array([len(ids_T) for ids_T in documents], np.int64))


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
