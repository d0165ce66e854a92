"""Tokenisers of text: trained alike everywhere, given, and asked by the chunk."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from common.base.errors import UserError
from mlm.prepare import tokeniser
from mlm.prepare.encoding import NUM_CODE_POINTS, Encoder
from mlm.vocabulary import SPECIAL_TOKENS, TextEnd, WordPieces, vocabulary_of
from tests.byte_level import SIZE, byte_level, like_pythia
from tests.commands import REPOSITORY
from tests.made_up_text import documents

TEXTS = [*documents(60), "Straße [MASK] 東京 ##x x", "naïve façade"]


def trained(size: int = 400) -> str:
    points = np.frombuffer("".join(TEXTS).encode("utf-32-le"), np.uint32)
    return tokeniser.trained(iter(TEXTS), np.bincount(points, minlength=NUM_CODE_POINTS), size)


@pytest.fixture(scope="module")
def ours() -> str:
    return trained()


def test_trained_alike_in_another_process(ours: str) -> None:
    """The library alone is not: its hash tables differ from one process to the next."""
    code = "import sys; from tests.test_tokeniser import trained; sys.stdout.write(trained())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert done.stdout.decode() == ours


def test_the_trained_tokeniser(ours: str) -> None:
    tokenizer = Tokenizer.from_str(ours)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) <= 400
    assert [vocabulary[token] for token in SPECIAL_TOKENS.values()] == [0, 1, 2, 3, 4]
    assert tokenizer.encode("Ba").tokens == ["[CLS]", "ba", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("koriba shalo").ids) == "koriba shalo"
    longest = max(vocabulary, key=len)
    assert len(longest) > 5
    assert "##." not in vocabulary


def test_rare_letters_are_unknown() -> None:
    """A small vocabulary has few letters, the most frequent ones."""
    vocabulary = Tokenizer.from_str(trained(160)).get_vocab()
    letters = {piece for piece in vocabulary if len(piece) == 1}
    assert len(letters) == 10
    assert "東" not in letters
    assert "a" in letters


LETTERS = st.one_of(
    st.sampled_from("abko   \n\t\r.,-'sÉ東\x00\x1c\x85\xa0\u2028\u0301\u017f"),
    st.characters(),
)


@pytest.mark.parametrize("case", ["ours", "cased", "by white space"])
@hypothesis.given(text=st.text(LETTERS))
def test_chunks_have_the_ids_of_the_whole(case: str, text: str, ours: str) -> None:
    """For every tokeniser that is not refused."""
    tokenizer = Tokenizer.from_str(ours)
    if case == "cased":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    if case == "by white space":
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    text = text.encode(errors="ignore").decode()
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    assert Encoder(tokenizer).ids(text).tolist() == whole


@pytest.mark.parametrize("make", [byte_level, like_pythia])
@hypothesis.given(text=st.text(LETTERS))
def test_chunks_of_bytes_have_the_ids_of_the_whole(
    make: Callable[[Sequence[str]], Tokenizer], text: str
) -> None:
    """Whose tokens have white space before them."""
    tokenizer = made_of_bytes(make)
    text = text.encode(errors="ignore").decode()
    tokenizer.encode_special_tokens = True
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    assert Encoder(tokenizer).ids(text).tolist() == whole


@functools.cache
def made_of_bytes(make: Callable[[Sequence[str]], Tokenizer]) -> Tokenizer:
    return make([text + "  " + text for text in TEXTS])


@pytest.mark.parametrize("make", [byte_level, like_pythia])
def test_a_vocabulary_of_bytes(make: Callable[[Sequence[str]], Tokenizer], tmp_path: Path) -> None:
    made_of_bytes(make).save(str(tmp_path / "tokenizer.json"))
    vocabulary = vocabulary_of(tmp_path / "tokenizer.json")
    assert vocabulary.size == SIZE + (8 if make is like_pythia else 0)
    assert vocabulary.ids == TextEnd(0)
    special = [0, SIZE] if make is like_pythia else [0]
    assert np.flatnonzero(vocabulary.is_special_V).tolist() == special
    assert tokeniser.given(tmp_path) == (tmp_path / "tokenizer.json").read_text()
    ids = Encoder(made_of_bytes(make)).ids("an <|endoftext|> in a text")
    assert 0 not in ids


def test_files_of_the_first_gpt2_and_bert_name_no_type(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "tokenizer.json"
    for text in (ours, made_of_bytes(byte_level).to_str()):
        values = json.loads(text)
        path.write_text(text)
        size = vocabulary_of(path).size
        del values["model"]["type"]
        path.write_text(json.dumps(values))
        assert vocabulary_of(path).size == size
        tokeniser.given(path)


def test_older_files_of_gpt2_are_its_tokeniser(tmp_path: Path) -> None:
    tokenizer = made_of_bytes(byte_level)
    tokenizer.model.save(str(tmp_path))
    text = tokeniser.given(tmp_path)
    read = Tokenizer.from_str(text)
    assert read.encode(TEXTS[0]).ids == tokenizer.encode(TEXTS[0]).ids
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    assert vocabulary_of(path).ids == TextEnd(0)
    path.unlink()
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"has no merges.txt beside it"):
        tokeniser.given(tmp_path)


def test_special_tokens_in_a_text_are_words(ours: str) -> None:
    ids = Encoder(Tokenizer.from_str(ours)).ids("[MASK] [SEP]").tolist()
    assert not {0, 2, 3, 4} & set(ids)


def test_nothing_is_cut_or_padded(ours: str) -> None:
    """As the tokenizer.json of sentence encoders would have it."""
    tokenizer = Tokenizer.from_str(ours)
    plain = Encoder(Tokenizer.from_str(ours)).ids(TEXTS[0]).tolist()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    assert Encoder(tokenizer).ids(TEXTS[0]).tolist() == plain
    assert len(plain) > 16


def test_a_long_chunk_is_cut(ours: str) -> None:
    text = "東" * 25_000
    encoder = Encoder(Tokenizer.from_str(ours))
    assert len(encoder.ids(text)) == 25_000


def test_a_given_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[unused0]", *list(SPECIAL_TOKENS.values())[1:], "ca", "##fe", "."]
    path.write_text("\n".join(pieces) + "\n")
    text = tokeniser.given(path)
    assert Encoder(Tokenizer.from_str(text)).ids("Café. Tea").tolist() == [6, 7, 8, 2]
    (tmp_path / "tokenizer.json").write_text(text)
    vocabulary = vocabulary_of(tmp_path / "tokenizer.json")
    assert isinstance(vocabulary, WordPieces)
    assert vocabulary.size == len(pieces)
    assert vocabulary.is_special_V.tolist() == [True, True, False, *3 * [True], *3 * [False]]
    assert vocabulary.is_first_piece_V.tolist() == [
        *(False, False, True, False, False, False),
        *(True, False, True),
    ]


def of_digits() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Digits()
    return tokenizer.to_str()


def not_cut() -> str:
    tokenizer = byte_level(TEXTS[:2])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    return tokenizer.to_str()


def with_space() -> str:
    tokenizer = byte_level(TEXTS[:2])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return tokenizer.to_str()


def stripped() -> str:
    tokenizer = byte_level(TEXTS[:2])
    tokenizer.normalizer = normalizers.Strip()
    return tokenizer.to_str()


def with_token(token: AddedToken) -> str:
    tokenizer = byte_level(TEXTS[:2])
    tokenizer.add_tokens([token])
    return tokenizer.to_str()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "no tokeniser that `tokenizers` can read"),
        ("tokenizer.json", of_digits(), "has the pre-tokeniser Digits; give one that cuts"),
        ("tokenizer.json", not_cut(), "does not cut texts before white space"),
        ("tokenizer.json", with_space(), "puts a space before every text"),
        ("tokenizer.json", stripped(), "has the normaliser Strip, not NFC or none"),
        ("tokenizer.json", with_token(AddedToken("an", single_word=True)), "has the token 'an'"),
        ("tokenizer.json", with_token(AddedToken("to be")), "has the token 'to be', which"),
        ("tokenizer.json", with_token(AddedToken("so", rstrip=True)), "has the token 'so', which"),
        ("vocab.txt", "a\nb\n", r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ("vocab.txt", "a\na\n", "has a piece twice"),
        ("vocab.txt", "\udcff", "is no text"),
        ("vocab.txt", None, "does not exist"),
    ],
)
def test_given_tokenisers_that_are_refused(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        tokeniser.given(path)


def test_other_models_are_refused(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "tokenizer.json"
    values = json.loads(ours)
    values["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="is neither a WordPiece tokeniser"):
        vocabulary_of(path)
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    path.write_text(tokenizer.to_str())
    with pytest.raises(UserError, match="which begins the rows of models of the next"):
        vocabulary_of(path)
