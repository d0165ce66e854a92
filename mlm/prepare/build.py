"""All stages of a corpus, one after another. Parts that are there are not made again.

Parts lie inside the folder `unfinished`, in folders that are named by a fingerprint of what they
are made from. So a part that is found is what it would be made to be now; parts of other inputs or
settings are left alone, and deleted with the rest when the corpus is finished.
"""

import hashlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from common.base.config import configuration, fingerprint, to_dict
from common.base.errors import UserError
from common.base.interruption import telling
from common.runs.files import copy_file, refuse_filled, write_json, write_text
from common.runs.lock import locked
from mlm.corpus import (
    FORMAT,
    MANIFEST,
    SPLITS,
    WORK,
    Corpus,
    DroppedRecord,
    Manifest,
    ShardRecord,
    SourceRecord,
    SplitName,
    SplitRecord,
    corpus_hash,
    file_hash,
    offsets_file,
    open_corpus,
    read_manifest,
    tokens_file,
)
from mlm.prepare import tokeniser
from mlm.prepare.encoding import TRAIN, VALIDATION
from mlm.prepare.parts import read_num_empty
from mlm.prepare.pool import worker_pool
from mlm.prepare.sources import Source
from mlm.prepare.texts import (
    Dropped,
    Fates,
    InputRecords,
    Part,
    decide,
    hash_inputs,
    read_texts,
    reading_fingerprint,
)
from mlm.prepare.tokens import encode_texts, join, train_tokeniser
from mlm.vocabulary import TOKENIZER, Vocabulary, vocabulary_of

SMALL = 2**16
"""Vocabularies up to this size have ids of two bytes."""


@configuration
class PrepareConfig:
    """What decides, beside the texts, how a corpus comes out."""

    vocabulary_size: Annotated[int, Field(ge=64, le=2**31)] = 8192
    """Word pieces of the tokeniser that is trained; fewer if the text has no more."""
    tokenizer: Path | None = None
    """A tokeniser to use instead, or the folder that holds it: a tokenizer.json of the library
    tokenizers, or a vocab.txt of lower-case text; WordPiece like BERT's, or, for models of the next
    token, BPE of bytes like GPT-2's and Pythia's."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the documents that nothing is trained on."""


def prepare(
    sources: Sequence[Source], out: Path, config: PrepareConfig, num_workers: int
) -> Corpus:
    """Turn sources into a corpus, or go on where an earlier call was stopped.

    Args:
        sources: where documents come from, in order: of equal documents the first is kept.
        out: the folder of the corpus; it need not exist.
        config: how it comes out.
        num_workers: processes, on which nothing depends but the time.

    Raises:
        UserError: something is wrong with the input, or the folder holds something else.
    """
    work = out / WORK
    if not work.is_dir():
        refuse_filled(out, MANIFEST, ())
    given = None if config.tokenizer is None else tokeniser.given(config.tokenizer)
    recipe = _recipe(sources, config, given)
    if (out / MANIFEST).exists():
        _refuse_another(out, recipe.fingerprint)
    else:
        work.mkdir(parents=True, exist_ok=True)
        saved = f"what is done is kept in {work}; the same command goes on from there"
        with telling(lambda: saved), locked(work):
            _build(recipe, out, given, num_workers)
    shutil.rmtree(work, ignore_errors=True)
    return open_corpus(out)


@dataclass(frozen=True)
class _Recipe:
    """All that a corpus is made from."""

    sources: Sequence[Source]
    inputs: tuple[InputRecords, ...]
    config: PrepareConfig
    settings: dict[str, Any]
    """The configuration, with the hash of a given tokeniser in place of its path."""

    @property
    def texts(self) -> str:
        """Fingerprint of what the parts of text are made from."""
        return reading_fingerprint(self.sources, self.inputs)

    @property
    def tokens(self) -> str:
        """Fingerprint of what the parts of token ids are made from."""
        return fingerprint({"texts": self.texts, "settings": self.settings})

    @property
    def fingerprint(self) -> str:
        """Of all."""
        weights = [source.weight for source in self.sources]
        return fingerprint({"tokens": self.tokens, "weights": weights})


def _recipe(sources: Sequence[Source], config: PrepareConfig, given: str | None) -> _Recipe:
    settings = to_dict(config)
    if given is not None:
        settings["tokenizer"] = hashlib.sha256(given.encode()).hexdigest()
        del settings["vocabulary_size"]  # the given one has its own
    return _Recipe(sources, hash_inputs(sources), config, settings)


def _refuse_another(out: Path, made_by: str) -> None:
    if read_manifest(out).made_by != made_by:
        raise UserError(
            f"{out} is a finished corpus of other sources or settings; choose another folder, or"
            " delete this one"
        )


def _build(recipe: _Recipe, out: Path, given: str | None, num_workers: int) -> None:
    """Carry out all stages; the manifest is written last. Each stage has workers of its own, which
    would keep the memory that they have once taken."""
    work = out / WORK
    with worker_pool(num_workers) as pool:
        texts = read_texts(recipe.sources, work / f"texts-{recipe.texts[:16]}", pool)
    fates = decide(texts, len(recipe.sources), recipe.config.validation_fraction)
    _check_counts(fates, recipe.config.validation_fraction)

    folder = work / f"tokens-{recipe.tokens[:16]}"
    folder.mkdir(exist_ok=True)
    tokenizer = folder / TOKENIZER
    if not tokenizer.exists():
        size = recipe.config.vocabulary_size
        write_text(tokenizer, given or train_tokeniser(texts, fates, size, num_workers))
    vocabulary = vocabulary_of(tokenizer)
    dtype = "uint16" if vocabulary.size <= SMALL else "uint32"
    with worker_pool(num_workers) as pool:
        parts = encode_texts(texts, fates, tokenizer, dtype, folder, pool)

    for left in (*out.glob("*.tokens.npy"), *out.glob("*.offsets.npy")):
        left.unlink()  # of a command that was killed while it wrote shards
    copy_file(tokenizer, out / TOKENIZER)
    shards: dict[SplitName, tuple[ShardRecord, ...]] = {
        split: join(parts, split, dtype, out) for split in SPLITS
    }
    dropped = tuple(
        _dropped(dropped, [part for part in parts if part.source == source])
        for source, dropped in enumerate(fates.dropped)
    )
    manifest = _manifest(recipe, texts.revisions, dropped, vocabulary, dtype, shards, out)
    write_json(out / MANIFEST, to_dict(manifest))


def _check_counts(fates: Fates, validation_fraction: float) -> None:
    """Refuse a corpus one of whose splits would be empty, and say what is left out."""
    num_train = sum(int(np.sum(fate_N == TRAIN)) for fate_N in fates.of_part)
    num_validation = sum(int(np.sum(fate_N == VALIDATION)) for fate_N in fates.of_part)
    invalid = next((entry.first_invalid for entry in fates.dropped if entry.first_invalid), "")
    if not num_train + num_validation:
        reason = f": the first of them, {invalid}, is no UTF-8" if invalid else ""
        raise UserError(f"the sources have no document with a text{reason}; give others")
    if not num_train or not num_validation:
        missing = "training" if num_validation else "validation"
        raise UserError(
            f"none of {num_train + num_validation} documents is for {missing} with"
            f" --validation-fraction {validation_fraction:g}; choose another, or give more"
            " documents (of a .txt file, each line may be one: FILE,documents=lines)"
        )
    if invalid:
        count = sum(entry.invalid for entry in fates.dropped)
        print(f"{count} documents are no UTF-8 and left out; the first: {invalid}", file=sys.stderr)


def _dropped(of_texts: Dropped, parts: Sequence[Part]) -> DroppedRecord:
    """Of one source; what has a text, but no token, is empty, too."""
    num_empty = sum(read_num_empty(part.path) for part in parts)
    return DroppedRecord(of_texts.empty + num_empty, of_texts.duplicates, of_texts.invalid)


def _manifest(
    recipe: _Recipe,
    revisions: Sequence[str | None],
    dropped: Sequence[DroppedRecord],
    vocabulary: Vocabulary,
    dtype: Literal["uint16", "uint32"],
    shards: Mapping[SplitName, tuple[ShardRecord, ...]],
    out: Path,
) -> Manifest:
    """What the files of a corpus are, and what they are made from."""
    written = [shard for split in SPLITS for shard in shards[split]]
    names = [name_of(shard.name) for shard in written for name_of in (tokens_file, offsets_file)]
    files = {name: file_hash(out / name) for name in (TOKENIZER, *names)}
    sources = tuple(
        SourceRecord(
            name=source.name,
            weight=source.weight,
            revision=revisions[i],
            inputs=recipe.inputs[i],
            dropped=dropped[i],
            documents={
                split: sum(shard.documents for shard in shards[split] if shard.source == i)
                for split in SPLITS
            },
            tokens={
                split: sum(shard.tokens for shard in shards[split] if shard.source == i)
                for split in SPLITS
            },
        )
        for i, source in enumerate(recipe.sources)
    )
    weights = {shard.name: sources[shard.source].weight for shard in written}
    return Manifest(
        format=FORMAT,
        hash=corpus_hash(files, weights),
        made_by=recipe.fingerprint,
        settings=recipe.settings,
        vocabulary_size=vocabulary.size,
        special_ids=vocabulary.ids,
        dtype=dtype,
        dropped=DroppedRecord(
            empty=sum(entry.empty for entry in dropped),
            duplicates=sum(entry.duplicates for entry in dropped),
            invalid=sum(entry.invalid for entry in dropped),
        ),
        sources=sources,
        splits={
            split: SplitRecord(
                sum(shard.documents for shard in shards[split]),
                sum(shard.tokens for shard in shards[split]),
                shards[split],
            )
            for split in SPLITS
        },
        files=files,
    )
