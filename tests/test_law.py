"""The law of learning time in d: plan, a tiny law end to end, tables, figure."""

import itertools
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from common.base.config import Preset, validate
from common.base.errors import RunError
from common.experiment.stages import RunStage
from common.runs.directory import RunDirectory
from common.runs.lineage import MADE_FROM
from figures import law as law_figure
from parity import distill, law, train
from parity.exponents import fits
from parity.law import LAW_PRESETS, LawConfig, LawPoint
from tests.commands import REPOSITORY
from tests.test_registry import each_after_what_it_needs, says_what_it_does

TINY = LawConfig(
    points=(LawPoint(2, 6, 128), LawPoint(2, 8, 256)),
    learning_rate=(0.2, 0.4, 0.6, 0.8),
    seed=3,
    num_seeds=2,
    tuning_seed=50,
    num_tuning_seeds=2,
    teacher_width=64,
    student_width=16,
    batch_size=16,
    eval_examples=256,
    first_stages=(8,),
)


def table(
    exponents: dict[str, float], sizes: tuple[int, ...] = (10, 20, 30, 40, 50), seeds: int = 9
) -> pd.DataFrame:
    """Learning times that follow known power laws, seeds spread evenly around them; the slowest
    seed of labels is censored."""
    rows = []
    for strategy, exponent in exponents.items():
        for d in sizes:
            for seed in range(seeds):
                lost = strategy == "ce" and seed == seeds - 1
                t90 = (
                    None
                    if lost
                    else round(1000 * d**exponent * math.exp(0.1 * (seed - (seeds - 1) / 2)))
                )
                rows.append(
                    {
                        "k": 4,
                        "d": d,
                        "strategy": strategy,
                        "seed": seed,
                        "learning_rate": 0.5,
                        "t90": t90,
                        "budget": 10**9,
                    }
                    | {"first_stage": 10**9 // (d // 10) if strategy == "two-shot" else None}
                )
    return pd.DataFrame(rows).astype({"t90": "Int64", "first_stage": "Int64"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a tiny law that has been run."""
    root = tmp_path_factory.mktemp("law")
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of the work here
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAW_PRESETS, "quick", Preset("quick", "A tiny law.", TINY))
        law.main(["--root", str(root), "--k", "2"])
        law.main(["--root", str(root)])  # no run is missing: only the fit
    yield root
    jax.config.update("jax_disable_most_optimizations", False)
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_tiny_law_end_to_end(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = finished / "law" / "quick"
    times = pd.read_csv(home / law.TIMES)
    assert times.groupby(["k", "d", "strategy"]).seed.apply(list).tolist() == [[3, 4]] * 8
    for strategy, d in itertools.product(("teacher", "ce", "progressive", "two-shot"), (6, 8)):
        rows = times[(times.d == d) & (times.strategy == strategy)]
        name = {"teacher": "teacher", "two-shot": "student/two-shot-8"}.get(
            strategy, f"student/{strategy}"
        )
        run = RunDirectory(home / f"k2-d{d}" / name)
        accuracy_LxE = np.array([record["accuracy"] for record in run.metrics()]).T
        examples = [record["examples"] for record in run.metrics()]
        for accuracy_E, t90 in zip(accuracy_LxE, rows.t90, strict=True):
            starts = [t for t in range(len(examples) - 2) if (accuracy_E[t : t + 3] >= 0.9).all()]
            assert (examples[starts[0]] if starts else None) == (None if math.isnan(t90) else t90)
        assert set(run.manifest["learning_rates"]) == set(rows.learning_rate)
        assert rows.budget.tolist() == [examples[-1]] * 2
        sweep = RunDirectory(
            home
            / f"k2-d{d}"
            / "tune"
            / (name.removeprefix("student/") if strategy != "teacher" else "teacher-rate")
        )
        assert set(sweep.manifest["seeds"]) == {50, 51}
    values = json.loads((home / law.FITS).read_text())
    assert [fit["num_sizes"] for fit in values["fits"]] == [2] * 4
    assert [fit["exponent"]["value"] for fit in values["fits"]] == [None] * 4, (
        "two sizes make no fit"
    )

    monkeypatch.setitem(LAW_PRESETS, "quick", Preset("quick", "A tiny law.", TINY))
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("manifest.json"))
    law.main(["--root", str(finished)])
    assert before == sorted((path, path.stat().st_mtime_ns) for path in home.rglob("manifest.json"))


def test_figure_and_published_files(finished: Path, tmp_path: Path) -> None:
    law_figure.main(
        [
            "--root",
            str(finished),
            "--out",
            str(tmp_path / "site"),
            "--publish",
            str(tmp_path / "results"),
        ]
    )
    assert (tmp_path / "site" / "law" / "quick" / "law.png").read_bytes().startswith(b"\x89PNG")
    names = {path.name for path in (tmp_path / "results" / "law" / "quick").iterdir()}
    assert names == {
        "learning_times.csv",
        "tuning.csv",
        "fits.json",
        "law.png",
        "provenance.json",
        "table.md",
        "paragraph.md",
    }


def test_a_law_of_runs_that_do_not_belong_together_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setitem(LAW_PRESETS, "quick", Preset("quick", "A tiny law.", TINY))
    home = tmp_path / "law" / "quick"
    shutil.copytree(finished / "law" / "quick", home)
    before, manifest = (home / law.FITS).read_text(), home / "k2-d8" / "teacher" / "manifest.json"
    manifest.write_text(
        json.dumps(
            json.loads(manifest.read_text()) | {"checkpoints": {"0": "other", "256": "bits"}}
        )
    )
    message = refused(law.main, "--root", tmp_path)
    assert "2 of 18 stages are stale" in message
    for name in ("progressive", "two-shot-8"):
        assert (
            f"  k2-d8/student/{name} was taught by another teacher than the one in"
            f" {home / 'k2-d8' / 'teacher'} (" in message
        )
    assert "are there: k2-d8/teacher; run `python -m parity.law --preset quick" in refused(
        law_figure.main, "--root", tmp_path
    )
    assert (home / law.FITS).read_text() == before


def test_a_teacher_that_has_not_learnt_does_not_end_the_law(tmp_path: Path) -> None:
    """Its students are trained all the same, by its final checkpoint alone."""
    point = TINY.points[0]
    config, folder = replace(TINY, points=(point,)), law.folder_of(point)
    stages = {stage.name: stage for stage in law.plan(config, tmp_path, point.k)}
    teacher = stages[f"{folder}/tune/teacher"].command[1:]
    train.main([*teacher, "--tuned-by", "None", "--optim.learning-rate", "1e-6"])
    distill.main([*stages[f"{folder}/tune/two-shot-8"].command[1:]])
    run = RunDirectory(tmp_path / folder / "tune" / "two-shot-8")
    assert all(set(found) == {"reason"} for found in run.manifest["transitions"])
    assert run.finished


def test_two_shot_is_reported_from_the_first_stage_that_tuning_prefers(
    finished: Path, tmp_path: Path
) -> None:
    """Sweeps whose accuracy is constant: only one of them is above 90%."""
    config, sweep = (
        replace(TINY, first_stages=(16, 8, 4)),
        finished / "law" / "quick" / "k2-d8" / "tune" / "two-shot-8",
    )
    records = RunDirectory(sweep).metrics()
    for divisor, accuracy in ((16, 0.5), (8, 0.95), (4, 0.6)):
        folder = tmp_path / "tune" / f"two-shot-{divisor}"
        folder.mkdir(parents=True)
        for name in ("config.json", "manifest.json"):
            (folder / name).write_text((sweep / name).read_text())
        flat = [record | {"accuracy": [accuracy] * len(record["accuracy"])} for record in records]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in flat))
    assert law.chosen_run(config, tmp_path, "two-shot") == "student/two-shot-8"
    assert law.chosen_run(config, tmp_path, "ce") == "student/ce"


def test_fits_recover_known_exponents() -> None:
    values = fits(
        table({"teacher": 1.5, "ce": 3.0, "progressive": 1.6, "two-shot": 2.0}),
        (0.5, 1.0, 2.0, 4.0),
        (1, 2, 5),
    )
    found = {fit["strategy"]: fit for fit in values["fits"]}
    for strategy, exponent in (
        ("teacher", 1.5),
        ("ce", 3.0),
        ("progressive", 1.6),
        ("two-shot", 2.0),
    ):
        assert found[strategy]["exponent"]["value"] == pytest.approx(exponent, abs=1e-3)
        assert found[strategy]["exponent"]["num_censored"] == (5 if strategy == "ce" else 0)
        assert found[strategy]["rates_at_an_end"] == [10, 20, 30, 40, 50]
        assert found[strategy]["first_stages_at_an_end"] == (
            [10, 50] if strategy == "two-shot" else []
        )
    assert (found["ce"]["theory"], found["two-shot"]["theory"], found["teacher"]["theory"]) == (
        3,
        2,
        None,
    )
    (comparison,) = values["comparisons"]
    assert comparison["ce_minus_two_shot"]["value"] == pytest.approx(1, abs=1e-3)
    assert comparison["ce_over_two_shot"]["value"] == pytest.approx(50, rel=1e-3)
    assert comparison["holds"]


def test_equal_exponents_do_not_hold_at_k_4() -> None:
    values = fits(
        table(dict.fromkeys(("teacher", "ce", "progressive", "two-shot"), 2.0)), (0.5, 1.0), (1, 2)
    )
    assert not values["comparisons"][0]["holds"]
    assert json.dumps(values, allow_nan=False)


def test_table_and_paragraph_give_the_fitted_numbers(tmp_path: Path) -> None:
    """A law with a size that labels never learn: it is left out of the fit, and drawn."""
    times = table({"teacher": 1.5, "ce": 3.0, "progressive": 1.6, "two-shot": 2.0})
    times.loc[(times.strategy == "ce") & (times.d == 50), "t90"] = pd.NA
    values = fits(times, (0.1, 1.0), (1, 5))
    ce = next(fit for fit in values["fits"] if fit["strategy"] == "ce")
    assert (ce["num_sizes"], ce["medians"][-1]["value"], ce["exponent"]["num_censored"]) == (
        4,
        None,
        13,
    )
    *_, row = law_figure.table(values, "quick").splitlines()
    for text in ("labels (CE) d^3.00 [", "2-shot d^2.00 [", "holds: labels less 2-shot 1.00 ["):
        assert text in row
    text = law_figure.paragraph(values)
    assert "Of 180 runs 13 did not learn within their budget." in text
    assert "labels need beyond budget" in text
    assert "(theory: d^3, inside the interval)" in text
    assert "rates at" not in text
    assert "first stages at an end of their grid: 2-shot at d=10, 50." in text
    (tmp_path / "learning_times.csv").write_text(times.to_csv(index=False))
    (tmp_path / "fits.json").write_text(json.dumps(values))
    assert law_figure.draw(tmp_path, tmp_path).exists()


@pytest.mark.parametrize("name", list(LAW_PRESETS))
def test_presets_are_valid_and_can_be_planned(name: str, tmp_path: Path) -> None:
    config = LAW_PRESETS[name].config
    validate(config)
    assert f"--preset {name}" in LAW_PRESETS[name].note
    ks = sorted({point.k for point in config.points})
    assert ks == [3, 4]
    for k in ks:
        assert len({point.d for point in config.points if point.k == k}) >= 5
    assert config.num_seeds >= 8
    reported, tuning = (
        set(range(first, first + count))
        for first, count in (
            (config.seed, config.num_seeds),
            (config.tuning_seed, config.num_tuning_seeds),
        )
    )
    assert not reported & tuning
    stages = [stage for k in ks for stage in law.plan(config, tmp_path, k)]
    each_after_what_it_needs(stages)
    of_last_point = replace(config, points=config.points[-1:])
    for stage in law.plan(of_last_point, tmp_path, config.points[-1].k):
        assert isinstance(stage, RunStage)
        says_what_it_does(stage)


def test_the_laptop_law_starts(tmp_path: Path) -> None:
    config = LAW_PRESETS["laptop"].config
    last = config.points[-1]
    stage = law.plan(replace(config, points=(last,)), tmp_path, last.k)[0]
    train.main(
        [
            *stage.command[1:],
            "--training.steps",
            "4",
            "--training.eval-every",
            "4",
            "--training.num-seeds",
            "1",
        ]
    )
    assert RunDirectory(stage.output.parent).finished


def test_dry_run_lists_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law.main(["--root", str(tmp_path), "--dry-run", "--k", "3"])
    out = capsys.readouterr().out
    assert "k3-d96/student/two-shot-16" in out
    assert "k4" not in out
    assert not any(tmp_path.iterdir())


def test_bad_input_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "k = 3, 4" in refused(law.main, "--k", 5)
    assert "unknown preset" in refused(law.main, "--preset", "paper")
    assert "python -m parity.law --preset laptop" in refused(
        law_figure.main, "--preset", "laptop", "--root", tmp_path
    )
    with pytest.raises(ValueError, match="overlap"):
        LawConfig(
            points=(),
            learning_rate=(1, 2, 3, 4),
            seed=0,
            num_seeds=8,
            tuning_seed=7,
            num_tuning_seeds=1,
        )
    with pytest.raises(ValueError, match="first_stages"):
        LawConfig(
            points=(),
            learning_rate=(1, 2, 3, 4),
            seed=0,
            num_seeds=8,
            tuning_seed=8,
            num_tuning_seeds=1,
            first_stages=(3,),
        )


def test_processes_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for a file that the other writes, so one after the other would not end."""
    wait = (
        "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\nwhile not"
        " pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    law.run_side_by_side([[sys.executable, "-c", wait, a, b], [sys.executable, "-c", wait, b, a]])
    with pytest.raises(RunError, match="a run failed"):
        law.run_side_by_side(
            [[sys.executable, "-c", "raise SystemExit(2)"], [sys.executable, "-c", ""]]
        )


@pytest.mark.parametrize(
    "preset", sorted(path.name for path in (REPOSITORY / "results" / "law").iterdir())
)
def test_the_published_rows_and_paragraph_are_what_the_fits_say(preset: str) -> None:
    folder = REPOSITORY / "results" / "law" / preset
    values = json.loads((folder / "fits.json").read_text())
    assert (folder / "table.md").read_text() == law_figure.published_table(folder, preset)
    assert law_figure.table(values, preset) in (folder / "table.md").read_text()
    assert (folder / "paragraph.md").read_text() == law_figure.paragraph(values)
    times = pd.read_csv(folder / "learning_times.csv").astype(
        {"t90": "Int64", "first_stage": "Int64"}
    )
    config = LAW_PRESETS[preset].config
    values.pop(MADE_FROM, None)
    assert {"preset": preset} | json.loads(
        json.dumps(fits(times, config.learning_rate, config.first_stages))
    ) == values


@pytest.mark.parametrize(
    ("main", "text"),
    [(law.main, "Results: results/law/quick."), (law_figure.main, "learning time against d")],
)
def test_help_teaches(
    main: Callable[[list[str]], None], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "usage: python -m" in out
    assert text in out
