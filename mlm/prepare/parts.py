"""Parts of text and of token ids, and their files: numpy arrays, read without pickle."""

import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np


@dataclass(frozen=True)
class TextPart:
    """The documents of a block that have a text."""

    compressed: bytes
    """The texts as UTF-8, one after another."""
    lengths_N: np.ndarray
    """Bytes of each text."""
    digests_Nx2: np.ndarray
    """The first 128 bits of the SHA-256 of each text: uint64."""
    num_empty: int
    num_invalid: int
    first_invalid: str
    """Where the first document is that is no UTF-8; empty if there is none."""

    def texts(self) -> list[str]:
        """The texts."""
        joined = zlib.decompress(self.compressed)
        ends_N = np.cumsum(self.lengths_N)
        starts_N = ends_N - self.lengths_N
        return [
            joined[start:end].decode()
            for start, end in zip(starts_N.tolist(), ends_N.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class TokenPart:
    """The documents of a part of text that belong to one split."""

    tokens: np.ndarray
    """Ids, one document after another."""
    lengths_N: np.ndarray
    """Tokens of each document; none has 0."""


@dataclass(frozen=True)
class Summary:
    """What is known of a part of text without reading its texts."""

    lengths_N: np.ndarray
    digests_Nx2: np.ndarray
    num_empty: int
    num_invalid: int
    first_invalid: str
    end: str
    """Where reading goes on after this part, as JSON."""


def write_text(file: IO[bytes], part: TextPart, end: str) -> None:
    """Write a part of text.

    Args:
        file: a new file.
        part: what to write.
        end: where reading goes on after this part, as JSON.
    """
    np.savez(
        file,
        compressed=np.frombuffer(part.compressed, np.uint8),
        lengths_N=part.lengths_N,
        digests_Nx2=part.digests_Nx2,
        num_empty=np.array(part.num_empty),
        num_invalid=np.array(part.num_invalid),
        first_invalid=np.array(part.first_invalid),
        end=np.array(end),
    )


def read_summary(path: Path) -> Summary:
    """All of a part of text but its texts."""
    with np.load(path, allow_pickle=False) as arrays:
        return Summary(**{field.name: _plain(arrays[field.name]) for field in fields(Summary)})


def read_text(path: Path) -> TextPart:
    """A part of text."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {field.name: _plain(arrays[field.name]) for field in fields(TextPart)}
    return TextPart(**(values | {"compressed": values["compressed"].tobytes()}))


def write_tokens(file: IO[bytes], train: TokenPart, validation: TokenPart, num_empty: int) -> None:
    """Write the token ids of a part of text."""
    np.savez(
        file,
        train_tokens=train.tokens,
        train_lengths=train.lengths_N,
        validation_tokens=validation.tokens,
        validation_lengths=validation.lengths_N,
        num_empty=np.array(num_empty),
    )


def read_lengths(path: Path, split: str) -> np.ndarray:
    """Tokens of each document of one split in a part of token ids."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[f"{split}_lengths"]


def read_tokens(path: Path, split: str) -> np.ndarray:
    """The ids of one split in a part of token ids."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[f"{split}_tokens"]


def read_num_empty(path: Path) -> int:
    """Documents of a part that have a text, but no token."""
    with np.load(path, allow_pickle=False) as arrays:
        return int(arrays["num_empty"])


def _plain(array: np.ndarray) -> Any:
    """An array, or the number or text that it stands for."""
    return array.item() if array.ndim == 0 else array
