"""The loss of the frequencies of words, counted by hand."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mlm import train, unigram
from mlm.data import TextConfig
from mlm.unigram import frequencies, weighted_counts
from tests.corpora import NUM_SPECIAL, random_documents, write_corpus

PIECES = 12
UNKNOWN = 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two sources, one of which counts three times; [UNK] is no word."""
    documents = random_documents(0, 30, 30, PIECES), random_documents(1, 10, 30, PIECES)
    documents[0][0] = [UNKNOWN] * 30
    shards = [(1.0, documents[0]), (3.0, documents[1])]
    held_out = [(1.0, random_documents(2, 20, 30, PIECES))]
    path = tmp_path_factory.mktemp("corpora") / "small"
    return write_corpus(path, {"train": shards, "validation": held_out}, PIECES)


def expected_counts(corpus: Path) -> Counter[int]:
    text = TextConfig(corpus, length=12).load()
    counts: Counter[int] = Counter()
    for shard in text.train.shards:
        for token in shard.tokens.tolist():
            counts[token] += int(shard.weight)
    return counts


def test_counts(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unigram, "_CHUNK", 7)
    text, counts = TextConfig(corpus, length=12).load(), expected_counts(corpus)
    found = weighted_counts(text.corpus.split("train"), text.vocabulary.size)
    assert found.tolist() == [counts[i] for i in range(text.vocabulary.size)]
    words = range(NUM_SPECIAL, NUM_SPECIAL + PIECES)
    total = sum(counts[word] + 2 for word in words)
    expected = [(counts[word] + 2) / total for word in words]
    np.testing.assert_allclose(frequencies(text, 2.0)[NUM_SPECIAL:], expected, rtol=1e-12)
    assert frequencies(text, 2.0)[:NUM_SPECIAL].max() < 1e-300


def test_the_loss_is_that_of_the_rows_that_the_run_is_judged_on(
    corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sizes = "--data.length 12 --training.steps 1 --training.batch-size 2 --training.eval-every 1"
    model = "--model.layers 1 --model.heads 1 --training.eval-examples 400 --optim.learning-rate"
    words = ["--data.corpus", str(corpus), "--run-dir", str(run), *sizes.split(), *model.split()]
    train.main([*words, "1e-9"])
    unigram.main([str(run)])
    found = json.loads((run / "probes" / "unigram.json").read_text())
    text, counts = TextConfig(corpus, length=12).load(), expected_counts(corpus)
    p_V = frequencies(text, 1.0)
    held_out = text.corpus.split("validation").shards[0].tokens
    words_N = held_out[held_out >= NUM_SPECIAL]
    # 400 rows of some two words each: drawn from all, to within five standard errors.
    surprise_N = -np.log(p_V[words_N])
    error = surprise_N.std() / math.sqrt(found["num_labels"])
    assert abs(found["loss"] - surprise_N.mean()) < 5 * error
    most = max(counts, key=lambda token: counts[token] if token >= NUM_SPECIAL else 0)
    share = np.mean(words_N == most)
    assert abs(found["accuracy"] - share) < 5 * math.sqrt(share / found["num_labels"])
    assert found["num_labels"] > 400
