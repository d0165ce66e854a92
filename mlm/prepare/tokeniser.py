"""Tokenisers of a corpus: WordPiece trained on its training documents, or a given one, which may be
of bytes.

Schuster and Nakajima (2012), Japanese and Korean voice search; as BERT has it. Radford et al.
(2019), Language models are unsupervised multitask learners; as GPT-2 and Pythia have it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from common.base.errors import UserError
from mlm.vocabulary import BPE_VOCABULARY, SPECIAL_TOKENS, TEXT_END, TOKENIZER, vocabulary_of

CONTINUING = "##"
MOST_LETTERS = 1000
"""Letters that get a piece of their own; words with others become [UNK]. As in `tokenizers`."""
_LEAST_PIECES_PER_LETTER = 16
"""Of a small vocabulary most pieces are to be longer than a letter, of which each takes two."""
_LEAST_TIMES = 2
"""A pair of pieces that occurs once is not joined. As in `tokenizers`."""
_CUTS_AT_SPACE = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_CUTS_BEFORE_SPACE = "ByteLevel"
_ACROSS_SPACE = re.compile(r"\S\s")
_BY_LETTER = (None, "NFC", "NFD")
"""Normalisers that change no white space and nothing across it."""


def trained(texts: Iterator[str], letters: np.ndarray, size: int) -> str:
    """A lower-case WordPiece tokeniser, as JSON.

    The library numbers the pieces "##a", "##b", ... in the order of a hash table that differs from
    one process to the next, and breaks ties by these numbers. So they are given here.

    Args:
        texts: of the training documents.
        letters: how often each code point occurs in them.
        size: pieces in the vocabulary, or fewer if the text has no more.
    """
    tokenizer = _untrained(models.WordPiece(unk_token=SPECIAL_TOKENS["unknown"]))
    alphabet = _alphabet(tokenizer, letters, min(MOST_LETTERS, size // _LEAST_PIECES_PER_LETTER))
    continuing = [CONTINUING + letter for letter in alphabet if _continues(tokenizer, letter)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_LEAST_TIMES,
        special_tokens=[*SPECIAL_TOKENS.values(), *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUING,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finished(tokenizer.get_vocab())


def given(path: Path) -> str:
    """A given tokeniser, as JSON: a `tokenizer.json` as it is; a `vocab.txt` with a piece a line,
    which is taken for one of lower-case text; a `vocab.json` with `merges.txt` beside it, as GPT-2
    had it; or the folder that holds one of them.

    Raises:
        UserError: it cannot be read, is of another kind, or cuts texts in another way than
            `Encoder` does.
    """
    path = file_of(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a {TOKENIZER} or a vocab.txt") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text; give a {TOKENIZER} or a vocab.txt") from None
    if path.name == BPE_VOCABULARY:
        return _from_merges(path)
    if path.suffix != ".json":
        return _from_vocabulary(text.splitlines(), path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more exact
        raise UserError(f"{path} is no tokeniser that `tokenizers` can read ({error})") from None
    kind = type(tokenizer.pre_tokenizer).__name__
    if kind not in (*_CUTS_AT_SPACE, _CUTS_BEFORE_SPACE):
        raise UserError(
            f"{path} has the pre-tokeniser {kind}; give one that cuts at white space and keeps none"
            f" of it: {', '.join(_CUTS_AT_SPACE)}, or one of bytes as GPT-2 has it:"
            f" {_CUTS_BEFORE_SPACE}"
        )
    if kind == _CUTS_BEFORE_SPACE:
        _refuse_across_space(json.loads(text), path)
    vocabulary_of(path)
    return text


def file_of(path: Path) -> Path:
    """A given tokeniser's file: the path itself, or of a folder the one in it."""
    if not path.is_dir():
        return path
    files = [path / name for name in (TOKENIZER, BPE_VOCABULARY)]
    return next((file for file in files if file.exists()), path / "vocab.txt")


def _refuse_across_space(values: dict[str, Any], path: Path) -> None:
    """Refuse a tokeniser of bytes that treats white space and what stands before it as one: of such
    ones a text's ids are not those of its chunks."""
    advice = "give a tokeniser as GPT-2 and Pythia have it"
    if not values["pre_tokenizer"].get("use_regex", True):
        raise UserError(f"{path} does not cut texts before white space; {advice}")
    if values["pre_tokenizer"].get("add_prefix_space"):
        raise UserError(f"{path} puts a space before every text (add_prefix_space); {advice}")
    normaliser = (values.get("normalizer") or {"type": None})["type"]
    if normaliser not in _BY_LETTER:
        raise UserError(f"{path} has the normaliser {normaliser}, not NFC or none; {advice}")
    for token in values.get("added_tokens", ()):
        takes_more = token["rstrip"] or token["single_word"]
        is_across = takes_more or _ACROSS_SPACE.search(token["content"]) is not None
        if is_across and not token["special"]:
            raise UserError(
                f"{path} has the token {token['content']!r}, which depends on the white space"
                f" behind it; {advice}"
            )


def _from_merges(path: Path) -> str:
    """GPT-2's older files, `vocab.json` and `merges.txt`, as JSON."""
    merges = path.with_name("merges.txt")
    if not merges.is_file():
        raise UserError(f"{path} has no {merges.name} beside it; give a {TOKENIZER}")
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(path), str(merges)))
    except Exception as error:  # the library raises nothing more exact
        raise UserError(f"{path} and {merges.name} cannot be read ({error})") from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([TEXT_END])
    return tokenizer.to_str()


def _from_vocabulary(pieces: list[str], path: Path) -> str:
    if len(set(pieces)) != len(pieces):
        raise UserError(f"{path} has a piece twice; each line is to be another")
    if missing := [token for token in SPECIAL_TOKENS.values() if token not in pieces]:
        raise UserError(f"{path} has no {', '.join(missing)}; give a vocab.txt of BERT's kind")
    return _finished({piece: id_ for id_, piece in enumerate(pieces)})


def _untrained(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _finished(vocabulary: dict[str, int]) -> str:
    unknown, cls, sep = (SPECIAL_TOKENS[name] for name in ("unknown", "cls", "sep"))
    tokenizer = _untrained(
        models.WordPiece(vocabulary, unk_token=unknown, continuing_subword_prefix=CONTINUING)
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.post_processor = processors.BertProcessing(
        (sep, vocabulary[sep]), (cls, vocabulary[cls])
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUING)
    return tokenizer.to_str(pretty=True)


def _alphabet(tokenizer: Tokenizer, letters: np.ndarray, most: int) -> list[str]:
    """The most frequent letters, after normalisation, in the order of their code points."""
    counts: dict[str, int] = {}
    for point in np.flatnonzero(letters).tolist():
        for letter in tokenizer.normalizer.normalize_str(chr(point)):
            if not letter.isspace():
                counts[letter] = counts.get(letter, 0) + int(letters[point])
    by_frequency = sorted(counts, key=lambda letter: (-counts[letter], letter))
    return sorted(by_frequency[:most])


def _continues(tokenizer: Tokenizer, letter: str) -> bool:
    """Whether a letter can go on with a word, unlike a full stop or a Chinese character."""
    normal = tokenizer.normalizer.normalize_str(f"a{letter}")
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)] == [f"a{letter}"]
