"""The probes of next-token prediction from command to table, on one tiny run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import pcfg.nonterminal
import pcfg.probe
from common.base.keys import seed_key
from common.nn.blocks import TokenInputs
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.sequence import windows
from pcfg.next_token import ceiling, nonterminal, probe, train
from pcfg.next_token.config import config_of
from pcfg.next_token.task import NextTokens, functional_model, task_of
from pcfg.prefix_window import BestOfPrefixes
from tests import brute_force

GRAMMAR = "S -> A B | B A | A A\nA -> C D | D\nB -> D C | C\nC -> x y x | y y\nD -> y x x | x\n"
FEW = ("--num-sentences", "96", "--sizes", "1", "2")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lanes of every token and the end, checkpoints at 0, 32 and 64. There are positions to
    spare, so that its record may be changed."""
    home = tmp_path_factory.mktemp("next-token")
    (home / "tiny.txt").write_text(GRAMMAR)
    run = home / "teacher"
    training = (
        "--training.steps 64 --training.batch-size 32 --training.eval-every 32"
        " --training.eval-examples 256 --training.num-seeds 2 --training.checkpoint-every 32"
        " --model.heads 2 --model.layers 2 --model.positions 16 --optim.learning-rate 1e-2"
        " --data.start-level 0 --seed 0 --supervised.level None --supervised.predicts-end"
    )
    grammar = ("--data.grammar", str(home / "tiny.txt"))
    train.main(["--run-dir", str(run), *grammar, *training.split()])
    return run


@pytest.fixture
def unprobed(teacher: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    return run


@pytest.fixture
def on_boundaries(unprobed: Path) -> Path:
    """The same run, as if only the last tokens below level 1 had been predicted."""
    change(unprobed, lambda record: record["config"]["supervised"].update(level=1, predicts_end=0))
    return unprobed


def change(run: Path, by: Callable[[dict[str, Any]], None]) -> None:
    path = run / "config.json"
    record = json.loads(path.read_text())
    by(record)
    path.write_text(json.dumps(record))


def task_of_run(run: Path) -> NextTokens:
    return task_of(config_of(RunDirectory(run)))


def test_a_table_is_what_the_models_say(teacher: Path) -> None:
    """A mean of the last checkpoint's second lane from forward passes of whole sentences, in which
    the removed tokens are hidden here, position by position; and all rows are there."""
    probe.main([str(teacher), *FEW])
    table = windows.read_distances(teacher)
    assert len(table) == 3 * 2 * 2 * 2  # checkpoints, lanes, kinds, n
    assert table["median"].between(table["median_low"], table["median_high"]).all()
    assert (table[(table.n == 1) & (table.kind == "robust")]["q90"] == 0).all()

    config = probe.PrefixProbeConfig((1, 2), num_sentences=96)
    prefixes = probe.held_out(task_of_run(teacher), config)
    summary = json.loads((teacher / "probes" / "ngram.json").read_text())
    assert summary["settings"]["spacing"] == 2  # a fifth of the longest sentence
    assert summary["num_pairs"] == len(prefixes.sentence_P) > 200
    run = RunDirectory(teacher)
    model = functional_model(config_of(run), task_of_run(teacher).sampler)
    params = jax.tree.map(lambda leaf: leaf[1], Trajectory(run).restore(64))
    apply = jax.jit(model.apply)
    positions_P = np.asarray(prefixes.position_P)
    from_last_PxT = np.arange(prefixes.tokens_PxT.shape[1])[None] - positions_P[:, None]

    def answers(removed_PxT: np.ndarray) -> np.ndarray:
        inputs = TokenInputs(prefixes.tokens_PxT, jnp.asarray(~removed_PxT))
        logits_PxTxV = np.asarray(apply(params, inputs), np.float64)
        logits_PxV = logits_PxTxV[np.arange(len(positions_P)), positions_P]
        return np.exp(logits_PxV) / np.exp(logits_PxV).sum(axis=1, keepdims=True)

    removed = {"robust": from_last_PxT == -1, "close": from_last_PxT <= -2}
    removed["close"][:, 0] = False  # BOS
    whole_PxV = answers(np.zeros(from_last_PxT.shape, bool))
    for kind, removed_PxT in removed.items():
        expected = np.abs(answers(removed_PxT) - whole_PxV).sum(axis=1).mean() / 2
        is_meant = (table.step == 64) & (table.seed == 1) & (table.n == 2) & (table.kind == kind)
        (row,) = table[is_meant].to_dict("records")
        assert row["mean"] == pytest.approx(expected, abs=1e-5)
        assert expected > 1e-3


def test_the_reference_and_its_interruption(
    unprobed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distances, computed = BestOfPrefixes.distances, []

    def spied(self: BestOfPrefixes, n: int) -> np.ndarray:
        computed.append(n)
        if computed == [1, 2]:
            raise KeyboardInterrupt
        return distances(self, n)

    monkeypatch.setattr(BestOfPrefixes, "distances", spied)
    command = [str(unprobed), *FEW, "--windows", "0", "2", "12"]
    with pytest.raises(KeyboardInterrupt):
        ceiling.main(command)
    ceiling.main(command)
    assert computed == [1, 2, 2], "what is there is not computed again"

    table = pd.read_csv(unprobed / "probes" / "ceiling.csv")
    assert list(zip(table.kind, table.n, strict=True)) == [
        (kind, n) for n in (1, 2) for kind in ("robust", "close")
    ]
    assert table["mean"][0] == 0 and (table["mean"][1:] > 0.01).all()

    exact = json.loads((unprobed / "probes" / "ceiling.json").read_text())
    assert exact["levels"].keys() == {"1", "2", "3"}
    assert exact["ceiling"] == exact["levels"]["3"]
    # 12 tokens with their places are the whole prefix; the ceiling is that of 96 sentences alone.
    error = 5 * exact["ceiling"]["cross_entropy_error"]
    whole = exact["plateaus_with_position"]["12"]["cross_entropy"]
    assert exact["ceiling"]["cross_entropy"] == pytest.approx(whole, abs=error)
    for plateaus in (exact["plateaus"], exact["plateaus_with_position"]):
        losses = [plateaus[n]["cross_entropy"] for n in ("0", "2", "12")]
        assert losses == sorted(losses, reverse=True)


def test_boundaries_alone(on_boundaries: Path) -> None:
    """Prefixes end before every boundary that is predicted, which is what the reference knows
    too; levels have names of their own."""
    task = task_of_run(on_boundaries)
    config = probe.PrefixProbeConfig((1, 2), num_sentences=96)
    prefixes = probe.held_out(task, config)
    sentences = task.sampler.sample(seed_key(0, "ngram-probe"), 96)
    ends_BxT = np.asarray(sentences.ends_BxTxD)[..., 1]
    last_P = np.asarray(prefixes.position_P)
    assert ends_BxT[prefixes.sentence_P, last_P + 1].all()
    assert len(last_P) == ends_BxT[:, 3:].sum(), "none is left out that has two tokens before it"
    assert prefixes.tokens_PxT.shape[1] == task.sampler.longest

    probe.main([str(on_boundaries), *FEW, "--every", "0"])
    ceiling.main([str(on_boundaries), *FEW, "--windows", "1"])
    settings = json.loads((on_boundaries / "probes" / "ngram.json").read_text())["settings"]
    assert settings["spacing"] == 1
    exact = json.loads((on_boundaries / "probes" / "ceiling.json").read_text())
    assert exact["ceiling"] == exact["levels"]["1"]
    table = pd.read_csv(on_boundaries / "probes" / "ceiling.csv").set_index(["kind", "n"])

    grammar = config_of(RunDirectory(on_boundaries)).data.load()
    beginnings = brute_force.beginnings(grammar)
    moved = []
    for tokens_T, last in zip(np.asarray(prefixes.tokens_PxT), last_P, strict=True):
        words = tokens_T[1 : last + 1].tolist()
        knowledge = words, [None] * (len(words) - 2) + words[-2:]
        weights = [brute_force.after(beginnings, known)[:2, :-1].sum(axis=0) for known in knowledge]
        whole, close = (weight_V / weight_V.sum() for weight_V in weights)
        moved.append(np.abs(whole - close).sum() / 2)
    assert table["mean"]["close", 2] == pytest.approx(np.mean(moved), abs=1e-6)


def test_what_has_just_ended(teacher: Path, on_boundaries: Path) -> None:
    """Every level is read where its nodes end; without the end, the last token of the longest
    sentence is read by no model."""
    sizes = "--num-train 2048 --num-eval 256 --every 0 --heads 2 --width 16 --learning-rate 0.03"
    for run in (teacher, on_boundaries):
        nonterminal.main([str(run), *sizes.split()])
        table = pcfg.nonterminal.read_accuracy(run)
        assert set(table.step) == {0, 64}
        assert sorted(set(table.level)) == [0, 1, 2]
        # One start: nothing to tell. An A or a B ends a C or a D, which is easier to tell.
        assert (table[table.level == 0][["accuracy", "chance"]] == 1).all().all()
        assert (table.accuracy > table.chance - 0.05).all()
        of_lowest = table[(table.level == 2) & (table.step == 64)]
        assert (of_lowest.accuracy > of_lowest.chance + 0.1).all()
    sampler = task_of_run(teacher).sampler
    sentences = sampler.sample(seed_key(0, "nonterminal-eval"), 256)
    ancestors_BxT = np.asarray(sentences.ancestors_BxTxD)[..., 2]
    ended_N = ancestors_BxT[np.asarray(sentences.ends_BxTxD)[..., 2]]
    chance = np.bincount(ended_N).max() / len(ended_N)
    table = pcfg.nonterminal.read_accuracy(teacher)
    np.testing.assert_allclose(table[table.level == 2].chance, chance, rtol=1e-5)


def test_bad_input(teacher: Path, unprobed: Path, refused: Callable[..., str]) -> None:
    masked = (pcfg.probe.main, pcfg.nonterminal.main)
    causal = (probe.main, ceiling.main, nonterminal.main)
    for main in masked:
        said = refused(main, teacher)
        assert "is a run of pcfg.next_token, not of pcfg; probe it by" in said
    for main in (probe.main, ceiling.main):
        assert "a window of 40 tokens fits before no predicted token" in refused(
            main, unprobed, "--sizes", "40"
        )
        assert "give a smaller --spacing" in refused(
            main, unprobed, "--sizes", "1", "--spacing", "40"
        )
    assert "sizes.0 = 0: input should be greater" in refused(probe.main, unprobed, "--sizes", "0")
    assert "greater than or equal to 0" in refused(ceiling.main, unprobed, "--windows", "-1")
    change(unprobed, lambda record: record["config"]["model"].update(positions=5))
    assert "--model.positions 5: the longest sentence takes" in refused(probe.main, unprobed)
    assert "--model.positions 5: the longest sentence takes" in refused(nonterminal.main, unprobed)
    change(unprobed, lambda record: record["config"]["supervised"].update(level=7))
    for main in causal:
        assert "--supervised.level 7" in refused(main, unprobed)
    change(unprobed, lambda record: record.update(experiment="pcfg"))
    for main in causal:
        assert "is a run of pcfg, not of pcfg.next_token; probe it by" in refused(main, unprobed)
    assert not (unprobed / "probes").exists(), "a refusal leaves nothing behind"
