"""The stages of the PCFG experiment end to end on a tiny grammar: training, resuming, students,
probes, and bad input."""

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
from rich.console import Console

from common.experiment.commands import request_of, train_command
from common.experiment.requests import teacher_run
from common.runs.directory import RunDirectory
from common.runs.lock import locked
from common.runs.trajectory import Trajectory
from common.sequence import windows
from common.sequence.masking import MaskingConfig
from common.train.engine import ScanEngine
from common.train.speed import Work, describe
from pcfg import ceiling, distill, nonterminal, probe, train
from pcfg.config import TrainConfig, config_of
from pcfg.data import PCFGData, identity, masked
from pcfg.grammar import load
from pcfg.sampler import make_sampler
from pcfg.spec import SPEC
from pcfg.watch import watch_of
from pcfg.window import Distances, window_distances
from tests.conftest import same_run

GRAMMAR = "S -> A B | B A | A A\nA -> x y x | y y\nB -> y x x | x x y\n"


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grammar") / "tiny.txt"
    path.write_text(GRAMMAR)
    return path


@pytest.fixture(scope="module")
def tiny(grammar: Path) -> list[str]:
    training = (
        "--training.steps 160 --training.batch-size 32 --training.eval-every 8"
        " --training.eval-examples 128 --training.num-seeds 2 --seed 0"
    )
    return [
        "--data.grammar",
        str(grammar),
        "--data.start-level",
        "0",
        "--optim.learning-rate",
        "1e-2",
        "--model.layers",
        "2",
        *training.split(),
    ]


@pytest.fixture(scope="module")
def teacher(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pcfg") / "teacher"
    train.main(
        ["--run-dir", str(path), *tiny, "--model.heads", "4", "--training.checkpoint-every", "16"]
    )
    return path


def test_a_teacher_learns_its_grammar(teacher: Path) -> None:
    records = RunDirectory(teacher).metrics()
    assert min(records[-1]["accuracy"]) > max(records[0]["accuracy"]) + 0.2
    assert max(records[-1]["eval_loss"]) < 0.75 * min(records[0]["eval_loss"])


def test_an_interrupted_run_goes_on_with_the_same_bits(
    teacher: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [
        "--run-dir",
        str(tmp_path / "run"),
        *tiny,
        "--model.heads",
        "4",
        "--training.checkpoint-every",
        "16",
        "--runtime.resume-seconds",
        "1e-6",
    ]
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


def test_the_ring_keeps_the_drop(
    tiny: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    """From just before the loss leaves the exact plateau of 2-gram models to where half of that is
    gone three times in a row, or to the end."""
    args = ["--run-dir", str(tmp_path / "run"), *tiny, "--model.heads", "4"]
    ring = [
        "--training.checkpoint-every",
        "80",
        "--training.ring-every",
        "8",
        "--training.ring-size",
        "2",
    ]
    train.main([*args, *ring])
    run = RunDirectory(tmp_path / "run")
    watch = watch_of(config_of(run))
    steps = [record["step"] for record in run.metrics()]
    part_ExL = np.asarray([record["eval_loss"] for record in run.metrics()]) / watch.detector.floor
    left_at = min(
        int(np.argmax((part_E[1:] < 0.94) & (part_E[:-1] < 0.94))) + 1 for part_E in part_ExL.T
    )
    done_at = max(
        next(
            (i for i in range(2, len(steps)) if (part_E[i - 2 : i + 1] < 0.5).all()), len(steps) - 1
        )
        for part_E in part_ExL.T
    )
    assert 2 < left_at < done_at
    assert set(Trajectory(run).steps()) == {0, 80, 160} | set(steps[left_at - 2 : done_at + 1])
    assert "--masking.select-special" in refused(
        train.main, *args, *ring, "--masking.select-special"
    )


@pytest.mark.parametrize(
    "strategy",
    [
        "ce",
        "one-shot",
        "progressive --supervision.interval 16",
        "projections --supervision.projection-steps 40",
    ],
)
def test_students_of_every_strategy(
    teacher: Path, tiny: list[str], tmp_path: Path, strategy: str
) -> None:
    from_teacher = [] if strategy == "ce" else ["--teacher", str(teacher)]
    distill.main(
        [
            "--run-dir",
            str(tmp_path / "student"),
            *tiny,
            "--model.heads",
            "2",
            *from_teacher,
            "--schedule",
            *strategy.split(),
        ]
    )
    first, *_, last = RunDirectory(tmp_path / "student").metrics()
    assert min(last["accuracy"]) > max(first["accuracy"]) + 0.1


def test_a_teacher_that_answers_once_is_charged_once(
    teacher: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []

    def spied(
        work: Work, examples: int, seconds: float, num_devices: int, group_size: int
    ) -> dict[str, float]:
        groups.append(group_size)
        assert work.teacher_flops > 0
        return describe(work, examples, seconds, num_devices, group_size)

    monkeypatch.setattr("common.train.run.describe", spied)
    args = [
        *tiny,
        "--model.heads",
        "2",
        "--teacher",
        str(teacher),
        "--teacher-seed",
        "0",
        "--schedule",
        "one-shot",
    ]
    distill.main(["--run-dir", str(tmp_path / "apart"), *args])
    distill.main(
        [
            "--run-dir",
            str(tmp_path / "grouped"),
            *args,
            "--shared-stream",
            "--optim.learning-rate",
            "1e-2",
            "2e-2",
        ]
    )
    assert groups == [1, 4]


def test_both_probes_of_a_trajectory(teacher: Path) -> None:
    probe.main([str(teacher), "--spacing", "2", "--num-sentences", "64", "--sizes", "2", "3"])
    table = pd.read_csv(teacher / "probes" / windows.TABLE)
    assert len(table) == len(Trajectory(RunDirectory(teacher)).steps()) * 2 * 2 * 2
    assert table["median"].between(table["median_low"], table["median_high"]).all()
    assert table[["q25", "median", "q75", "q90"]].diff(axis=1).iloc[:, 1:].ge(0).all().all()
    last = table[(table.step == table.step.max()) & (table.kind == "robust")]
    assert (last["mean"] > 0.01).all()  # a teacher that has learnt looks at its neighbours

    nonterminal.main(
        [
            str(teacher),
            "--num-train",
            "2048",
            "--num-eval",
            "256",
            "--every",
            "0",
            "--heads",
            "2",
            "--width",
            "16",
        ]
    )
    table = pd.read_csv(teacher / "probes" / nonterminal.TABLE)
    assert set(table.probe) == {"linear", "mixing"}
    assert sorted(set(table.step)) == [0, 160]
    assert (table.accuracy > table.chance - 0.02).all()


def test_probes_need_no_flags(teacher: Path, tmp_path: Path) -> None:
    """On sentences of 4 to 6 tokens, with positions 30 tokens apart, there would be none; windows
    must be given."""
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    few = ("--num-sentences", "32", "--sizes", "2")
    probe.main([str(run), "--every", "0", *few])
    ceiling.main([str(run), "--windows", "1", *few])
    for name in ("ngram", "ceiling"):
        assert json.loads((run / "probes" / f"{name}.json").read_text())["settings"]["spacing"] == 1


def test_a_probe_is_what_the_model_says(teacher: Path) -> None:
    """One pair of one checkpoint, by hand."""
    from common.base.config import from_dict
    from common.nn.blocks import TokenInputs
    from common.sequence.ngram import probe as probe_pairs
    from pcfg.task import functional_model

    run = RunDirectory(teacher)
    config = from_dict(TrainConfig, run.record["config"], teacher)
    sampler = make_sampler(config.data.load())
    settings = windows.ProbeConfig(sizes=(3,), spacing=2, num_sentences=16)
    pairs = probe.held_out(sampler, settings).pairs(settings)
    params = jax.tree.map(lambda leaf: leaf[1], Trajectory(run).restore(160))
    model = functional_model(config, sampler)
    found = probe_pairs(
        model.apply, params, pairs, (3,), sampler.vocabulary.mask, hide_masked=False
    )
    tokens, p = np.asarray(pairs.tokens_PxT[0]), int(pairs.position_P[0])

    def answer(hidden: list[int]) -> np.ndarray:
        row = np.where(np.isin(np.arange(len(tokens)), hidden), sampler.vocabulary.mask, tokens)[
            None
        ]
        logits = np.asarray(
            jax.jit(model.apply)(
                params, TokenInputs(jnp.asarray(row), jnp.asarray(row != sampler.vocabulary.pad))
            ),
            np.float64,
        )[0, p]
        return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    assert found[0, 0, 0] == pytest.approx(
        np.abs(answer([p]) - answer([p - 1, p, p + 1])).sum() / 2, abs=1e-5
    )


def test_bad_input(
    teacher: Path, tiny: list[str], tmp_path: Path, grammar: Path, refused: Callable[..., str]
) -> None:
    run = ["--run-dir", tmp_path / "run"]
    assert "neither a shipped grammar" in refused(train.main, *run, "--data.grammar", "cfg9z")
    assert "there is no start level 9" in refused(train.main, *run, "--data.start-level", "9")
    assert "no non-terminal 'Q'" in refused(
        train.main, *run, "--data.start-level", "0", "--data.start-symbol", "Q"
    )
    cyclic = tmp_path / "cyclic.txt"
    cyclic.write_text("S -> A\nA -> S\n")
    assert "go in a circle" in refused(
        train.main, *run, "--data.grammar", cyclic, "--data.start-level", "0"
    )
    assert "fraction = 0.0: input should be greater than 0" in refused(
        train.main, *run, *tiny, "--masking.fraction", "0"
    )
    assert "--masking.mask-share 0.8, the student is to learn with 0.5" in refused(
        distill.main,
        *run,
        *tiny,
        "--teacher",
        teacher,
        "--schedule",
        "one-shot",
        "--masking.mask-share",
        "0.5",
    )
    assert "learnt other sentences" in refused(
        distill.main, *run, "--teacher", teacher, "--schedule", "one-shot"
    )
    assert "needs --teacher" in refused(distill.main, *run, "--schedule", "one-shot")
    for nobody in (teacher, tmp_path / "nobody"):
        assert "need no teacher" in refused(
            distill.main, *run, *tiny, "--schedule", "ce", "--teacher", nobody
        )
    assert "no teacher whose --teacher-seed" in refused(
        distill.main, *run, *tiny, "--schedule", "ce", "--teacher-seed", 0
    )
    for main in (train.main, distill.main):
        assert "leave out --optim.learning-rate" in refused(
            main, *run, *tiny, "--tuned-by", teacher
        )
    unprobed = tmp_path / "teacher"
    shutil.copytree(teacher, unprobed, ignore=shutil.ignore_patterns("probes"))
    assert "there is no position" in refused(
        probe.main, unprobed, "--spacing", "100", "--sizes", "7"
    )
    assert "wider than the longest sentence" in refused(
        probe.main, unprobed, "--spacing", "2", "--sizes", "30"
    )
    assert not (unprobed / "probes").exists(), "a refusal leaves nothing behind"
    (unprobed / "probes").mkdir()
    assert "Unrecognized" in refused(train.main, *run, "--model.causal")
    assert "--teacher-seed" in refused(
        distill.main, *run, *tiny, "--teacher", teacher, "--schedule", "one-shot", "--shared-stream"
    )
    with locked(unprobed / "probes", "ngram.lock"):  # which keeps no other probe from this run
        assert "in use by another process" in refused(
            probe.main, unprobed, "--spacing", "2", "--sizes", "3"
        )
    with locked(unprobed / "probes", "other.lock"):
        assert "wider than" in refused(probe.main, unprobed, "--spacing", "2", "--sizes", "30")


@pytest.mark.parametrize("hidden", [[], ["--masking.hide-selected", "--masking.select-special"]])
def test_a_run_with_nothing_to_predict_is_refused(
    tiny: list[str], tmp_path: Path, refused: Callable[..., str], hidden: list[str]
) -> None:
    """Before anything is written, so that the directory is free for the run that was meant."""
    said = refused(
        train.main, "--run-dir", tmp_path / "run", *tiny, "--masking.fraction", "1e-6", *hidden
    )
    assert (
        "--masking.fraction 1e-06 leaves nothing to predict in the 128 examples of the"
        " evaluation set" in said
    )
    assert not (tmp_path / "run").exists()


def test_a_run_with_next_to_nothing_to_predict_is_warned_of(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--training.batch-size", "2", "--training.eval-examples", "1024")

    def said(fraction: str) -> str:
        """Where the test above finds a refusal: before a run begins."""
        args = ["--run-dir", str(tmp_path / "run"), *tiny, *few, "--masking.fraction", fraction]
        run = teacher_run(SPEC, request_of(train_command(SPEC, args)))
        run.check_supervised(Console(stderr=True, soft_wrap=True))
        return capsys.readouterr().err

    assert "warning: --masking.fraction 0.02 leaves 0." in said("0.02")
    assert "warning" not in said("0.3")


def test_sentences_and_masks_are_functions_of_the_key(teacher: Path) -> None:
    """Other keys give other sentences, and other masks of the same sentences, independent of each
    other; the same key the same."""
    problem = SPEC.teacher_problem(config_of(RunDirectory(teacher)))  # type: ignore[arg-type]
    first, second, again = (
        problem.sample((), jax.random.fold_in(jax.random.key(0), step)) for step in (7, 8, 7)
    )
    assert (first.labels != second.labels).any()
    assert (first.mask != second.mask).any()
    jax.tree.map(np.testing.assert_array_equal, first, again)
    sampler = make_sampler(PCFGData(start_level=3).load())
    tokens = sampler.sample(jax.random.key(0), 32).tokens_BxT
    one, other = (
        masked(jax.random.key(seed), sampler, MaskingConfig(), tokens).mask for seed in (0, 1)
    )
    assert (
        0.2 < np.mean(np.asarray(one != other)[np.asarray(tokens) < 3]) < 0.6
    )  # 0.42 = 2 x 0.3 x 0.7: independent of each other


def test_a_checkpoint_of_another_vocabulary_is_not_probed(
    teacher: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """The grammar file that a run names has been edited since: other terminals, or other rules of
    the same."""
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


def test_a_run_scored_on_special_tokens_has_no_exact_reference(
    teacher: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    record = json.loads((run / "config.json").read_text())
    record["config"]["masking"]["select_special"] = True
    (run / "config.json").write_text(json.dumps(record))
    assert "--masking.select-special" in refused(ceiling.main, run)
    assert not (run / "probes").exists()


def test_a_run_without_masks_has_an_exact_reference(teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    record = json.loads((run / "config.json").read_text())
    record["config"]["masking"]["mask_share"] = 0.0
    (run / "config.json").write_text(json.dumps(record))
    few = ("--num-sentences", "32", "--windows", "2", "--sizes", "2")
    ceiling.main([str(run), "--spacing", "2", *few])
    exact = json.loads((run / "probes" / "ceiling.json").read_text())
    assert exact["plateaus"]["2"]["accuracy_masked"] is None
    assert exact["ceiling"]["accuracy"] >= exact["plateaus"]["2"]["accuracy"] - 0.1


def test_an_interrupted_reference_goes_on_with_the_next_window(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "teacher"
    shutil.copytree(teacher, run, ignore=shutil.ignore_patterns("probes"))
    args, computed = (
        [
            str(run),
            "--spacing",
            "2",
            "--num-sentences",
            "32",
            "--windows",
            "2",
            "--sizes",
            "2",
            "3",
        ],
        [],
    )

    def spied(*rest: Any) -> Distances:
        if rest[4] == 3 and not computed.count(3):
            computed.append(3)
            raise KeyboardInterrupt
        computed.append(rest[4])
        return window_distances(*rest)

    monkeypatch.setattr(ceiling, "window_distances", spied)
    with pytest.raises(KeyboardInterrupt):
        ceiling.main(args)
    ceiling.main(args)
    assert computed == [2, 2, 3, 3, 3]  # each for two kinds of model; 2 is not done again
    assert pd.read_csv(run / "probes" / "ceiling.csv").n.tolist() == [2, 2, 3, 3]


def test_an_edited_grammar_is_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    third_of = "[0.33333333333333333]"
    first.write_text(GRAMMAR)
    rules = f"S -> A B {third_of}\nS -> B A {third_of} | A A {third_of}"
    second.write_text(
        "# The same, written otherwise.\n" + GRAMMAR.replace("S -> A B | B A | A A", rules)
    )
    third = tmp_path / "c.txt"
    third.write_text(GRAMMAR.replace("A -> x y x", "A -> x x x"))
    assert identity(load(str(first))) == identity(load(str(second))) != identity(load(str(third)))
    assert identity(PCFGData(start_level=3).load()) != identity(PCFGData(start_level=2).load())
