"""The stages of the PCFG experiment end to end on a tiny grammar: training, resuming, students, probes, and bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from common.config import Preset, TrainingConfig
from common.engine import ScanEngine
from common.errors import UserError
from common.masking import MaskingConfig
from common.optim import OptimConfig
from common.runs import RunDirectory, locked
from common.schedule import ScheduleConfig
from common.trajectory import Trajectory
from common.tuning import SweepConfig
from figures import publish
from pcfg import ceiling, distill, experiment, nonterminal, probe, train
from pcfg.config import StudentConfig, TrainConfig, bert, config_of, teacher_problem
from pcfg.data import PCFGData, identity, masked
from pcfg.grammar import load
from pcfg.presets import PRESETS, AncestorConfig, BudgetConfig, Experiment, FirstCheckpointConfig, WindowConfig
from pcfg.sampler import make_sampler
from pcfg.watch import watch_of
from tests.conftest import same_run

SWEEP = SweepConfig((3e-3, 1e-2, 2e-2, 3e-2), seed=15, num_seeds=2)
GRAMMAR = "S -> A B | B A | A A\nA -> x y x | y y\nB -> y x x | x x y\n"


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grammar") / "tiny.txt"
    path.write_text(GRAMMAR)
    return path


@pytest.fixture(scope="module")
def tiny(grammar: Path) -> list[str]:
    training = "--training.steps 160 --training.batch-size 32 --training.eval-every 8 --training.eval-examples 256 --training.num-seeds 2 --seed 0"
    return ["--data.grammar", str(grammar), "--data.start-level", "0", "--optim.learning-rate", "1e-2", "--model.layers", "2", *training.split()]


@pytest.fixture(scope="module")
def teacher(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pcfg") / "teacher"
    train.main(["--run-dir", str(path), *tiny, "--model.heads", "4", "--training.checkpoint-every", "16"])
    return path


def test_a_teacher_learns_its_grammar(teacher: Path) -> None:
    records = RunDirectory(teacher).metrics()
    assert min(records[-1]["accuracy"]) > max(records[0]["accuracy"]) + 0.2
    assert max(records[-1]["eval_loss"]) < 0.75 * min(records[0]["eval_loss"])


def test_an_interrupted_run_goes_on_with_the_same_bits(teacher: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["--run-dir", str(tmp_path / "run"), *tiny, "--model.heads", "4", "--training.checkpoint-every", "16", "--runtime.resume-seconds", "1e-6"]
    advance, calls = ScanEngine.advance, iter(range(1000))

    def interrupted(*rest):
        if next(calls) == 12:
            raise KeyboardInterrupt
        return advance(*rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ScanEngine, "advance", interrupted)
        train.main(args)
    train.main(args)
    same_run(tmp_path / "run", teacher)


def test_the_ring_keeps_the_drop(tiny: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    """From just before the loss leaves the exact plateau of 2-gram models to where half of that is gone, or to the end."""
    args = ["--run-dir", str(tmp_path / "run"), *tiny, "--model.heads", "4"]
    ring = ["--training.checkpoint-every", "80", "--training.ring-every", "8", "--training.ring-size", "2"]
    train.main([*args, *ring])
    run = RunDirectory(tmp_path / "run")
    watch = watch_of(config_of(run))
    steps = [record["step"] for record in run.metrics()]
    part_TxL = np.asarray([record["eval_loss"] for record in run.metrics()]) / watch.detector.floor
    left_at = min(int(np.argmax((part_T[1:] < 0.94) & (part_T[:-1] < 0.94))) + 1 for part_T in part_TxL.T)
    done_at = max(int(np.argmax(part_T < 0.5)) or len(steps) - 1 for part_T in part_TxL.T)
    assert 2 < left_at < done_at
    assert set(Trajectory(run).steps()) == {0, 80, 160} | set(steps[left_at - 2 : done_at + 1])
    assert "--masking.select-special" in refused(train.main, *args, *ring, "--masking.select-special")


@pytest.mark.parametrize("strategy", ["ce", "one-shot", "progressive --supervision.interval 16", "projections --supervision.projection-steps 40"])
def test_students_of_every_strategy(teacher: Path, tiny: list[str], tmp_path: Path, strategy: str) -> None:
    from_teacher = [] if strategy == "ce" else ["--teacher", str(teacher)]
    distill.main(["--run-dir", str(tmp_path / "student"), *tiny, "--model.heads", "2", *from_teacher, "--schedule", *strategy.split()])
    first, *_, last = RunDirectory(tmp_path / "student").metrics()
    assert min(last["accuracy"]) > max(first["accuracy"]) + 0.1


def test_both_probes_of_a_trajectory(teacher: Path) -> None:
    probe.main([str(teacher), "--spacing", "2", "--num-sentences", "64", "--sizes", "2", "3"])
    table = pd.read_csv(teacher / "probes" / probe.TABLE)
    assert len(table) == len(Trajectory(RunDirectory(teacher)).steps()) * 2 * 2 * 2
    assert table["median"].between(table["median_low"], table["median_high"]).all()
    assert table[["q25", "median", "q75", "q90"]].diff(axis=1).iloc[:, 1:].ge(0).all().all()
    last = table[(table.step == table.step.max()) & (table.kind == "robust")]
    assert (last["mean"] > 0.01).all()  # a teacher that has learnt looks at its neighbours

    nonterminal.main([str(teacher), "--num-train", "2048", "--num-eval", "256", "--every", "0", "--heads", "2", "--width", "16"])
    table = pd.read_csv(teacher / "probes" / nonterminal.TABLE)
    assert set(table.probe) == {"linear", "mixing"}
    assert sorted(set(table.step)) == [0, 160]
    assert (table.accuracy > table.chance - 0.02).all()


def test_a_probe_is_what_the_model_says(teacher: Path) -> None:
    """One pair of one checkpoint, by hand."""
    from common.config import from_dict
    from common.ngram import probe as probe_pairs
    from common.transformer import TokenInputs
    from pcfg.config import functional_model
    from pcfg.probe import ProbeConfig
    from pcfg.probe import probe_pairs as pairs_of

    run = RunDirectory(teacher)
    config = from_dict(TrainConfig, run.record["config"], teacher)
    sampler = make_sampler(config.data.load())
    pairs = pairs_of(sampler, ProbeConfig(sizes=(3,), spacing=2, num_sentences=16))
    params = jax.tree.map(lambda leaf: leaf[1], Trajectory(run).restore(160))
    model = functional_model(config, sampler)
    found = probe_pairs(model.apply, params, pairs, (3,), sampler.vocabulary.mask, hide_masked=False)
    tokens, p = np.asarray(pairs.tokens_PxT[0]), int(pairs.position_P[0])

    def answer(hidden: list[int]) -> np.ndarray:
        row = np.where(np.isin(np.arange(len(tokens)), hidden), sampler.vocabulary.mask, tokens)[None]
        logits = np.asarray(jax.jit(model.apply)(params, TokenInputs(jnp.asarray(row), jnp.asarray(row != sampler.vocabulary.pad))), np.float64)[0, p]
        return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    assert found[0, 0, 0] == pytest.approx(np.abs(answer([p]) - answer([p - 1, p, p + 1])).sum() / 2, abs=1e-5)


def test_bad_input(teacher: Path, tiny: list[str], tmp_path: Path, grammar: Path, refused: Callable[..., str]) -> None:
    run = ["--run-dir", tmp_path / "run"]
    assert "neither a shipped grammar" in refused(train.main, *run, "--data.grammar", "cfg9z")
    assert "there is no start level 9" in refused(train.main, *run, "--data.start-level", "9")
    assert "no non-terminal 'Q'" in refused(train.main, *run, "--data.start-level", "0", "--data.start-symbol", "Q")
    cyclic = tmp_path / "cyclic.txt"
    cyclic.write_text("S -> A\nA -> S\n")
    assert "go in a circle" in refused(train.main, *run, "--data.grammar", cyclic, "--data.start-level", "0")
    assert "learnt other sentences" in refused(distill.main, *run, "--teacher", teacher, "--schedule", "one-shot")
    assert "needs --teacher" in refused(distill.main, *run, "--schedule", "one-shot")
    unprobed = tmp_path / "teacher"
    shutil.copytree(teacher, unprobed, ignore=shutil.ignore_patterns("probes"))
    assert "there is no position" in refused(probe.main, unprobed, "--spacing", "100", "--sizes", "7")
    assert "wider than the longest sentence" in refused(probe.main, unprobed, "--spacing", "2", "--sizes", "30")
    assert "model.causal" in refused(train.main, *run, "--model.causal")
    assert "--teacher-seed" in refused(distill.main, *run, *tiny, "--teacher", teacher, "--schedule", "one-shot", "--shared-stream")
    with locked(unprobed / "probes", "ngram.lock"):  # which keeps no other probe from this run
        assert "in use by another process" in refused(probe.main, unprobed, "--spacing", "2", "--sizes", "3")
    with locked(unprobed / "probes", "other.lock"):
        assert "wider than" in refused(probe.main, unprobed, "--spacing", "2", "--sizes", "30")


def test_sentences_and_masks_are_functions_of_the_key(teacher: Path) -> None:
    """Other keys give other sentences, and other masks of the same sentences, independent of each other; the same key the same."""
    problem = teacher_problem(config_of(RunDirectory(teacher)))  # type: ignore[arg-type]
    first, second, again = (problem.sample(jax.random.fold_in(jax.random.key(0), step)) for step in (7, 8, 7))
    assert (first.labels != second.labels).any()
    assert (first.mask != second.mask).any()
    jax.tree.map(np.testing.assert_array_equal, first, again)
    sampler = make_sampler(PCFGData(start_level=3).load())
    tokens = sampler.sample(jax.random.key(0), 32).tokens_BxT
    one, other = (masked(jax.random.key(seed), sampler, MaskingConfig(), tokens).mask for seed in (0, 1))
    assert 0.2 < np.mean(np.asarray(one != other)[np.asarray(tokens) < 3]) < 0.6  # 0.42 = 2 x 0.3 x 0.7: independent of each other


def test_a_checkpoint_of_another_vocabulary_is_not_probed(teacher: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """The grammar file that a run names has been edited since: other terminals, or other rules of the same."""
    edited = tmp_path / "edited.txt"
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    record = json.loads((run / "config.json").read_text())
    record["config"]["data"]["grammar"] = str(edited)
    (run / "config.json").write_text(json.dumps(record))
    for rule in ("A -> x z x", "A -> x x x"):
        edited.write_text(GRAMMAR.replace("A -> x y x", rule))
        for stage in (probe.main, nonterminal.main, ceiling.main):
            assert "other rules than grammar" in refused(stage, run)


def test_a_run_scored_on_special_tokens_has_no_exact_reference(teacher: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    record = json.loads((run / "config.json").read_text())
    record["config"]["masking"]["select_special"] = True
    (run / "config.json").write_text(json.dumps(record))
    assert "--masking.select-special" in refused(ceiling.main, run)


def test_an_edited_grammar_is_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    third_of = "[0.33333333333333333]"
    first.write_text(GRAMMAR)
    rules = f"S -> A B {third_of}\nS -> B A {third_of} | A A {third_of}"
    second.write_text("# The same, written otherwise.\n" + GRAMMAR.replace("S -> A B | B A | A A", rules))
    third = tmp_path / "c.txt"
    third.write_text(GRAMMAR.replace("A -> x y x", "A -> x x x"))
    assert identity(load(str(first))) == identity(load(str(second))) != identity(load(str(third)))
    assert identity(PCFGData(start_level=3).load()) != identity(PCFGData(start_level=2).load())


def test_a_tiny_experiment_end_to_end(grammar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage, judged, drawn and published; a second time there is nothing to do."""
    data = PCFGData(grammar=str(grammar))
    budget = TrainingConfig(steps=120, batch_size=32, eval_every=4, eval_examples=128, checkpoint_every=8, seed=5, num_seeds=2)
    optim = OptimConfig((1e-2,), schedule="cosine", kind="adam", clip_norm=1.0)
    windows = WindowConfig((2, 3), spacing=2, num_sentences=32)
    student = StudentConfig(
        data, bert(1, layers=1, dropout=0.0), optim, budget, supervision=ScheduleConfig(interval=8, first_steps=1, without_transition="final")
    )
    teacher = TrainConfig(data, bert(2, layers=1, dropout=0.0), optim, budget)
    tiny = Experiment(
        teacher,
        student,
        windows,
        1,
        AncestorConfig(every=0, num_train=64, num_eval=64),
        windows,
        first=FirstCheckpointConfig((-8, 16)),
        tuning=SWEEP,
        budgets=(BudgetConfig(60, interval=4, speed=2, first_steps=8),),
    )
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny grammar.", tiny))
    experiment.main(["--root", str(tmp_path / "runs")])
    home = tmp_path / "runs" / "pcfg" / "quick"
    claims = {claim["claim"]: claim for claim in json.loads((home / "claims.json").read_text())["claims"]}
    assert claims.keys() == {"B1", "B2", "B3", "B4", "B5", "B6"}
    final = pd.read_csv(home / "final_accuracy.csv")
    assert len(final) == (5 + 4) * 2
    tuned = pd.read_csv(home / "tuning.csv")
    best = tuned.loc[tuned.groupby("run").mean_final_accuracy.idxmax()].set_index("run").learning_rate
    students = final[final.strategy != "teacher"]
    assert (students.learning_rate.to_numpy() == best.loc[students.strategy].to_numpy()).all()
    assert sorted(pd.read_csv(home / "first_checkpoints.csv").offset) == [-8, -8, 0, 0, 16, 16]
    exact = json.loads((home / "teacher" / "probes" / "ceiling.json").read_text())
    # No model can beat the best one by more than the luck of 128 sentences.
    assert final.eval_loss.min() > exact["ceiling"]["cross_entropy_here"] - 0.02
    losses = [plateau["cross_entropy"] for plateau in exact["plateaus"].values()]
    assert losses == sorted(losses, reverse=True) and losses[-1] > exact["ceiling"]["cross_entropy"] - 0.05
    assert (pd.read_csv(home / "teacher" / "probes" / "ceiling.csv").kind == ["robust", "close"] * 2).all()

    out = ["--root", str(tmp_path / "runs"), "--site", str(tmp_path / "site"), "--out", str(tmp_path / "results")]
    publish.main(["--experiment", "pcfg", *out])
    page = (tmp_path / "site" / "pcfg-quick" / "report.html").read_text()
    assert "masked prediction on a grammar" in page and page.count("<img") == 3
    assert {path.name for path in (tmp_path / "results" / "pcfg-quick").iterdir()} >= {
        "claims.json",
        "phases.png",
        "ancestors.png",
        "first_checkpoints.csv",
        "student_nonterminals.csv",
        "students.png",
        "table.md",
        "ngram.csv",
    }
    before = (home / "claims.json").stat().st_mtime_ns
    experiment.main(["--root", str(tmp_path / "runs")])
    assert (home / "claims.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_commands_that_parse(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every training stage of every preset gets as far as its plan."""
    mains = {"pcfg.train": train.main, "pcfg.distill": distill.main}
    for stage in experiment.plan(name, PRESETS[name].config, tmp_path):
        if stage.module in mains:
            try:
                mains[stage.module]([*stage.args, "--dry-run"])
                assert "dry run" in capsys.readouterr().out
            except UserError as error:
                assert stage.needs
                assert "does not exist" in str(error)


def test_the_paper_preset_starts(tmp_path: Path) -> None:
    """The published teacher, on whole sentences of cfg3b, one at a time."""
    smaller = ["--training.batch-size", "1", "--training.eval-examples", "2"]
    train.main(["--preset", "paper", "--run-dir", str(tmp_path / "run"), "--training.steps", "2", "--training.checkpoint-every", "1", *smaller])
    run = RunDirectory(tmp_path / "run")
    assert Trajectory(run).steps() == (0, 1, 2)
    assert run.manifest["speed"]["tokens_per_second"] > 0
