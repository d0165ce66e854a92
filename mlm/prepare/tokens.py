"""The later stages: a tokeniser, parts of token ids, and shards."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from common.base.progress import progress_bar
from common.runs.files import replacing
from mlm.corpus import ShardRecord, SplitName, offsets_file, tokens_file
from mlm.prepare import tokeniser
from mlm.prepare.encoding import NUM_CODE_POINTS, TRAIN, count_letters, encode
from mlm.prepare.parts import read_lengths, read_summary, read_text, read_tokens, write_tokens
from mlm.prepare.pool import Pool, Task, worker_pool
from mlm.prepare.texts import Fates, Part, Texts

TRAINING_BYTES = 100 * 10**6
"""Of text that a tokeniser is trained on, at most: a sample of the training documents, by hash. Its
distinct words are in memory."""
SHARD_TOKENS = 2**27
"""Tokens of a shard, at most."""
_MB = 10**6


def train_tokeniser(texts: Texts, fates: Fates, size: int, num_workers: int) -> str:
    """A tokeniser of so many pieces, trained on the training documents; as JSON."""
    chosen = list(_chosen(texts, fates))
    letters = np.zeros(NUM_CODE_POINTS, np.int64)
    with (
        progress_bar("letters", len(chosen), unit="parts", rate_unit="parts") as update,
        worker_pool(num_workers) as pool,
    ):
        tasks = (Task(part, count_letters, (part.path, mask_N)) for part, mask_N in chosen)
        for num_counted, (_, counts) in enumerate(pool.results(tasks), 1):
            letters += counts
            update(num_counted)
    total = sum(int(read_summary(part.path).lengths_N[mask_N].sum()) for part, mask_N in chosen)
    with progress_bar("tokeniser", total // _MB, unit="MB", rate_unit="MB") as update:
        return tokeniser.trained(_texts(chosen, update), letters, size)


def encode_texts(
    texts: Texts, fates: Fates, tokenizer: Path, dtype: str, folder: Path, pool: Pool
) -> tuple[Part, ...]:
    """Write parts of token ids.

    Args:
        texts: the parts of text.
        fates: what becomes of their documents.
        tokenizer: file of the tokeniser.
        dtype: of the ids.
        folder: for the parts, which belong to these settings; those that are there are not made
            again.
        pool: who does it.

    Returns:
        The parts of token ids, one for each part of text.
    """
    parts = tuple(Part(part.source, part.number, folder / part.name) for part in texts.parts)
    sizes = [part.path.stat().st_size for part in texts.parts]
    to_do = [i for i, part in enumerate(parts) if not part.path.exists()]
    tasks = (
        Task(i, encode, (texts.parts[i].path, fates.of_part[i], tokenizer, dtype)) for i in to_do
    )
    done = sum(sizes) - sum(sizes[i] for i in to_do)
    with progress_bar("tokens", sum(sizes) // _MB, done // _MB, "MB", rate_unit="MB") as update:
        for i, (train, validation, num_empty) in pool.results(tasks):
            with replacing(parts[i].path) as file:
                write_tokens(file, train, validation, num_empty)
            done += sizes[i]
            update(done // _MB)
    return parts


def join(parts: Sequence[Part], split: SplitName, dtype: str, out: Path) -> tuple[ShardRecord, ...]:
    """Write the shards of one split: parts of one source, one after another."""
    shards: list[ShardRecord] = []
    for source, some in _groups(parts, split):
        name = f"{split}-{len(shards):05d}"
        lengths_N = np.concatenate([read_lengths(part.path, split) for part in some])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N)])
        num_tokens = int(offsets[-1])
        tokens = (read_tokens(part.path, split) for part in some)
        _write_array(out / tokens_file(name), tokens, num_tokens, dtype)
        _write_array(out / offsets_file(name), iter((offsets,)), len(offsets), "int64")
        shards.append(ShardRecord(name, source, len(lengths_N), num_tokens))
    return tuple(shards)


def _chosen(texts: Texts, fates: Fates) -> Iterator[tuple[Part, np.ndarray]]:
    """Which documents of each part a tokeniser is trained on."""
    share = min(1.0, TRAINING_BYTES / max(fates.train_bytes, 1))
    most = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    for part, fate_N in zip(texts.parts, fates.of_part, strict=True):
        # The other half of the hash: the first decides between training and validation.
        is_drawn_N = read_summary(part.path).digests_Nx2[:, 1] <= most
        yield part, (fate_N == TRAIN) & is_drawn_N


def _texts(
    chosen: Sequence[tuple[Part, np.ndarray]], update: Callable[[int], None]
) -> Iterator[str]:
    done = 0
    for part, is_chosen_N in chosen:
        for text, is_chosen in zip(read_text(part.path).texts(), is_chosen_N, strict=True):
            if is_chosen:
                yield text
                done += len(text.encode())
        update(done // _MB)


def _groups(parts: Sequence[Part], split: str) -> Iterator[tuple[int, list[Part]]]:
    """Source and parts of every shard."""
    group: list[Part] = []
    size = 0
    for part in parts:
        count = int(read_lengths(part.path, split).sum())
        is_other = bool(group) and group[0].source != part.source
        if group and (is_other or size + count > SHARD_TOKENS):
            yield group[0].source, group
            group, size = [], 0
        if count:
            group.append(part)
            size += count
    if group:
        yield group[0].source, group


def _write_array(path: Path, pieces: Iterator[np.ndarray], length: int, dtype: str) -> None:
    """Write a file of numpy's from pieces, of which one is in memory at a time."""
    header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with replacing(path) as file:
        npy.write_array_header_1_0(file, header | {"shape": (length,)})
        for piece in pieces:
            file.write(piece.tobytes())
