"""The probe of text from command to tables, on one tiny run, against a loop in float64."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from common.base.errors import UserError
from common.formats.torch_names import to_torch
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.sequence.ngram import window
from common.sequence.windows import BY_TOKEN, TABLE, describe
from mlm import probe, train
from mlm.config import config_of
from mlm.data import TextConfig
from mlm.text import Text
from mlm.token_kinds import kinds_of
from tests.corpora import NUM_SPECIAL, random_documents, write_corpus
from tests.numpy_bert import NumpyBERT

LENGTH, SIZES = 14, (2, 3, 5)
FEW = ("--num-sentences", "48", "--spacing", "5", "--sizes", *map(str, SIZES), "--every", "0")
CONFIG = probe.TextProbeConfig(SIZES, spacing=5, num_sentences=48)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation documents of two sources, most of them longer than a row; a few unknown words."""
    held_out = random_documents(2, 25, 40)
    for document in held_out[::4]:
        document[len(document) // 2] = 1
    return write_corpus(
        tmp_path_factory.mktemp("corpora") / "small",
        {
            "train": [(1.0, random_documents(0, 80, 40)), (3.0, random_documents(1, 40, 60))],
            "validation": [(1.0, random_documents(3, 12, 30)), (3.0, held_out)],
        },
    )


@pytest.fixture(scope="module")
def text(corpus: Path) -> Text:
    return TextConfig(corpus, LENGTH).load()


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lanes, checkpoints at 0, 4 and 8; large initial weights, so that all matters."""
    run = tmp_path_factory.mktemp("mlm") / "teacher"
    words = (
        f"--run-dir {run} --data.corpus {corpus} --data.length {LENGTH} --model.heads 2"
        " --model.head-size 4 --model.layers 2 --model.init-std 0.5 --optim.learning-rate 1e-2"
        " --training.steps 8 --training.batch-size 8 --training.eval-every 4"
        " --training.eval-examples 16 --training.num-seeds 2 --training.checkpoint-every 4"
    )
    train.main(words.split())
    return run


@pytest.fixture(scope="module")
def probed(teacher: Path) -> Path:
    probe.main([str(teacher), *FEW])
    return teacher / "probes"


def test_pairs_stand_in_their_documents(text: Text) -> None:
    """Each token of a window is that of the document, and none of them is no word."""
    documents = [
        shard.tokens[first:stop].tolist()
        for shard in text.validation.shards
        for first, stop in zip(shard.offsets[:-1], shard.offsets[1:], strict=True)
    ]
    pairs = probe.held_out(text, CONFIG)
    assert len(pairs.sentence_P) > 20 and len(set(pairs.sentence_P)) > 10
    assert len({tuple(row) for row in np.asarray(pairs.tokens_PxT).tolist()}) > 10
    first, last = window(max(SIZES))
    for tokens, position, document in zip(
        np.asarray(pairs.tokens_PxT).tolist(),
        np.asarray(pairs.position_P).tolist(),
        pairs.sentence_P.tolist(),
        strict=True,
    ):
        assert position % 5 == 0
        around = tokens[position + first : position + last + 1]
        assert min(around) >= NUM_SPECIAL
        words = tokens[1 : tokens.index(3)]  # up to [SEP]
        starts = range(len(documents[document]) - len(words) + 1)
        assert words in [documents[document][i : i + len(words)] for i in starts]


def test_documents_of_rows_across_documents(corpus: Path) -> None:
    """Where a row is of several documents, each of its tokens has its own."""
    text = TextConfig(corpus, LENGTH, across_documents=True).load()
    table = text.validation
    numbers = np.repeat(np.arange(table.num_rows), table.length_R)
    places = np.concatenate([np.arange(1, length + 1) for length in table.length_R.tolist()])
    found = table.document_of(numbers, places)
    lengths = [np.diff(shard.offsets) for shard in table.shards]
    np.testing.assert_array_equal(np.bincount(found), np.concatenate(lengths))
    assert (np.diff(found) >= 0).all()


def by_hand(run: Path, lane: int, step: int) -> np.ndarray:
    """All distances of one checkpoint, `(4, Z, P)`: rows masked one by one, in float64."""
    directory = RunDirectory(run)
    trained = config_of(directory)
    params = jax.tree.map(lambda leaf: leaf[lane], Trajectory(directory).restore(step))
    model = NumpyBERT(to_torch(params), trained.model.heads)
    text = trained.data.load()
    pairs, ids = probe.held_out(text, CONFIG), text.pieces.ids

    def answer(tokens_T: np.ndarray, position: int, hidden: set[int]) -> np.ndarray:
        seen_T = tokens_T.copy()
        seen_T[[place for place in hidden if text.is_word_V[tokens_T[place]]]] = ids.mask
        return model.distribution(seen_T, tokens_T != ids.pad, position)

    found = np.zeros((4, len(SIZES), len(pairs.sentence_P)))
    rows = zip(np.asarray(pairs.tokens_PxT), np.asarray(pairs.position_P).tolist(), strict=True)
    for i, (tokens_T, position) in enumerate(rows):
        for j, own in enumerate(({position}, set())):
            alone = answer(tokens_T, position, own)
            for k, n in enumerate(SIZES):
                first, last = window(n)
                inside = set(range(position + first, position + last + 1))
                around, outside = inside - {position}, set(range(LENGTH)) - inside
                for kind, hidden in enumerate((around, outside)):
                    moved = answer(tokens_T, position, hidden | own)
                    found[2 * j + kind, k, i] = np.abs(moved - alone).sum() / 2
    return found


def test_tables_against_a_loop_in_float64(teacher: Path, probed: Path, text: Text) -> None:
    """The second lane's last checkpoint: of all pairs, and of every kind of token."""
    expected_4xZxP = by_hand(teacher, lane=1, step=8)
    assert expected_4xZxP.mean() > 0.01
    pairs = probe.held_out(text, CONFIG)
    of_kinds = kinds_of(np.asarray(pairs.tokens_PxT), np.asarray(pairs.position_P), text.pieces)
    everything = np.ones(len(pairs.sentence_P), bool)
    seeds = RunDirectory(teacher).manifest["seeds"]
    tables = {
        "all": pd.read_csv(probed / TABLE).assign(tokens="all", num_pairs=everything.sum()),
        **dict(iter(pd.read_csv(probed / BY_TOKEN).groupby("tokens"))),
    }
    # These pieces are p0, p1, ##p2: all words are content words, and numbers there are none.
    assert tables.keys() == {"all", "content", "first", "continuation"}
    for name, table in tables.items():
        chosen_P = everything if name == "all" else of_kinds[name]
        assert len(table) == 2 * 2 * 4 * len(SIZES)  # checkpoints, lanes, kinds, sizes
        assert set(table.num_pairs) == {chosen_P.sum()}
        of_lane = table[(table.step == 8) & (table.seed == seeds[1])].set_index(["kind", "n"])
        for kind, values_ZxP in zip(probe.KINDS, expected_4xZxP, strict=True):
            for n, values_P in zip(SIZES, values_ZxP, strict=True):
                wanted = describe(values_P[chosen_P], pairs.sentence_P[chosen_P], CONFIG.seed)
                row = of_lane.loc[(kind, n)]
                for column, value in wanted.items():
                    assert row[column] == pytest.approx(value, abs=3e-6, rel=3e-5), (kind, column)


def test_the_record(probed: Path, text: Text) -> None:
    pairs = probe.held_out(text, CONFIG)
    record = json.loads((probed / "ngram.json").read_text())
    assert record["num_pairs"] == len(pairs.sentence_P)
    assert record["num_documents"] == len(set(pairs.sentence_P.tolist()))
    assert record["settings"]["spacing"] == 5


def test_rows_are_drawn_by_the_seed(text: Text) -> None:
    a, b = (probe.held_out(text, CONFIG) for _ in range(2))
    other = probe.held_out(text, probe.TextProbeConfig(SIZES, 5, 48, seed=1))
    assert jnp.array_equal(a.tokens_PxT, b.tokens_PxT)
    assert not jnp.array_equal(a.tokens_PxT, other.tokens_PxT)


def test_refusals(teacher: Path, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    with pytest.raises(UserError, match="a window of 15 tokens is wider than the longest"):
        probe.main([str(run), "--num-sentences", "24"])
    path = run / "config.json"
    path.write_text(path.read_text().replace(TextConfig(corpus).load().corpus.hash, "0" * 64))
    with pytest.raises(UserError, match="another corpus"):
        probe.main([str(run), *FEW])
    assert not (run / "probes").exists()
