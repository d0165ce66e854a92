"""The PCFG experiment as a whole, on a tiny grammar, and its presets."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.base.config import Preset, TrainingConfig
from common.experiment.plan import plan_preset
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.sequence.students import BudgetConfig, FirstCheckpointConfig
from common.sequence.windows import WindowConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from figures import publish
from pcfg import claims as claims_command
from pcfg import distill, experiment, train
from pcfg.config import StudentConfig, TrainConfig, bert
from pcfg.data import PCFGData
from pcfg.page import PAGE
from pcfg.presets import PRESETS, AncestorConfig, Experiment
from pcfg.spec import SPEC
from tests.looking import look_at_stages
from tests.test_pcfg_runs import GRAMMAR
from tests.test_token_claims import SWEEP


def test_a_tiny_experiment_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    """Every stage, judged, drawn and published; a second time there is nothing to do, unless preset
    or grammar have been edited since."""
    grammar = tmp_path / "tiny.txt"
    grammar.write_text(GRAMMAR)
    data = PCFGData(grammar=str(grammar))
    budget = TrainingConfig(
        steps=120,
        batch_size=32,
        eval_every=8,
        eval_examples=128,
        seed=5,
        num_seeds=2,
    )
    # At a constant rate, runs of other lengths have the same compiled steps.
    optim = OptimConfig((1e-2,), kind="adam", clip_norm=1.0)
    windows = WindowConfig((2, 3), spacing=2, num_sentences=32)
    student = StudentConfig(
        data,
        bert(1, layers=1, dropout=0.0),
        optim,
        budget,
        supervision=ScheduleConfig(interval=8, first_steps=1, without_transition="final"),
    )
    teacher = TrainConfig(
        data, bert(2, layers=1, dropout=0.0), optim, replace(budget, checkpoint_every=8)
    )
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
    claims = {
        claim["claim"]: claim for claim in json.loads((home / "claims.json").read_text())["claims"]
    }
    assert claims.keys() == {"B1", "B2", "B3", "B4", "B5", "B6"}
    final = pd.read_csv(home / "final_accuracy.csv")
    assert len(final) == (5 + 4) * 2
    tuned = pd.read_csv(home / "tuning.csv")
    # The table has four digits, by which two rates may be equally good.
    best = tuned[
        tuned.mean_final_accuracy == tuned.groupby("run").mean_final_accuracy.transform("max")
    ]
    students = final[final.strategy != "teacher"]
    assert set(zip(students.strategy, students.learning_rate, strict=True)) <= set(
        zip(best.run, best.learning_rate, strict=True)
    )
    firsts = pd.read_csv(home / "first_checkpoints.csv")["first"]
    assert firsts.tolist() == ["-8", "-8", "C1", "C1", "+16", "+16"]
    exact = json.loads((home / "teacher" / "probes" / "ceiling.json").read_text())
    # No model can beat the best one by more than the luck of 128 sentences.
    assert final.eval_loss.min() > exact["ceiling"]["cross_entropy_here"] - 0.02
    losses = [plateau["cross_entropy"] for plateau in exact["plateaus"].values()]
    assert (
        losses == sorted(losses, reverse=True)
        and losses[-1] > exact["ceiling"]["cross_entropy"] - 0.05
    )
    for n, plateau in exact["plateaus"].items():
        placed = exact["plateaus_with_position"][n]
        assert (
            placed["cross_entropy"] <= plateau["cross_entropy"] + 1e-12
            and placed["accuracy"] >= plateau["accuracy"] - 1e-12
        )
    distances = pd.read_csv(home / "teacher" / "probes" / "ceiling.csv")
    assert (distances.kind == ["robust", "close"] * 2).all()
    # The model learnt on corrupted sentences, so that it must doubt what it sees.
    assert (distances["mean"] != distances.mean_known_clean).any()

    out = [
        "--root",
        str(tmp_path / "runs"),
        "--site",
        str(tmp_path / "site"),
        "--out",
        str(tmp_path / "results"),
    ]
    publish.main(["--experiment", "pcfg", *out])
    page = (tmp_path / "site" / "pcfg" / "quick" / "report.html").read_text()
    assert "masked prediction on a grammar" in page and page.count("<img") == 3
    assert {path.name for path in (tmp_path / "results" / "pcfg" / "quick").iterdir()} >= {
        "claims.json",
        "phases.png",
        "ancestors.png",
        "first_checkpoints.csv",
        "student_nonterminals.csv",
        "students.png",
        "table.md",
        "ngram.csv",
    }
    curves = pd.read_csv(tmp_path / "results" / "pcfg" / "quick" / "curves.csv")
    ends = curves[curves.step == curves.groupby("run").step.transform("max")].merge(
        final, on=["run", "seed"], suffixes=("", "_final")
    )
    assert len(ends) == len(final)
    np.testing.assert_allclose(
        ends[["accuracy", "eval_loss"]], ends[["accuracy_final", "eval_loss_final"]], rtol=1e-3
    )
    figures_need_no_exact_reference(home, tmp_path)
    before = (home / "claims.json").stat().st_mtime_ns
    experiment.main(["--root", str(tmp_path / "runs")])
    stale_runs_are_refused(tiny, grammar, tmp_path / "runs", monkeypatch, refused)
    assert (home / "claims.json").stat().st_mtime_ns == before


def figures_need_no_exact_reference(home: Path, folder: Path) -> None:
    """Where no best model is known, as of text, none is drawn, and none spoken of."""
    unknown = folder / "unknown"
    shutil.copytree(home, unknown, ignore=shutil.ignore_patterns("ceiling.*"))
    for name in ("phases", "students"):
        figure = PAGE.figures[name]
        assert figure.draw(unknown, folder).exists()
        assert "best model" in figure.caption(home)
        assert "best model" not in figure.caption(unknown)


def stale_runs_are_refused(
    tiny: Experiment,
    grammar: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    """Of a grammar, and of a preset, that have been edited since."""
    grammar.write_text(GRAMMAR.replace("A -> x y x", "A -> x x x"))
    for main in (experiment.main, claims_command.main):
        assert (
            "  student/ce was trained on another grammar than the one of that name is now\n"
            in refused(main, "--root", root)
        )
    grammar.write_text(GRAMMAR)
    student = replace(tiny.student, training=replace(tiny.student.training, seed=6))
    other = replace(tiny, student=student, nonterminal=replace(tiny.nonterminal, num_train=128))
    monkeypatch.setitem(
        PRESETS, "quick", Preset("quick", "Another student, probed otherwise.", other)
    )
    for main in (experiment.main, claims_command.main):
        message = refused(main, "--root", root)
        assert "  student/ce was trained with training.seed = 5, the preset now says 6\n" in message
        assert "  nonterminals was made with num_train = 64, the preset now says 128\n" in message
        assert "  teacher was" not in message


@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_of_a_preset_can_be_looked_at(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every training stage of every preset gets as far as its plan."""
    mains = {"pcfg.train": train.main, "pcfg.distill": distill.main}
    experiment.main(["--preset", name, "--root", str(tmp_path), "--dry-run"])
    assert "to do" in capsys.readouterr().out
    look_at_stages(plan_preset(SPEC, name, tmp_path), mains, capsys)


def test_the_paper_preset_starts(tmp_path: Path) -> None:
    """The published teacher but for its depth, on whole sentences of cfg3b, one at a time."""
    smaller = ["--model.layers", "1", "--training.batch-size", "1", "--training.eval-examples", "2"]
    train.main(
        [
            "--preset",
            "paper",
            "--run-dir",
            str(tmp_path / "run"),
            "--training.steps",
            "2",
            "--training.checkpoint-every",
            "1",
            *smaller,
        ]
    )
    run = RunDirectory(tmp_path / "run")
    assert Trajectory(run).steps() == (0, 1, 2)
    assert run.manifest["speed"]["tokens_per_second"] > 0
