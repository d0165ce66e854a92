"""The experiment on next tokens as a whole, on a tiny grammar, and its presets."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.base.config import Preset, TrainingConfig
from common.experiment.plan import plan_preset
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.runs.tuning import SweepConfig
from common.sequence.students import FirstCheckpointConfig
from common.sequence.windows import WindowConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from figures import publish
from pcfg.data import PCFGData
from pcfg.next_token import distill, experiment, train
from pcfg.next_token.config import StudentConfig, TrainConfig, gpt2
from pcfg.next_token.data import NextTokenConfig
from pcfg.next_token.presets import ARMS, PRESETS, Experiment
from pcfg.next_token.spec import SPEC
from pcfg.presets import AncestorConfig
from tests.looking import look_at_stages
from tests.test_generations import GRAMMAR


def tiny_experiment(grammar: Path) -> Experiment:
    """Every arm, tuned, on sentences of five or six tokens."""
    data, supervised = PCFGData(grammar=str(grammar)), NextTokenConfig(predicts_end=True)
    budget = TrainingConfig(
        steps=96, batch_size=32, eval_every=8, eval_examples=128, seed=5, num_seeds=2
    )
    optim = OptimConfig((1e-2,), kind="adam", clip_norm=1.0)
    windows = WindowConfig((1, 3), spacing=1, num_sentences=32)
    return Experiment(
        TrainConfig(
            data,
            gpt2(2, layers=1, dropout=0.0),
            optim,
            replace(budget, checkpoint_every=8),
            supervised,
        ),
        StudentConfig(
            data,
            gpt2(1, layers=1, dropout=0.0),
            optim,
            replace(budget, steps=32),
            supervised,
            supervision=ScheduleConfig(
                interval=8,
                first_steps=8,
                without_transition="final",
                projection_steps=8,
                patience=8,
            ),
        ),
        compared=tuple(ARMS),
        probe=windows,
        probe_every=1,
        nonterminal=AncestorConfig(every=0, num_train=64, num_eval=64),
        exact=windows,
        first=FirstCheckpointConfig((-8, 16)),
        tuning=SweepConfig((0.005, 0.02), seed=80, num_seeds=2),
    )


def test_a_tiny_experiment_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage, judged, drawn and published; a second time there is nothing to do."""
    grammar = tmp_path / "tiny.txt"
    grammar.write_text(GRAMMAR)
    preset = Preset("quick", "A tiny grammar.", tiny_experiment(grammar))
    monkeypatch.setitem(PRESETS, "quick", preset)
    root = tmp_path / "runs"
    experiment.main(["--root", str(root)])
    home = root / "pcfg.next_token" / "quick"
    judged = json.loads((home / "claims.json").read_text())["claims"]
    assert {claim["claim"] for claim in judged} == {f"G{i}" for i in range(1, 8)}
    final = pd.read_csv(home / "final_accuracy.csv")
    assert set(final.strategy) == {"teacher", *ARMS}
    # Each arm has the same sentences, and students are paired with their teachers by seed.
    students = final[final.strategy != "teacher"]
    assert set(students.examples) == {32 * 32}
    assert (students.groupby("strategy").seed.apply(list).map(tuple) == (5, 6)).all()
    assert set(students.learning_rate) <= {0.005, 0.02}
    exact = json.loads((home / "teacher" / "probes" / "ceiling.json").read_text())
    # No model can beat the best one by more than the luck of 128 sentences.
    assert final.eval_loss.min() > exact["ceiling"]["cross_entropy_here"] - 0.02
    firsts = [pd.read_csv(path) for path in sorted(home.glob("*checkpoint*.csv"))]
    assert [list(table["first"].unique()) for table in firsts] == [["-8", "C1", "+16"]] * 2

    out = ["--root", str(root), "--site", str(tmp_path / "site"), "--out", str(tmp_path / "out")]
    publish.main(["--experiment", "pcfg.next_token", *out])
    page = (tmp_path / "site" / "pcfg.next_token" / "quick" / "report.html").read_text()
    assert page.count("<img") == 3
    published = {path.name for path in (tmp_path / "out" / "pcfg.next_token" / "quick").iterdir()}
    assert published >= {"claims.json", "phases.png", "students.png", "ancestors.png", "table.md"}
    curves = pd.read_csv(tmp_path / "out" / "pcfg.next_token" / "quick" / "curves.csv")
    ends = curves[curves.step == curves.groupby("run").step.transform("max")]
    of_ends = ends.merge(final, on=["run", "seed"], suffixes=("", "_final"))
    np.testing.assert_allclose(of_ends.accuracy, of_ends.accuracy_final, rtol=1e-3)
    before = (home / "claims.json").stat().st_mtime_ns
    experiment.main(["--root", str(root)])
    assert (home / "claims.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_of_a_preset_can_be_looked_at(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every training stage of every preset gets as far as its plan."""
    mains = {"pcfg.next_token.train": train.main, "pcfg.next_token.distill": distill.main}
    experiment.main(["--preset", name, "--root", str(tmp_path), "--dry-run"])
    assert "to do" in capsys.readouterr().out
    look_at_stages(plan_preset(SPEC, name, tmp_path), mains, capsys)


def test_the_paper_preset_starts(tmp_path: Path) -> None:
    """The published teacher but for its depth, on whole sentences of cfg3f, one at a time."""
    smaller = "--model.layers 1 --training.batch-size 1 --training.eval-examples 2"
    steps = "--training.steps 2 --training.checkpoint-every 1"
    run_dir = tmp_path / "run"
    words = ["--preset", "paper", "--run-dir", str(run_dir), *steps.split(), *smaller.split()]
    train.main(words)
    run = RunDirectory(run_dir)
    assert Trajectory(run).steps() == (0, 1, 2)
    assert run.manifest["speed"]["tokens_per_second"] > 0
