"""Writes small prepared corpora of given ids."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.runs.files import file_hash
from mlm.corpus import (
    MANIFEST,
    SplitName,
    corpus_hash,
    offsets_file,
    tokens_file,
)
from mlm.presets import PRESETS
from mlm.relay.presets import PRESETS as RELAY_PRESETS
from mlm.vocabulary import SPECIAL_TOKENS, TOKENIZER

NUM_SPECIAL = len(SPECIAL_TOKENS)
Documents = Sequence[Sequence[int]]


def write_corpus(
    path: Path,
    shards: Mapping[SplitName, Sequence[tuple[float, Documents]]],
    pieces: int = 40,
    dtype: str = "uint16",
) -> Path:
    """A corpus whose ids are the special tokens and `pieces` pieces, of which every third goes on
    with a word.

    Args:
        path: its folder.
        shards: of each split: the weight of the shard's source, and its documents as ids.
        pieces: how many there are.
        dtype: of the ids.
    """
    path.mkdir(parents=True)
    vocab = {token: i for i, token in enumerate(SPECIAL_TOKENS.values())}
    for i in range(pieces):
        vocab[f"##p{i}" if i % 3 == 2 else f"p{i}"] = NUM_SPECIAL + i
    model = {"type": "WordPiece", "vocab": vocab, "continuing_subword_prefix": "##"}
    model |= {"unk_token": SPECIAL_TOKENS["unknown"], "max_input_chars_per_word": 100}
    words = {"type": "WhitespaceSplit"}
    (path / TOKENIZER).write_text(
        json.dumps({"model": model, "added_tokens": [], "pre_tokenizer": words})
    )
    weights = sorted({weight for of_split in shards.values() for weight, _ in of_split})
    splits, files, weight_of = {}, [TOKENIZER], {}
    for split, of_split in shards.items():
        records = []
        for number, (weight, documents) in enumerate(of_split):
            name = f"{split}-{number:05d}"
            tokens = np.concatenate([np.asarray(text, dtype) for text in documents])
            offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
            np.save(path / tokens_file(name), tokens)
            np.save(path / offsets_file(name), offsets)
            files += [tokens_file(name), offsets_file(name)]
            weight_of[name] = weight
            source = weights.index(weight)
            records.append(
                {
                    "name": name,
                    "source": source,
                    "documents": len(documents),
                    "tokens": len(tokens),
                }
            )
        splits[split] = {
            "documents": sum(record["documents"] for record in records),
            "tokens": sum(record["tokens"] for record in records),
            "shards": records,
        }
    hashes = {name: file_hash(path / name) for name in files}
    dropped = {"empty": 0, "duplicates": 0, "invalid": 0}
    manifest = {
        "format": 1,
        "hash": corpus_hash(hashes, weight_of),
        "made_by": "0" * 64,
        "settings": {},
        "vocabulary_size": len(vocab),
        "special_ids": {name: vocab[token] for name, token in SPECIAL_TOKENS.items()},
        "dtype": dtype,
        "dropped": dropped,
        "sources": [
            {
                "name": f"source {i}",
                "weight": weight,
                "revision": None,
                "inputs": [],
                "dropped": dropped,
                "documents": {"train": 0, "validation": 0},
                "tokens": {"train": 0, "validation": 0},
            }
            for i, weight in enumerate(weights)
        ],
        "splits": splits,
        "files": hashes,
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


def random_documents(seed: int, count: int, longest: int, pieces: int = 40) -> list[list[int]]:
    """Documents of random ids and lengths."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(NUM_SPECIAL, NUM_SPECIAL + pieces, length).tolist()
        for length in rng.integers(1, longest + 1, count)
    ]


def write_preset_corpora(folder: Path) -> None:
    """Where presets look for their corpora, below the folder that commands are typed in: next to no
    text."""
    documents = random_documents(3, 40, 400)
    corpora = {preset.config.teacher.data.corpus for preset in PRESETS.values()}
    encoders = [preset.config.encoder for preset in RELAY_PRESETS.values()]
    corpora |= {encoder.data.corpus for encoder in encoders if encoder is not None}
    for corpus in corpora:
        write_corpus(
            folder / corpus, {"train": [(1.0, documents)], "validation": [(1.0, documents[:10])]}
        )
