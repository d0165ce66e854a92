"""Checkpoints of others as a run: evaluated as their own training evaluated them, probed, and
teaching."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from common.formats.folder import WEIGHTS
from common.judge.transition import NoTransition, Transition
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from mlm import distill, probe, train
from mlm.corpus import open_corpus
from mlm.load import equal_steps, main, resolution, step_of, told_by
from mlm.prepare.__main__ import main as prepare
from mlm.vocabulary import TOKENIZER
from tests.made_up_text import documents, write_jsonl
from tests.test_text_input import LENGTH, TINY


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a corpus, a run on it, and the run's checkpoints as folders of `transformers`."""
    home = tmp_path_factory.mktemp("home")
    texts = write_jsonl(home / "texts.jsonl", documents(200))
    small = ("--vocabulary-size", "200", "--workers", "1")
    prepare([str(texts), *small, "--out", str(home / "corpus")])
    train.main(["--data.corpus", str(home / "corpus"), "--run-dir", str(home / "run"), *TINY])
    for step in ("0", "2", "4"):
        out = ("--format", "hf", "--out", str(home / f"checkpoint-{step}"))
        export.main([str(home / "run"), "--step", step, *out])
    return home


def words(home: Path, run: Path, *folders: str, length: int = LENGTH) -> list[str]:
    """What is typed to load folders as a run."""
    data = ("--data.corpus", str(home / "corpus"), "--data.length", str(length))
    paths = [str(home / folder) for folder in folders]
    return [*paths, "--run-dir", str(run), *data, "--eval-examples", "8"]


CHECKPOINTS = ("checkpoint-4", "checkpoint-0", "checkpoint-2")


def test_a_loaded_run_is_the_run_that_was_exported(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights to the bit, and what it was evaluated to; a second time there is nothing to
    do."""
    main(words(home, tmp_path / "run", *CHECKPOINTS))
    loaded, original = RunDirectory(tmp_path / "run"), RunDirectory(home / "run")
    assert Trajectory(loaded).steps() == (0, 2, 4)
    for step in (0, 2, 4):
        ours, theirs = Trajectory(loaded).restore(step), Trajectory(original).restore(step)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for ours, theirs in zip(loaded.metrics(), original.metrics(), strict=True):
        assert ours["step"] == theirs["step"]
        np.testing.assert_allclose(ours["eval_loss"], theirs["eval_loss"], rtol=1e-6)
        np.testing.assert_allclose(ours["accuracy"], theirs["accuracy"], rtol=1e-6)
    assert "3 checkpoints (0, 2, 4), loss" in capsys.readouterr().err
    main(words(home, tmp_path / "run", *CHECKPOINTS))
    assert "already finished, nothing to do" in capsys.readouterr().err


def test_what_was_killed_goes_on(home: Path, tmp_path: Path) -> None:
    """A run that has saved a checkpoint whose line of metrics is not there yet."""
    main(words(home, tmp_path / "run", *CHECKPOINTS))
    run = RunDirectory(tmp_path / "run")
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text(lines[0])
    (run.path / "DONE").unlink()
    run.write_manifest(status="started")
    main(words(home, tmp_path / "run", *CHECKPOINTS))
    assert (run.path / "metrics.jsonl").read_text().splitlines(keepends=True) == lines
    assert RunDirectory(tmp_path / "run").finished


def test_it_is_probed_and_teaches(home: Path, tmp_path: Path) -> None:
    main(words(home, tmp_path / "run", *CHECKPOINTS))
    probe.main([str(tmp_path / "run"), "--sizes", "3", "--spacing", "3", "--num-sentences", "64"])
    assert (tmp_path / "run" / "probes" / "ngram.csv").exists()
    student = ("--schedule", "progressive", "--supervision.begin", "untrained")
    pace = ("--supervision.interval", "2", "--supervision.speed", "1")
    data = ("--data.corpus", str(home / "corpus"), "--run-dir", str(tmp_path / "student"))
    distill.main(["--teacher", str(tmp_path / "run"), *data, *TINY, *student, *pace])
    assert RunDirectory(tmp_path / "student").finished


def test_a_model_of_transformers_is_loaded(home: Path, tmp_path: Path) -> None:
    """With types, an untied head and more positions than a row has tokens; where its folder has no
    step in its name, it is step 0."""
    size = open_corpus(home / "corpus").vocabulary.size
    config = transformers.BertConfig(
        vocab_size=size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config)
    model.save_pretrained(tmp_path / "theirs")
    shutil.copy(home / "corpus" / TOKENIZER, tmp_path / "theirs")
    main(words(home, tmp_path / "run", str(tmp_path / "theirs")))
    run = RunDirectory(tmp_path / "run")
    assert Trajectory(run).steps() == (0,)
    own = run.record["config"]["model"]
    assert (own["positions"], own["token_types"], own["tied"]) == (20, 2, False)


def spoilt(home: Path, folder: Path, fault: str) -> Path:
    """A copy of a checkpoint with a fault."""
    shutil.copytree(home / "checkpoint-2", folder)
    if fault == "permuted pieces":
        values = json.loads((folder / TOKENIZER).read_text())
        vocab = values["model"]["vocab"]
        one, other = list(vocab)[-2:]
        vocab[one], vocab[other] = vocab[other], vocab[one]
        (folder / TOKENIZER).write_text(json.dumps(values))
    if fault == "more tokens":
        (folder / TOKENIZER).unlink()
        tensors = load_file(folder / WEIGHTS)
        for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"):
            tensors[name] = np.concatenate([tensors[name], tensors[name][:1]])
        for name in ("cls.predictions.bias", "cls.predictions.decoder.bias"):
            tensors[name] = np.append(tensors[name], np.float32(0))
        save_file(tensors, folder / WEIGHTS)
        config = json.loads((folder / "config.json").read_text())
        size = config["vocab_size"] + 1
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
    if fault == "no head":
        tensors = load_file(folder / WEIGHTS)
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
        save_file(kept, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("permuted pieces", "the same ids are other pieces; prepare the corpus with --tokenizer"),
        ("more tokens", "prepare the corpus with the model's own tokeniser"),
        ("no head", "a BERT without a head for masked prediction (encoder)"),
    ],
)
def test_what_does_not_fit_the_corpus_is_refused(
    fault: str, message: str, home: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = spoilt(home, tmp_path / "step2", fault)
    assert message in refused(main, *words(home, tmp_path / "run", str(folder)))
    assert not (tmp_path / "run").exists()


def test_bad_words(home: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    run = tmp_path / "run"
    said = refused(main, *words(home, run, "checkpoint-2", length=40))
    assert "rows have 40 tokens" in said
    shutil.copytree(home / "checkpoint-2", tmp_path / "other")
    both = words(home, run, "checkpoint-2", str(tmp_path / "other"))
    assert "this name tells no step" in refused(main, *both)
    assert "--steps: 1 steps of 2 folders" in refused(main, *both, "--steps", "3")
    assert "are both of step 3" in refused(main, *both, "--steps", "3", "3")
    assert not run.exists()


def test_equal_weights_are_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "checkpoint-0", tmp_path / "step1")
    main(words(home, tmp_path / "run", "checkpoint-0", str(tmp_path / "step1"), "checkpoint-2"))
    assert equal_steps(RunDirectory(tmp_path / "run")) == [[0, 1]]
    assert "steps 0 and 1 have equal weights" in capsys.readouterr().err


def test_words_tell_steps() -> None:
    """Not the folder of a download, whose name is a hash."""
    assert told_by("hub:lab/model,revision=step1000") == "step1000"
    assert told_by("hub:google/multiberts-seed_0-step_20k") == "multiberts-seed_0-step_20k"
    assert told_by("models/step20") == "step20"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step20", 20),
        ("checkpoint-1200", 1200),
        ("multiberts-seed_0-step_20k", 20_000),
        ("17", 17),
        ("model-step3-tokens4B", 3),
    ],
)
def test_names_tell_steps(name: str, step: int) -> None:
    assert step_of(name) == step


def test_a_drop_between_two_checkpoints_is_not_resolved() -> None:
    losses = {0: 7.0, 10: 6.0, 20: 5.9, 1000: 3.0, 2000: 2.9}
    found = Transition(start=20, middle=1000, end=1000, chosen=1000, before=10, after=2000)
    assert "not resolved: its loss drops between steps 20 and 1000" in resolution(found, losses)
    inside = resolution(found, losses | {500: 4.0})
    assert inside == "its loss drops from step 20 to 1000, C1 is 1000"
    said = resolution(NoTransition("too few"), losses)
    assert "(too few); 71% of what its loss falls lies between steps 20 and 1000" in said
