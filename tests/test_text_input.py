"""Bad input to the commands of text: refused with what is wrong, where, and what to do, before
anything is written; and what a run records of its corpus."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.base.errors import RunError, UserError
from common.runs.directory import RunDirectory, finished_run
from common.runs.files import file_hash
from mlm import distill, train
from mlm.config import config_of
from mlm.corpus import open_corpus
from mlm.vocabulary import TOKENIZER
from tests.corpora import random_documents, write_corpus
from tests.test_bad_input import refused_in

LENGTH = 12
TINY = (
    *("--data.length", str(LENGTH), "--model.layers", "1", "--model.heads", "1"),
    *("--model.head-size", "4", "--training.steps", "4", "--training.batch-size", "2"),
    *("--training.num-seeds", "1", "--training.eval-every", "2", "--training.eval-examples", "8"),
    *("--training.seed", "0", "--training.checkpoint-every", "2"),
)


def corpus_at(path: Path, seed: int = 0, pieces: int = 40) -> Path:
    """A small corpus of random pieces, of one tokeniser for each number of them."""
    documents = random_documents(seed, 40, 30, pieces)
    held_out = random_documents(seed + 100, 10, 30, pieces)
    return write_corpus(
        path, {"train": [(1.0, documents)], "validation": [(1.0, held_out)]}, pieces
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished teacher, and three corpora: its own, another of the same tokeniser, and one
    of another."""
    home = tmp_path_factory.mktemp("home")
    corpus_at(home / "corpus")
    corpus_at(home / "same-pieces", seed=1)
    corpus_at(home / "other-pieces", pieces=50)
    write_corpus(
        home / "short", {"train": [(1.0, [[7, 8, 9]])], "validation": [(1.0, [[7, 8, 9]])]}
    )
    (home / "empty").mkdir()
    train.main(["--data.corpus", str(home / "corpus"), "--run-dir", str(home / "teacher"), *TINY])
    return home


TRAIN = ("mlm.train",)
DISTILL = ("mlm.distill", "--teacher", "{home}/teacher", "--schedule", "one-shot")
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # of a run
    "no corpus": (
        (*TRAIN, "--data.corpus", "{home}/nowhere"),
        ("{home}/nowhere is no folder of a prepared corpus", "python -m mlm.prepare"),
    ),
    "a folder of something else": (
        (*TRAIN, "--data.corpus", "{home}/empty"),
        ("{home}/empty is no prepared corpus", "python -m mlm.prepare"),
    ),
    "a corpus shorter than a row": (
        (*TRAIN, "--data.corpus", "{home}/short"),
        ("3 tokens of text where one row takes 10", "a smaller --data.length"),
    ),
    "rows longer than the positions": (
        (*TRAIN, "--model.positions", "8"),
        ("--model.positions 8: rows have 12 tokens", "give at least as many, or None"),
    ),
    "rows without a word": ((*TRAIN, "--data.length", "2"), ("data.length",)),
    "a window with positions": (
        (*TRAIN, "--model.positions", "20", "--model.window", "3"),
        ("model.window = 3", "leave out model.positions"),
    ),
    "an early end": (
        (*TRAIN, "--training.stop-after", "2"),
        ("--training.stop-after need the level of the plateau", "leave them out"),
    ),
    # of students
    "a teacher of another tokeniser": (
        (*DISTILL, "--data.corpus", "{home}/other-pieces"),
        (
            "{home}/teacher was trained with another tokeniser ({tokenizer}) than that of",
            "{home}/other-pieces ({other_tokenizer})",
            "--data.corpus the corpus of the teacher ({home}/corpus)",
        ),
    ),
    "a teacher of another corpus": (
        (*DISTILL, "--data.corpus", "{home}/same-pieces"),
        (
            "{home}/teacher was trained on another corpus ({corpus}) than {home}/same-pieces is"
            " ({other_corpus})",
            "give --data.corpus the corpus of the teacher ({home}/corpus)",
        ),
    ),
    "soft labels at temperature 0": (
        (*DISTILL, "--loss.temperature", "0"),
        ("loss.temperature = 0 has no soft labels", "a temperature > 0, or --loss.labels hard"),
    ),
    "a teacher of shorter rows": (
        (*DISTILL, "--data.length", "14"),
        ("{home}/teacher has learnt rows of --data.length 12", "rows of 14", "the same --data.l"),
    ),
    "a teacher of other masks": (
        (*DISTILL, "--masking.fraction", "0.2"),
        ("{home}/teacher learnt with --masking.fraction 0.3", "with 0.2", "give both the same"),
    ),
    "a teacher of no text": (
        (*DISTILL[:1], "--teacher", "{home}/empty", "--schedule", "one-shot"),
        ("{home}/empty", "not a run directory"),
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_bad_input(what: str, home: Path, refused: Callable[..., str]) -> None:
    (module, *args), words = CASES[what]
    args = ("--data.corpus", "{home}/corpus", *TINY, *args, "--run-dir", "{home}/new")
    hashes = {
        "tokenizer": file_hash(home / "corpus" / TOKENIZER),
        "other_tokenizer": file_hash(home / "other-pieces" / TOKENIZER),
        "corpus": open_corpus(home / "corpus").hash,
        "other_corpus": open_corpus(home / "same-pieces").hash,
    }
    begun = {name: sha256[:12] for name, sha256 in hashes.items()}
    named = [word.format(home="{home}", **begun) for word in words]
    refused_in(home, refused, module, args, named)


def test_a_run_says_what_it_has_read(home: Path) -> None:
    run, corpus = finished_run(home / "teacher"), open_corpus(home / "corpus")
    assert run.record["corpus"] == run.manifest["text"]["corpus"] == corpus.hash
    assert run.record["tokenizer"] == file_hash(home / "corpus" / TOKENIZER)
    assert [source["name"] for source in run.manifest["text"]["sources"]] == ["source 0"]
    assert run.manifest["speed"]["tokens_per_second"] > 0
    assert config_of(run).data.corpus == home / "corpus"


def test_a_corpus_that_changed_since_a_run_began(home: Path, tmp_path: Path) -> None:
    """Neither is such a run gone on with, nor probed."""
    corpus_at(tmp_path / "corpus")
    args = ["--data.corpus", str(tmp_path / "corpus"), "--run-dir", str(tmp_path / "run"), *TINY]
    train.main(args)
    shutil.rmtree(tmp_path / "corpus")
    corpus_at(tmp_path / "corpus", seed=2)
    with pytest.raises(UserError, match=r"corpus: \w+ there, \w+ asked for"):
        train.main(args)
    with pytest.raises(UserError, match=r"trained on another corpus than .* is now"):
        config_of(RunDirectory(tmp_path / "run"))


def test_a_corpus_whose_tokens_were_changed(home: Path, tmp_path: Path) -> None:
    """Its manifest knows nothing of that."""
    corpus = shutil.copytree(home / "corpus", tmp_path / "corpus")
    path = corpus / "train-00000.tokens.npy"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"tokens\.npy is damaged .* prepare it again"):
        train.main(["--data.corpus", str(corpus), "--run-dir", str(tmp_path / "run"), *TINY])
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_the_same_text_teaches_softly(home: Path, tmp_path: Path) -> None:
    """By its probabilities, as is said nowhere on the command line; by the largest of them alone if
    told so."""
    own = ("--data.corpus", str(home / "corpus"), "--teacher", str(home / "teacher"))
    for name, more in (("all", ()), ("two", ("--loss.top-k", "2"))):
        run = tmp_path / name
        distill.main([*own, *TINY, "--schedule", "one-shot", "--run-dir", str(run), *more])
        loss = json.loads((run / "config.json").read_text())["config"]["loss"]
        assert (loss["labels"], loss["temperature"]) == ("soft", 1.0)
        assert RunDirectory(run).finished
    all_of_them, two = (RunDirectory(tmp_path / name).metrics()[-1] for name in ("all", "two"))
    assert all_of_them["eval_loss"] != two["eval_loss"]
