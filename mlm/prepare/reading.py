"""Files of text, plain or compressed, as lines or documents of a bounded size."""

import bz2
import gzip
import importlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from common.base.errors import UserError
from common.runs.files import bytes_text
from mlm.prepare.cleaning import missing_package

COMPRESSED = (".gz", ".xz", ".zst", ".bz2")
MOST_BYTES = 2**25
"""Of a document. It is in memory several times over."""
_CHUNK = 2**20
_ZSTANDARD_CHUNK = 2**12
"""Compressed bytes; of a line without end they may become some thousand times as many."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def uncompressed_suffix(path: Path) -> str:
    """The suffix of a file's name, before that of its compression: `.jsonl` of `a.jsonl.xz`."""
    if path.suffix in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix


def chunks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The contents of a file, decompressed.

    Args:
        file: the open file.
        path: its name, whose suffix says how it is compressed.

    Raises:
        UserError: the file is damaged, or zstandard is needed and not installed.
    """
    try:
        if path.suffix == ".zst":
            yield from _zstandard(file)
            return
        contents = _opened(file, path)
        while chunk := contents.read(_CHUNK):
            yield chunk
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:  # bz2 says without a number that data are not its own
            raise
        raise _damaged(path, error) from None


def lines(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The lines of a file.

    Raises:
        UserError: a line is longer than a document may be.
    """
    rest = b""
    number = 0
    for chunk in _without_mark(pieces):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield line
        if len(rest) > MOST_BYTES:
            raise UserError(
                f"{path}, line {number + 1}: a line of over {bytes_text(MOST_BYTES)}, the most that"
                " a document may have; break it into several"
            )
    if rest:
        yield rest


def whole(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The contents of a file as one document.

    Raises:
        UserError: it is longer than a document may be.
    """
    parts: list[bytes] = []
    size = 0
    for chunk in _without_mark(pieces):
        parts.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            raise UserError(
                f"{path}: over {bytes_text(MOST_BYTES)}, the most that a document may have; say"
                f" where documents end: {path},documents=lines if each is a line, or"
                f" {path},documents=paragraphs if there are empty lines between them"
            )
    yield b"".join(parts)


def paragraphs(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The contents of a file as documents with empty lines between them; raises as `whole` does."""
    gathered: list[bytes] = []
    size = 0
    for line in lines(pieces, path):
        if line.strip():
            gathered.append(line)
            size += len(line)
        elif gathered:
            yield b"\n".join(gathered)
            gathered, size = [], 0
        if size > MOST_BYTES:
            raise UserError(
                f"{path}: over {bytes_text(MOST_BYTES)} without an empty line, the most that a"
                f" document may have; if each line is one, give {path},documents=lines"
            )
    if gathered:
        yield b"\n".join(gathered)


DOCUMENTS: dict[str, Callable[[Iterator[bytes], Path], Iterator[bytes]]] = {
    "files": whole,
    "lines": lines,
    "paragraphs": paragraphs,
}
"""What a document is in a .txt file."""


def _opened(file: IO[bytes], path: Path) -> IO[bytes]:
    openers: dict[str, Callable[[Any], Any]] = {
        ".gz": lambda file: gzip.GzipFile(fileobj=file),
        ".xz": lzma.LZMAFile,
        ".bz2": bz2.BZ2File,
    }
    if path.suffix in openers:
        return openers[path.suffix](file)
    return file


def _zstandard(file: IO[bytes]) -> Iterator[bytes]:
    """Its own readers take a file that is cut short for one that ends."""
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise UserError(missing_package("zstandard", "a .zst file")) from None
    frame = None
    while compressed := file.read(_ZSTANDARD_CHUNK):
        while compressed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from None
            compressed = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("it ends within a frame")


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in pieces:
        head += chunk
        if len(head) >= len(_BYTE_ORDER_MARK):
            break
    yield head.removeprefix(_BYTE_ORDER_MARK)
    yield from pieces


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or cut short ({error}); fetch it again")
