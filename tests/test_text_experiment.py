"""The experiment on text as a whole, from made-up documents, and its presets."""

import hashlib
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
from common.experiment.stages import RunStage
from common.runs.directory import RunDirectory
from common.runs.tuning import SweepConfig
from common.sequence.students import BudgetConfig
from common.sequence.windows import WindowConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from figures import publish
from mlm import distill, experiment, train
from mlm.config import StudentConfig, TrainConfig
from mlm.corpus import open_corpus
from mlm.data import TextConfig
from mlm.model import TextModel
from mlm.presets import ARMS, EVERY_PLACE, PRESETS, Experiment, ReferenceConfig
from mlm.references import below_for_good, reference_table
from mlm.spec import SPEC
from tests.looking import look_at_stages
from tests.made_up_text import documents, write_jsonl


def tiny_experiment(corpus: Path, texts: Path) -> Experiment:
    """A teacher of a few steps on documents of a file."""
    data = TextConfig(corpus, length=20)
    budget = TrainingConfig(
        steps=24, batch_size=8, eval_every=2, eval_examples=32, seed=5, num_seeds=2
    )
    optim = OptimConfig((1e-2,), kind="adam", clip_norm=1.0)
    model = TextModel(heads=1, head_size=8, layers=1)
    teacher = TrainConfig(data, model, optim, replace(budget, checkpoint_every=4))
    supervision = ScheduleConfig(
        interval=4, first_steps=4, without_transition="final", projection_steps=4
    )
    return Experiment(
        teacher=teacher,
        student=StudentConfig(
            data,
            model,
            optim,
            replace(budget, steps=8, checkpoint_every=4),
            supervision=supervision,
        ),
        compared=tuple(ARMS),
        references=ReferenceConfig(windows=(3,), steps=16, eval_every=4, seed=7),
        probe=WindowConfig((2, 3), spacing=4, num_sentences=32),
        probe_every=2,
        sources=(str(texts), "--vocabulary-size", "200", "--workers", "1"),
        first=EVERY_PLACE,
        tuning=SweepConfig((1e-3, 3e-3, 1e-2, 3e-2), seed=9, num_seeds=1),
        budgets=(BudgetConfig(12, interval=4, speed=1, first_steps=4),),
        tunes_lengths=True,
    )


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """In place of the preset `quick`."""
    texts = write_jsonl(tmp_path / "texts.jsonl", documents(200))
    config = tiny_experiment(tmp_path / "corpus", texts)
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny corpus.", config))
    return config


def test_a_tiny_experiment_end_to_end(
    tiny: Experiment, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus and every stage, judged, drawn and published; a second time there is nothing to
    do, also without the corpus, which is prepared again; other documents make the runs stale."""
    root = tmp_path / "runs"
    experiment.main(["--root", str(root), "--dry-run"])
    assert not root.exists()
    experiment.main(["--root", str(root)])
    home = root / "mlm" / "quick"
    corpus = open_corpus(tmp_path / "corpus")
    assert RunDirectory(home / "teacher").record["corpus"] == corpus.hash
    references = pd.read_csv(home / "references.csv")
    assert references.reference.tolist() == ["unigram", "bag", "window"]
    assert references.n.tolist()[2] == 3
    unigram = references.loss[0]
    assert 0 < unigram < np.log(corpus.vocabulary.size)
    passed = pd.read_csv(home / "passed.csv")
    assert [(row.reference, row.seed) for row in passed.itertuples()] == [
        (reference, seed) for reference in references.reference for seed in (5, 6)
    ]
    judged = json.loads((home / "claims.json").read_text())["claims"]
    assert [claim["claim"] for claim in judged] == [
        f"T{name}" for name in ("1", "2m", "2v", "3", "4", "5", "6", "7")
    ]
    why = "of 8 teachers that it takes, these are 2"
    assert all(why in claim["notes"][0] for claim in judged[:4])
    distances = pd.read_csv(home / "teacher" / "probes" / "ngram.csv")
    # Steps 0, 8, 16 and 24, seeds, kinds, sizes.
    assert len(distances) == 4 * 2 * 4 * 2

    out = ["--root", str(root), "--site", str(tmp_path / "site"), "--out", str(tmp_path / "out")]
    publish.main(["--experiment", "mlm", *out])
    page = (tmp_path / "site" / "mlm" / "quick" / "report.html").read_text()
    assert page.count("<img") == 5 and page.count('class="verdict') == 8
    published = {path.name for path in (tmp_path / "out" / "mlm" / "quick").iterdir()}
    assert published >= {"claims.json", "phases.png", "neighbours.png", "token_kinds.png"}
    assert published >= {"students.png", "student_windows.png", "first_checkpoints.csv"}
    assert published >= {"references.csv", "passed.csv", "ngram.csv", "ngram_by_token.csv"}

    texts = hashlib.sha256((tmp_path / "texts.jsonl").read_bytes()).hexdigest()
    provenance = json.loads((tmp_path / "out" / "mlm" / "quick" / "provenance.json").read_text())
    assert [file["sha256"] for file in provenance["text"]["sources"][0]["inputs"]] == [texts]
    assert f"texts.jsonl (SHA-256 {texts})" in page

    before = (home / "claims.json").stat().st_mtime_ns
    experiment.main(["--root", str(root)])
    assert (home / "claims.json").stat().st_mtime_ns == before

    shutil.rmtree(tmp_path / "corpus")
    experiment.main(["--root", str(root)])
    assert open_corpus(tmp_path / "corpus").hash == corpus.hash
    assert (home / "claims.json").stat().st_mtime_ns == before
    shutil.rmtree(tmp_path / "corpus")
    write_jsonl(tmp_path / "texts.jsonl", documents(200, seed=1))
    said = refused(experiment.main, "--root", str(root))
    assert "teacher was trained on another corpus" in said


def test_what_a_reference_came_to(tiny: Experiment, tmp_path: Path) -> None:
    """Its fall from the quarter before to the last is read off its own curve."""
    for run, losses in (("bag", [5.0, 4.0, 3.0, 2.999]), ("window-3", [5.0, 4.0, 3.0, 2.9])):
        made_up_run(tmp_path / "reference" / run, losses)
    made_up_run(tmp_path / "teacher", [5.0, 4.0, 3.0, 2.0])
    (tmp_path / "teacher" / "probes").mkdir()
    (tmp_path / "teacher" / "probes" / "unigram.json").write_text('{"loss": 4.5}')
    table = reference_table(tmp_path, tiny).set_index("reference")
    assert table.loss.to_dict() == {"unigram": 4.5, "bag": 2.999, "window": 2.9}
    np.testing.assert_allclose(table.fell.loc[["bag", "window"]], [0.001, 0.1])
    assert table.is_flat.to_dict() == {"unigram": True, "bag": True, "window": False}
    without = reference_table(tmp_path, replace(tiny, references=None))
    assert without.reference.tolist() == ["unigram"]


def made_up_run(path: Path, losses: list[float]) -> None:
    """A finished run of one lane with these losses at steps 0, 4, 8, ..."""
    path.mkdir(parents=True)
    record = {"experiment": "mlm", "stage": "train", "config": {}, "paths": {}}
    manifest = {
        "config_hash": "0",
        "status": "finished",
        "seeds": [7],
        "learning_rates": [0.1],
        "checkpoints": {},
        "commit": "",
        "python": "",
        "packages": {},
        "device": {},
        "wall_seconds": 1.0,
    }
    rows = [
        {"step": 4 * i, "examples": 4 * i, "accuracy": [0.5], "eval_loss": [loss]}
        for i, loss in enumerate(losses)
    ]
    (path / "config.json").write_text(json.dumps(record))
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_level_is_passed_for_good() -> None:
    steps = [0, 10, 20, 30]
    assert below_for_good(steps, [5.0, 3.0, 4.5, 2.0], 4.0) == 30
    assert below_for_good(steps, [5.0, 3.0, 2.0, 4.0], 4.0) is None
    assert below_for_good(steps, [3.0, 3.0, 2.0, 1.0], 4.0) == 0


def test_every_length_has_rates_of_its_own() -> None:
    """And two-shot students of other first checkpoints have those of two-shot."""
    home = Path("runs") / "mlm" / "lengths-laptop"
    stages = {stage.name: stage for stage in plan_preset(SPEC, "lengths-laptop", Path("runs"))}

    def tuned_by(name: str) -> Path | None:
        stage = stages[name]
        assert isinstance(stage, RunStage)
        return stage.tuned_by

    assert tuned_by("student/ce") == home / "tune" / "ce"
    assert tuned_by("budget/1200/ce") == home / "tune" / "1200" / "ce"
    assert tuned_by("first/plateau") == home / "tune" / "two-shot"
    assert tuned_by("choose/C1") == home / "tune" / "two-shot"
    sweep = stages["tune/1200/two-shot"]
    assert isinstance(sweep, RunStage)
    assert sweep.config.training.steps == 1200
    assert "tune/1200/projections" not in stages


@pytest.mark.usefixtures("preset_corpora")
@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_of_a_preset_can_be_looked_at(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every training stage of every preset gets as far as its plan."""
    mains = {"mlm.train": train.main, "mlm.distill": distill.main}
    look_at_stages(plan_preset(SPEC, name, Path("runs")), mains, capsys)


def test_a_preset_without_its_corpus_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(experiment.main, "--preset", "laptop")
    assert "corpora/laptop is no folder of a prepared corpus; make one with python -m mlm" in said
