"""Prediction of the next token of text: rows, models of others as runs, probes, students."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from common.nn.blocks import TokenInputs
from common.nn.functional import Batch
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from mlm import train as masked_train
from mlm.corpus import open_corpus
from mlm.load import main as load
from mlm.next_token import distill, probe, train
from mlm.next_token.config import config_of
from mlm.next_token.data import NextTextConfig
from mlm.next_token.model import NextTextModel
from mlm.next_token.probe import PrefixProbeConfig, held_out
from mlm.next_token.task import NextText, task_of
from mlm.prepare.__main__ import main as prepare
from mlm.suite import main as suite
from mlm.vocabulary import TOKENIZER
from tests.byte_level import SIZE, byte_level
from tests.corpora import NUM_SPECIAL, random_documents, write_corpus
from tests.made_up_text import documents, write_jsonl
from tests.test_foreign import gpt2, neox
from tests.test_text_input import LENGTH, TINY

PADDED = SIZE + 8
"""Tokens that the models of others know; Pythia's are padded like this."""
TEXTS = documents(200)


MAKERS: dict[str, Callable[..., transformers.PreTrainedModel]] = {"gpt2": gpt2, "neox": neox}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a corpus of bytes, and suites of both kinds: three checkpoints each, named as Pythia's
    are, with their tokeniser."""
    home = tmp_path_factory.mktemp("home")
    texts = write_jsonl(home / "texts.jsonl", TEXTS)
    byte_level(TEXTS).save(str(home / TOKENIZER))
    given = ("--tokenizer", str(home), "--workers", "1")
    prepare([str(texts), *given, "--out", str(home / "corpus")])
    for kind, make in MAKERS.items():
        for seed, step in enumerate((0, 2, 4)):
            torch.manual_seed(seed)
            make(vocab_size=PADDED).save_pretrained(home / kind / f"step{step}")
            shutil.copy(home / TOKENIZER, home / kind / f"step{step}")
    return home


def data_at(home: Path) -> tuple[str, ...]:
    return ("--data.corpus", str(home / "corpus"), "--data.length", str(LENGTH))


@pytest.fixture(scope="module", params=MAKERS)
def loaded(request: pytest.FixtureRequest, home: Path) -> Path:
    """A suite as a run."""
    run = home / f"run-{request.param}"
    words = ("--like", "pythia", "--run-dir", str(run), "--eval-examples", "16")
    suite([str(home / request.param), *words, *data_at(home)])
    return run


def evaluation(task: NextText, num_rows: int) -> Batch:
    """The first rows that runs are evaluated on."""
    made = jax.jit(lambda data: task.evaluation(data, num_rows))(task.data())
    return jax.tree.map(np.array, made)


def test_a_suite_is_evaluated_as_transformers_does(home: Path, loaded: Path) -> None:
    """On rows that begin with <|endoftext|>, over their text alone."""
    run, kind = RunDirectory(loaded), loaded.name.removeprefix("run-")
    assert run.record["experiment"] == "mlm.next_token"
    assert Trajectory(run).steps() == (0, 2, 4)
    batch = evaluation(task_of(config_of(run).data), 16)
    tokens = torch.from_numpy(batch.inputs.tokens_BxT)
    assert (tokens[:, 0] == 0).all()
    # The end of a text fills up rows, too, and is never asked for.
    asked = torch.from_numpy(batch.labels != 0)
    assert torch.equal(asked, torch.from_numpy(batch.mask > 0)) and not asked.all()
    for record in run.metrics():
        folder = home / kind / f"step{record['step']}"
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            logits = theirs(tokens).logits[asked]
        labels = torch.from_numpy(batch.labels)[asked].long()
        loss = float(cross_entropy(logits, labels))
        assert record["eval_loss"][0] == pytest.approx(loss, rel=1e-5)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        assert record["accuracy"][0] == pytest.approx(accuracy, abs=1e-6)


def test_its_checkpoints_are_exported_as_they_were(
    home: Path, loaded: Path, tmp_path: Path
) -> None:
    """Read back by `transformers`: the same logits, and the tokeniser."""
    kind = loaded.name.removeprefix("run-")
    out = ("--format", "hf", "--out", str(tmp_path / "out"))
    export.main([str(loaded), "--step", "2", *out])
    before, after = (
        transformers.AutoModelForCausalLM.from_pretrained(path)
        for path in (home / kind / "step2", tmp_path / "out")
    )
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(before(tokens).logits, after(tokens).logits)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert "rows that begin with <|endoftext|>.\n" in (tmp_path / "out" / "README.md").read_text()
    ours = Tokenizer.from_file(str(home / TOKENIZER))
    assert tokenizer.encode(TEXTS[0]) == ours.encode(TEXTS[0]).ids


def test_it_is_probed_and_teaches(home: Path, loaded: Path, tmp_path: Path) -> None:
    """A student of the same token ids."""
    probe.main([str(loaded), "--sizes", "1", "3", "--spacing", "4", "--num-sentences", "64"])
    table = (loaded / "probes" / "ngram.csv").read_text().splitlines()
    assert len(table) == 1 + 3 * 2 * 2  # checkpoints, sizes, distances
    student = ("--schedule", "progressive", "--supervision.begin", "untrained")
    pace = ("--supervision.interval", "2", "--supervision.speed", "1")
    ids = ("--model.vocabulary", str(PADDED), "--run-dir", str(tmp_path / "student"))
    distill.main(["--teacher", str(loaded), *data_at(home), *ids, *TINY, *student, *pace])
    assert RunDirectory(tmp_path / "student").finished


def test_rows_are_pieces_of_documents(tmp_path: Path) -> None:
    """Against the documents themselves: behind [CLS], padded on the right; every token of a piece
    is predicted from those before it, but [UNK]."""
    unknown = 1
    texts = [[unknown, *text] for text in random_documents(0, 30, 25)]
    shards = [(1.0, texts)]
    path = write_corpus(tmp_path / "corpus", {"train": shards, "validation": shards})
    task = task_of(NextTextConfig(path, LENGTH))
    assert (task.text.frame.begin, task.text.frame.pad) == (2, 0)
    batch = evaluation(task, 64)
    joined = ["".join(map(chr, text)) for text in texts]
    num_padded = 0
    rows = zip(batch.inputs.tokens_BxT, batch.labels, batch.mask, strict=True)
    for tokens, labels, mask in rows:
        assert tokens[0] == 2
        np.testing.assert_array_equal(tokens[1:], labels[:-1])
        piece = labels[labels != 0]
        num_padded += len(piece) < len(labels)
        assert any("".join(map(chr, piece)) in text for text in joined)
        np.testing.assert_array_equal(mask, labels >= NUM_SPECIAL)
    assert num_padded > 0


def test_prefixes_know_their_documents(home: Path) -> None:
    """They end at multiples of the spacing with a token of the text behind them, and have the
    number of the document that holds them."""
    text = NextTextConfig(home / "corpus", LENGTH).load()
    prefixes = held_out(text, PrefixProbeConfig(sizes=(1, 3), spacing=4, num_sentences=40))
    assert set(np.asarray(prefixes.position_P).tolist()) == {4, 8}
    (shard,) = open_corpus(home / "corpus").split("validation").shards
    for tokens_T, position, document in zip(
        np.asarray(prefixes.tokens_PxT).tolist(),
        np.asarray(prefixes.position_P).tolist(),
        prefixes.sentence_P.tolist(),
        strict=True,
    ):
        first, stop = shard.offsets[document : document + 2]
        whole = "".join(map(chr, shard.tokens[first:stop].tolist()))
        assert tokens_T[position + 1] != 0
        assert "".join(map(chr, tokens_T[1 : position + 2])) in whole


@pytest.mark.parametrize("architecture", ["gpt2", "gpt-neox"])
def test_what_comes_later_changes_nothing(
    architecture: Literal["gpt2", "gpt-neox"], home: Path
) -> None:
    """Padding, say."""
    task = task_of(NextTextConfig(home / "corpus", LENGTH))
    model = NextTextModel(heads=2, head_size=8, architecture=architecture, init_std=0.3)
    functional = task.model(model)
    params = functional.init(jax.random.key(0))
    tokens_BxT = np.random.default_rng(0).integers(1, SIZE, (3, LENGTH - 1))
    padded_BxT = tokens_BxT.copy()
    padded_BxT[:, 6:] = 0
    apply = jax.jit(lambda tokens: functional.apply(params, TokenInputs(tokens)))
    np.testing.assert_allclose(apply(tokens_BxT)[:, :6], apply(padded_BxT)[:, :6], atol=1e-6)


def test_a_model_is_trained(home: Path, tmp_path: Path) -> None:
    """GPT-NeoX from random weights; and a student of the projections of its layers."""
    to = ("--run-dir", str(tmp_path / "neox"), "--model.architecture", "gpt-neox")
    train.main([*data_at(home), *to, *TINY, "--model.head-size", "8"])
    losses = [record["eval_loss"][0] for record in RunDirectory(tmp_path / "neox").metrics()]
    assert losses[-1] < losses[0]
    student = ("--teacher", str(tmp_path / "neox"), "--schedule", "projections")
    steps = ("--supervision.projection-steps", "1", "--model.head-size", "8")
    words = [*data_at(home), *TINY, *student, *steps, "--run-dir", str(tmp_path / "student")]
    distill.main([*words, "--model.architecture", "gpt-neox"])
    assert RunDirectory(tmp_path / "student").finished


def test_no_tokeniser_to_compare_is_told(
    home: Path, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And a corpus of far fewer tokens than the model knows is refused; GPT-2's older files are a
    tokeniser, too."""
    shutil.copytree(home / "gpt2" / "step2", tmp_path / "step2")
    (tmp_path / "step2" / TOKENIZER).unlink()
    words = (str(tmp_path / "step2"), "--eval-examples", "8", *data_at(home))
    load([*words, "--run-dir", str(tmp_path / "run")])
    assert "has no tokeniser: whether its ids are" in capsys.readouterr().err
    byte_level(TEXTS[:5]).model.save(str(tmp_path / "step2"))
    said = refused(load, *words, "--run-dir", tmp_path / "other")
    assert "is another than that of" in said
    gpt2(vocab_size=SIZE + 1000).save_pretrained(tmp_path / "step4")
    said = refused(load, tmp_path / "step4", *words[1:], "--run-dir", tmp_path / "other")
    assert "prepare the corpus with the model's own tokeniser" in said


def test_bad_input(home: Path, loaded: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    to = ("--run-dir", str(tmp_path / "run"))
    said = refused(masked_train.main, *data_at(home), *to, *TINY)
    assert "a tokeniser of bytes, which has no [MASK]" in said
    student = ("--teacher", str(loaded), "--schedule", "one-shot")
    said = refused(distill.main, *data_at(home), *to, *TINY, *student)
    assert f"predicts {PADDED} token ids, the student {SIZE}" in said
    assert f"give --model.vocabulary {PADDED}" in said
    said = refused(train.main, *data_at(home), *to, *TINY, "--model.vocabulary", "9")
    assert f"--model.vocabulary 9: the corpus has {SIZE} token ids" in said
    said = refused(train.main, *data_at(home), *to, *TINY, "--model.positions", "4")
    assert "--model.positions 4: of rows of 12 tokens (--data.length) a model reads 11" in said
    said = refused(train.main, *data_at(home), *to, *TINY, "--model.rotary", "0.5")
    assert "GPT-2 has no rotary positions" in said
    long = ("--data.corpus", home / "corpus", "--data.length", "20")
    said = refused(load, home / "gpt2" / "step0", *long, *to)
    assert "rows have 20 tokens (--data.length), and the model has 12 positions" in said
    said = refused(distill.main, *TINY, *long, *to, *student)
    assert "has 12 positions, the student reads 19 tokens of a row" in said
    others = {"run-gpt2": "gpt-neox", "run-neox": "gpt2"}
    layers = ("--schedule", "projections", "--supervision.projection-steps", "1")
    kind = ("--model.architecture", others[loaded.name], "--model.head-size", "8")
    taught = ("--teacher", loaded, "--model.vocabulary", PADDED, "--model.layers", "2")
    said = refused(distill.main, *data_at(home), *to, *TINY, *taught, *kind, *layers)
    assert "pairs the hidden layers of student and teacher" in said
    masks = ("--masking.fraction", "0.2")
    said = refused(load, home / "gpt2" / "step0", *data_at(home), *to, *masks)
    assert "a gpt2 predicts the next token and masks none" in said
    said = refused(probe.main, str(tmp_path / "nowhere"))
    assert "nowhere" in said
    assert not (tmp_path / "run").exists()
