"""Classifiers of sentences: trained on labels, from trained encoders, and one by another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from common.nn.bert import BERTConfig, functional_classifier
from common.nn.blocks import TokenInputs
from common.nn.truncated import truncated
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from mlm import train as masked_train
from mlm.prepare.__main__ import main as prepare
from mlm.relay import __main__ as relay
from mlm.relay import distill, probe, train
from mlm.relay.config import TrainConfig, config_of
from mlm.relay.data import eval_batch
from mlm.relay.presets import PRESETS
from mlm.relay.probe import accuracies, answers_of
from mlm.relay.task import task_of
from mlm.vocabulary import TOKENIZER
from tests.made_up_text import documents, write_jsonl

TEXTS = documents(120, words=12)
SHAPE = ("--model.layers", "1", "--model.heads", "2", "--model.head-size", "8")
BUDGET = (
    *("--training.steps", "12", "--training.batch-size", "8", "--training.eval-every", "4"),
    *("--training.eval-examples", "40", "--training.checkpoint-every", "4"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a corpus, an encoder trained on it, sentences that are told apart by a word, and a large
    classifier of those."""
    home = tmp_path_factory.mktemp("home")
    texts = write_jsonl(home / "texts.jsonl", TEXTS)
    small = ("--vocabulary-size", "200", "--workers", "1")
    prepare([str(texts), *small, "--out", str(home / "corpus")])
    where = ("--data.corpus", str(home / "corpus"), "--run-dir", str(home / "encoder"))
    long = ("--data.length", "12", "--model.positions", "40", "--training.num-seeds", "1")
    masked_train.main([*where, *long, *SHAPE, *BUDGET, "--training.seed", "0"])
    write_sentences(home / "rated.tsv", ("good", "bad"))
    write_sentences(home / "swapped.tsv", ("bad", "good"))
    write_sentences(home / "renamed.tsv", ("good", "awful"))
    longer = ("--training.steps", "60", "--run-dir", str(home / "large"))
    train.main([*sentences(home), *SHAPE, *BUDGET, *longer])
    return home


def write_sentences(path: Path, names: tuple[str, str]) -> None:
    lines = [f"{names[i % 2]}\t{('ba ', 'mi ')[i % 2]}{text}" for i, text in enumerate(TEXTS)]
    path.write_text("label\tsentence\n" + "\n".join(lines) + "\n")


def write_other_sentences(path: Path) -> None:
    texts = documents(60, seed=1, words=12)
    lines = [f"{('good', 'bad')[i % 2]}\t{text}" for i, text in enumerate(texts)]
    path.write_text("label\tsentence\n" + "\n".join(lines) + "\n")


def sentences(home: Path, name: str = "rated") -> tuple[str, ...]:
    """What is typed of the data."""
    source = ("--data.train", str(home / f"{name}.tsv"), "--data.length", "40")
    source = (*source, "--data.validation", "0.2")
    return ("--data.tokenizer", str(home / "corpus"), *source)


def test_no_more_padding_is_read_than_must_be() -> None:
    """And the answers, and gradients, are those to all of it."""
    model = functional_classifier(BERTConfig(2, 8, 2, init_std=0.3), 30, 24, 3)
    short = truncated(model, (8, 16, 24))
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    for longest in (3, 8, 9, 20):
        visible = np.arange(24) < rng.integers(2, longest, 5, endpoint=True)[:, None]
        visible[0] = np.arange(24) < longest
        tokens = np.where(visible, rng.integers(1, 30, visible.shape), 0)
        inputs = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible))

        def total(apply: Callable[..., jax.Array], inputs: TokenInputs = inputs) -> jax.Array:
            return jax.grad(lambda params: jnp.sum(apply(params, inputs) ** 2))(params)

        np.testing.assert_allclose(
            short.apply(params, inputs), model.apply(params, inputs), rtol=1e-5, atol=1e-6
        )
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5),
            total(short.apply),
            total(model.apply),
        )


def test_a_classifier_learns(home: Path) -> None:
    run = RunDirectory(home / "large")
    assert run.record["labels"] == ["bad", "good"]
    counts = run.manifest["counts"]
    assert counts["train"] + counts["validation"] + counts["evaluation"] == len(TEXTS)
    first, *_, last = (record["eval_loss"][0] for record in run.metrics())
    assert last < first - 0.05


def test_a_trained_encoder_is_what_it_begins_with(home: Path, tmp_path: Path) -> None:
    """All of it, of every seed and rate; the head is random. From its run, or from its folder of
    transformers; where it lies is no part of what the run is."""
    out = tmp_path / "folder"
    export.main([str(home / "encoder"), "--step", "12", "--format", "hf", "--out", str(out)])
    encoder = Trajectory(RunDirectory(home / "encoder")).restore(12)
    for start in (home / "encoder", out):
        run = tmp_path / f"from-{start.name}"
        words = ("--start.model", str(start), "--model.positions", "40", "--run-dir", str(run))
        rates = ("--optim.learning-rate", "0.001", "0.002")
        train.main([*sentences(home), *SHAPE, *BUDGET, *words, *rates])
        assert "start" not in RunDirectory(run).record["config"]
        assert RunDirectory(run).record["paths"]["start"] == str(start)
        begun = Trajectory(RunDirectory(run)).restore(0)
        for name in ("token", "position", "blocks", "norm_first"):
            jax.tree.map(
                lambda ours, theirs: np.testing.assert_array_equal(
                    ours, np.repeat(theirs, 2, axis=0)
                ),
                begun[name],
                encoder[name],
            )
        untrained = Trajectory(RunDirectory(home / "large")).restore(0)
        np.testing.assert_array_equal(
            begun["classifier"]["kernel"][:1], untrained["classifier"]["kernel"]
        )


def test_a_head_learns_alone(home: Path, tmp_path: Path) -> None:
    """On an encoder that does not move."""
    words = ("--model.head-only", "--run-dir", str(tmp_path / "run"))
    train.main([*sentences(home), *SHAPE, *BUDGET, *words])
    trajectory = Trajectory(RunDirectory(tmp_path / "run"))
    before, after = trajectory.restore(0), trajectory.restore(12)
    for name, part in before.items():
        is_same = jax.tree.map(lambda a, b: bool((a == b).all()), part, after[name])
        assert all(jax.tree.leaves(is_same)) is (name not in ("pooler", "classifier")), name


def test_a_student_teaches_and_the_chain_is_recorded(home: Path, tmp_path: Path) -> None:
    names, taught_by = ("mid", "small"), home / "large"
    for name in names:
        words = ("--teacher", str(taught_by), "--run-dir", str(tmp_path / name))
        words = (*words, "--training.seed", "1200", "--training.num-seeds", "1")
        distill.main([*sentences(home), *SHAPE, "--model.heads", "1", *BUDGET, *words])
        taught_by = tmp_path / name
    mid, small = (RunDirectory(tmp_path / name).record for name in names)
    assert mid["chain"] == [mid["teacher_hash"]]
    assert small["chain"] == [small["teacher_hash"], *mid["chain"]]
    assert small["teacher_hash"] != mid["teacher_hash"]


def test_a_chain_by_one_command(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each link is taught by the one before; a second time there is nothing to do."""
    quick = PRESETS["quick"].config
    small = replace(quick.student.training, steps=8, eval_every=4, eval_examples=20)
    small = replace(small, checkpoint_every=4)
    short = replace(
        quick,
        teacher=replace(quick.teacher, training=replace(small, num_seeds=1)),
        student=replace(quick.student, training=small),
    )
    monkeypatch.setitem(PRESETS, "quick", replace(PRESETS["quick"], config=short))
    words = [*sentences(home), "--run-dir", str(tmp_path), "--chain", "large", "small"]
    relay.main(words)
    assert "accuracy on validation sentences: large 0." in capsys.readouterr().out
    taught = RunDirectory(tmp_path / "small").record
    assert taught["teacher_hash"] == taught["chain"][0] and taught["config"]["model"]["heads"] == 1
    relay.main(words)
    assert "already finished" in capsys.readouterr().err
    said = refused(relay.main, *sentences(home), "--run-dir", tmp_path, "--chain", "huge", "small")
    assert "no link is called huge; choose of large, mid, small" in said
    said = refused(relay.main, *sentences(home), "--run-dir", tmp_path, "--chain", "small")
    assert "at least two links" in said
    nowhere = ("--encoders", tmp_path / "nowhere", "--run-dir", tmp_path / "other")
    assert "is neither a run nor a folder" in refused(relay.main, *sentences(home), *nowhere)
    assert not (tmp_path / "other").exists()


def test_answers_are_what_the_last_checkpoint_says(home: Path, tmp_path: Path) -> None:
    """Of every sentence that is not trained on, and every seed; that of `validation` is the
    accuracy of the run's last record."""
    write_sentences(tmp_path / "test.tsv", ("good", "bad"))
    data = (*sentences(home), "--data.test", str(tmp_path / "test.tsv"))
    less = ("--data.evaluation", str(home / "held-out.tsv"), "--training.num-seeds", "2")
    (home / "held-out.tsv").write_text("label\tsentence\nbad\tmi ko\ngood\tba ri\nbad\tmi\n")
    write_other_sentences(tmp_path / "train.tsv")
    own = ("--data.train", str(tmp_path / "train.tsv"))
    train.main([*data, *less, *own, *SHAPE, *BUDGET, "--run-dir", str(tmp_path / "run")])
    probe.main([str(tmp_path / "run")])
    table, run = answers_of(tmp_path / "run"), RunDirectory(tmp_path / "run")
    sizes = table["split"].value_counts().to_dict()
    assert sizes == {"validation": 12, "test": len(TEXTS), "evaluation": 3}
    found = accuracies(table)
    seeds = [f"seed_{seed}" for seed in run.manifest["seeds"]]
    assert [found["validation"][name] for name in seeds] == pytest.approx(
        run.metrics()[-1]["accuracy"]
    )
    probe.main([str(tmp_path / "run")])  # a second time there is nothing to do
    config = config_of(run)
    task = task_of(config)
    rows = task.sentences.test
    assert rows is not None
    for lane, name in enumerate(seeds):
        params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], Trajectory(run).restore(12))
        logits = task.model(config.model).apply(params, eval_batch(rows, 10**6).inputs)
        expected = np.asarray(jnp.argmax(logits, axis=-1))
        assert table.loc[table["split"] == "test", name].tolist() == expected.tolist()


def test_it_classifies_in_transformers_as_here(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export.main([str(home / "large"), "--step", "12", "--format", "hf", "--out", str(out)])
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    task = task_of(RunDirectory(home / "large").config(TrainConfig))
    batch = task.evaluation(task.data(), 20)
    params = jax.tree.map(
        lambda leaf: leaf[0], Trajectory(RunDirectory(home / "large")).restore(12)
    )
    model = task.model(RunDirectory(home / "large").config(TrainConfig).model)
    ours = np.asarray(jax.jit(model.apply)(params, batch.inputs))
    with torch.no_grad():
        tokens, visible = (np.array(leaf).astype(int) for leaf in batch.inputs[:2])
        expected = theirs(torch.from_numpy(tokens), torch.from_numpy(visible)).logits.numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    assert (out / TOKENIZER).read_bytes() == (home / "corpus" / TOKENIZER).read_bytes()


def test_bad_input(home: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    to = (*SHAPE, *BUDGET, "--run-dir", tmp_path / "run")
    taught = ("--teacher", home / "large")
    said = refused(distill.main, *sentences(home, "swapped"), *to, *taught)
    assert "has learnt other sentences than" in said
    said = refused(distill.main, *sentences(home, "renamed"), *to, *taught)
    assert "tells bad, good apart, in this order, the student awful, good" in said
    said = refused(distill.main, *sentences(home), *to, "--teacher", home / "encoder")
    assert "is a run of `python -m mlm.train`, which has not learnt what these" in said
    start = ("--start.model", home / "encoder")
    said = refused(train.main, *sentences(home), *to, *start, "--model.heads", "1")
    assert "is a model of another shape; it has --model.heads 2" in said
    said = refused(train.main, *sentences(home), *to, *start, "--model.positions", "50")
    assert "has other vectors of places than this classifier (40 x 16, here 50 x 16)" in said
    layers = ("--model.head-only", "--schedule", "projections")
    said = refused(distill.main, *sentences(home), *to, *taught, *layers)
    assert "teaches hidden layers, which --model.head-only leaves" in said
    said = refused(train.main, *sentences(home), *to, *start, "--start.step", "5")
    assert "--start.step 5" in said and "has no such checkpoint" in said
    decay = ("--model.head-only", "--optim.weight-decay", "0.01")
    assert "would shrink the body" in refused(train.main, *sentences(home), *to, *decay)
    said = refused(train.main, *sentences(home), *to, "--start.model", home)
    assert "is neither a run nor a folder of transformers" in said
    said = refused(train.main, *sentences(home), *to, "--model.positions", "20")
    assert "--model.positions 20: rows have up to 40 tokens" in said
    assert not (tmp_path / "run").exists()
