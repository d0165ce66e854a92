"""Tokenisers of corpora: BERT's WordPiece, whose pieces show where words begin and which has a
[MASK], and BPE of bytes (Radford et al. 2019), as GPT-2 and Pythia have it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.base.config import NonNegativeInt, configuration
from common.base.errors import UserError
from common.base.reading import read_object

MODULE = "mlm.prepare"
"""Of the command that makes corpora."""
COMMAND = f"python -m {MODULE}"
TOKENIZER = "tokenizer.json"
"""The file of a tokeniser, of the library `tokenizers`."""
BPE_VOCABULARY = "vocab.json"
"""That of an older GPT-2, whose other one is `merges.txt`."""
SPECIAL_TOKENS = {
    "pad": "[PAD]",
    "unknown": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
}
"""BERT's special tokens, by the name of their id."""
TEXT_END = "<|endoftext|>"
"""GPT-2's, which stands between two texts."""
_UNUSED = re.compile(r"\[unused\d+\]")


@configuration
class SpecialIds:
    """The ids of BERT's special tokens."""

    pad: NonNegativeInt
    unknown: NonNegativeInt
    cls: NonNegativeInt
    sep: NonNegativeInt
    mask: NonNegativeInt


@configuration
class TextEnd:
    """The id of GPT-2's."""

    end: NonNegativeInt


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a tokeniser."""

    size: int
    ids: SpecialIds | TextEnd
    is_special_V: np.ndarray
    """Which ids no text has: special tokens, but not [UNK], and BERT's reserved [unused0], ..."""


@dataclass(frozen=True, eq=False)
class WordPieces(Vocabulary):
    """The word pieces of BERT's tokeniser."""

    ids: SpecialIds
    is_first_piece_V: np.ndarray
    """Which ids begin a word; [UNK] stands for a whole word."""
    text_V: tuple[str, ...]
    """What each piece is of a text: without the mark of those that go on with a word."""


def vocabulary_of(path: Path) -> Vocabulary:
    """The tokens of a `tokenizer.json`.

    Raises:
        UserError: it is neither a WordPiece tokeniser with BERT's special tokens, nor a BPE one
            with GPT-2's; or there is none.
        RunError: it is damaged.
    """
    values = _read(path)
    if _kind(values["model"]) == "BPE":
        return _byte_pairs(_ids(values), _added(values), path)
    return word_pieces(_ids(values), values["model"]["continuing_subword_prefix"], path)


def ids_of(path: Path) -> dict[str, int]:
    """The ids of the tokens in a `tokenizer.json`; raises as `vocabulary_of` does."""
    return _ids(_read(path))


def word_pieces(ids: Mapping[str, int], continuing: str, path: Path) -> WordPieces:
    """The word pieces of a tokeniser.

    Args:
        ids: of the pieces.
        continuing: what pieces begin with that go on with a word: "##".
        path: where they are from, for the message.

    Raises:
        UserError: one of BERT's special tokens is missing, or ids are.
    """
    if missing := [token for token in SPECIAL_TOKENS.values() if token not in ids]:
        raise UserError(
            f"{path} has no {', '.join(missing)}; give a tokeniser with BERT's special tokens"
        )
    size = _size(ids, path)
    special = SpecialIds(**{name: ids[token] for name, token in SPECIAL_TOKENS.items()})
    unknown = SPECIAL_TOKENS["unknown"]
    is_special_V = np.zeros(size, bool)
    is_first_piece_V = np.zeros(size, bool)
    text_of = {}
    for piece, id_ in ids.items():
        text_of[id_] = piece.removeprefix(continuing)
        is_reserved = piece in SPECIAL_TOKENS.values() or _UNUSED.fullmatch(piece) is not None
        is_special_V[id_] = is_reserved and piece != unknown
        is_first_piece_V[id_] = not is_special_V[id_] and not piece.startswith(continuing)
    text_V = tuple(text_of[id_] for id_ in range(size))
    return WordPieces(size, special, is_special_V, is_first_piece_V, text_V)


def _byte_pairs(ids: Mapping[str, int], added: list[Any], path: Path) -> Vocabulary:
    special = {token["content"]: token["id"] for token in added if token.get("special")}
    if TEXT_END not in special:
        raise UserError(
            f"{path} has no special token {TEXT_END}, which begins the rows of models of the next"
            " token; give a tokeniser of the kind of GPT-2's"
        )
    size = _size(ids, path)
    is_special_V = np.zeros(size, bool)
    is_special_V[list(special.values())] = True
    return Vocabulary(size, TextEnd(special[TEXT_END]), is_special_V)


def _size(ids: Mapping[str, int], path: Path) -> int:
    size = len(ids)
    if sorted(ids.values()) != list(range(size)):
        raise UserError(f"the ids of {path} are not 0 to {size - 1}, each once; give another")
    return size


def _read(path: Path) -> dict[str, Any]:
    values = read_object(path, ("model",), COMMAND)
    model = values["model"]
    is_known = isinstance(model, Mapping) and _kind(model) in ("WordPiece", "BPE")
    if not is_known or not isinstance(model.get("vocab"), Mapping):
        raise UserError(
            f"{path} is neither a WordPiece tokeniser, such as BERT has, nor a BPE one, such as"
            " GPT-2 has; give another"
        )
    return values


def _kind(model: Mapping[str, Any]) -> str | None:
    """The type of a tokeniser's model, which the files of the first BERT and GPT-2 do not name."""
    if "type" in model:
        return model["type"]
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "max_input_chars_per_word" in model else None


def _added(values: Mapping[str, Any]) -> list[Any]:
    return values.get("added_tokens") or []


def _ids(values: Mapping[str, Any]) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in _added(values)}
    return {**values["model"]["vocab"], **added}
