"""A whole experiment on the tiny problem: plan, stages, claims, figures, report; and the presets
that users get."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

import parity.page
from common.base.config import Preset, TrainingConfig
from common.base.errors import UserError
from common.experiment.plan import plan_preset
from common.judge.stats import INTERVALS
from common.nn.gpt2 import GPT2Config
from common.runs.directory import RunDirectory, runs_below
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from figures import fresh, loaders, make, publish, redraw, registry, reproduce, tables
from figures.loaders import BEYOND
from parity import claims, experiment, train
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.page import PAGE
from parity.presets import PRESETS, Experiment
from parity.spec import SPEC
from tests.tiny_experiment import tiny_experiment


def judged_in(path: Path) -> dict[str, dict[str, Any]]:
    return {claim["claim"]: claim for claim in json.loads(path.read_text())["claims"]}


@pytest.fixture(scope="module")
def published(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its published results. Change copies of it only."""
    out = tmp_path_factory.mktemp("results")
    where = ("--root", str(finished), "--site", str(finished / "site"), "--out", str(out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
        publish.main(list(where))
    return out / "parity" / "quick"


def test_claims_are_what_the_metrics_say(finished: Path) -> None:
    """Learning times and claim W recomputed from the metrics files with other code."""
    home = finished / "parity" / "quick"

    def t90(run: str) -> list[float]:
        records = [
            json.loads(line) for line in (home / run / "metrics.jsonl").read_text().splitlines()
        ]
        accuracy_LxE = np.array([record["accuracy"] for record in records], float).T
        times = []
        for accuracy_E in accuracy_LxE:
            good = accuracy_E >= 0.9
            starts = [t for t in range(len(good) - 2) if good[t] and good[t + 1] and good[t + 2]]
            times.append(records[starts[0]]["examples"] if starts else math.inf)
        return times

    table = pd.read_csv(home / "learning_times.csv")
    for run, rows in table.groupby("run"):
        assert [math.inf if math.isnan(time) else time for time in rows.t90] == t90(str(run))
    judged = judged_in(home / SPEC.paper.output)
    assert list(judged) == ["W", "O", "P", "S", "C", "E"]
    assert list(judged_in(home / BEYOND)) == ["F", "R", "O2"]
    medians = [float(np.median(t90(run))) for run in ("student/ce-w8", "student/ce-w16", "teacher")]
    assert [item["value"] for item in judged["W"]["measured"]] == medians
    assert judged["W"]["holds"] == (medians[0] > medians[1] > medians[2])
    learnt = np.isfinite(t90("student/two-shot")).mean()
    assert judged["S"]["measured"][0]["value"] == learnt


def test_learning_rates_come_from_the_sweeps(finished: Path) -> None:
    home = finished / "parity" / "quick"
    sweeps = pd.read_csv(home / "tuning.csv").fillna({"median_t90": math.inf})
    for run, table in sweeps.groupby("run"):
        if str(run).startswith(("ce-w8", "progressive")):
            best = table.sort_values(
                ["median_t90", "num_learnt", "mean_final_accuracy"], ascending=[True, False, False]
            ).learning_rate.iloc[0]
            assert set(RunDirectory(home / "student" / str(run)).manifest["learning_rates"]) == {
                best
            }
    tuning = {
        seed for path in runs_below(home / "tune") for seed in RunDirectory(path).manifest["seeds"]
    }
    report = {
        seed
        for path in runs_below(home / "student")
        for seed in RunDirectory(path).manifest["seeds"]
    }
    assert tuning == {50, 51}
    assert report == {3, 4}


def test_figures_and_report_are_complete(finished: Path) -> None:
    site = finished / "site" / "parity" / "quick"
    for name in ("overview", "spike", "transition", "width", "levels", "first"):
        assert (site / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (site / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    page = (site / "report.html").read_text()
    assert not re.search(r'(src|href)="(https?:)?//', page), "the page must not need the network"
    for link in re.findall(r'href="([^"]+)"', page):
        assert (site / unquote(link)).exists(), link
    for text in ("holds", "commit", "learning rate", "t90"):
        assert text in page


def test_what_has_been_drawn_is_found_drawn(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    site = finished / "site" / "parity" / "quick"
    before = {path: path.stat().st_mtime_ns for path in site.iterdir()}
    make.main(["--preset", "quick", "--root", str(finished), "--out", str(finished / "site")])
    assert "already drawn" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in site.iterdir()}


def test_figures_that_are_out_of_date_are_noticed(tmp_path: Path) -> None:
    home, folder, page = tmp_path / "runs", tmp_path / "site", tmp_path / "own"
    (home / "teacher").mkdir(parents=True)
    page.mkdir()
    folder.mkdir()
    metrics, picture = home / "teacher" / "metrics.jsonl", folder / "overview.png"
    metrics.write_text("1")
    picture.write_text("drawn")
    drawn_from = fresh.fingerprint((home,), "preset", page)
    assert not fresh.is_current(folder, drawn_from), "nothing is known of what lies there"
    fresh.keep(folder, drawn_from, [picture])
    assert fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))
    assert not fresh.is_current(folder, fresh.fingerprint((home,), "another preset", page))
    metrics.write_text("2")
    assert not fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))
    metrics.write_text("1")
    (page / "page.py").write_text("another caption")
    assert not fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))
    (page / "page.py").unlink()
    assert fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))
    picture.write_text("scribbled over")
    assert not fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))
    picture.unlink()
    assert not fresh.is_current(folder, fresh.fingerprint((home,), "preset", page))


def test_figures_of_what_has_not_been_run_are_left_out(tmp_path: Path) -> None:
    config = tiny_experiment()
    assert PAGE.absent(config, tmp_path) == {"levels", "first"}
    assert len(PAGE.chosen(config, tmp_path)) == len(PAGE.figures) - 2
    (tmp_path / "beyond.json").touch()
    assert PAGE.absent(config, tmp_path) == set()
    assert PAGE.chosen(config, tmp_path) == list(PAGE.figures.values())
    with_neither = replace(config, tree=None, first=None, replicas=())
    assert PAGE.absent(with_neither, tmp_path) == {"levels", "first"}


def test_figures_are_not_drawn_among_other_things(
    finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    for folder in ("site/parity/quick", "results/parity/quick"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "width.png").write_text("mine")
        (tmp_path / folder / "thesis.tex").touch()
    assert "no report.html" in refused(make.main, "--root", finished, "--out", tmp_path / "site")
    assert "no provenance.json" in refused(
        publish.main,
        "--root",
        finished,
        "--out",
        tmp_path / "results",
        "--site",
        tmp_path / "other",
    )
    assert (tmp_path / "site" / "parity" / "quick" / "width.png").read_text() == "mine"
    assert not (tmp_path / "other").exists()


def test_an_experiment_on_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the teacher to the published table, with heads in the place of the width."""
    data, optim = ParityData(5, 2), OptimConfig((1e-3,), kind="adam")
    budget = TrainingConfig(
        steps=128, batch_size=32, eval_every=4, eval_examples=64, seed=3, num_seeds=2
    )
    tiny = Experiment(
        teacher=TrainConfig(
            data,
            GPT2Config(4, layers=1, init_std=0.2),
            optim,
            replace(budget, checkpoint_every=4),
        ),
        student=StudentConfig(
            data,
            GPT2Config(2, layers=1, init_std=0.2),
            optim,
            budget,
            supervision=ScheduleConfig(interval=4, first_steps=16, projection_steps=1),
        ),
        label_steps=128,
        sizes=((2, 128), (4, 128)),
        tuning=None,
        probe_examples=1024,
    )
    monkeypatch.setitem(
        PRESETS, "transformer-quick", Preset("transformer-quick", "A tiny problem.", tiny)
    )
    experiment.main(["--preset", "transformer-quick", "--root", str(tmp_path)])
    publish.main(
        [
            "--preset",
            "transformer-quick",
            "--root",
            str(tmp_path),
            "--site",
            str(tmp_path / "site"),
            "--out",
            str(tmp_path / "results"),
        ]
    )
    home = tmp_path / "parity" / "transformer-quick"
    assert RunDirectory(home / "student" / "ce-h2").record["config"]["model"]["heads"] == 2
    assert RunDirectory(home / "student" / "progressive").record["config"]["model"]["heads"] == 2
    assert (
        "4 heads"
        in (tmp_path / "site" / "parity" / "transformer-quick" / "report.html").read_text()
    )
    times = pd.read_csv(home / "learning_times.csv")
    assert set(times.run) >= {"teacher", "student/ce-h2", "student/progressive", "student/two-shot"}
    judged = judged_in(home / SPEC.paper.output)["W"]
    assert [item["name"] for item in judged["measured"]] == ["t90 at 2 heads", "t90 at 4 heads"]
    medians = [times[times.run == run].t90.median() for run in ("student/ce-h2", "teacher")]
    assert [item["value"] for item in judged["measured"]] == medians
    published = tmp_path / "results" / "parity" / "transformer-quick"
    assert "t90 at 4 heads" in (published / "table.md").read_text()
    for folder in (home, published, tmp_path / "site" / "parity" / "transformer-quick" / "data"):
        assert not (folder / "tuning.csv").exists(), "there are no sweeps"


def test_small_results_are_published(published: Path) -> None:
    names = {path.name for path in published.iterdir()}
    assert {
        "claims.json",
        "beyond.json",
        "learning_times.csv",
        "tuning.csv",
        "provenance.json",
        "table.md",
        "overview.png",
        "spike.png",
        "transition.png",
        "width.png",
        "levels.png",
        "first.png",
        "first_checkpoints.csv",
        "curves.csv",
        "correlations.csv",
        "levels.csv",
    } == names
    assert json.loads((published / "claims.json").read_text())["intervals"] == INTERVALS
    assert (published / "table.md").read_text().endswith(f"{INTERVALS}\n")


def test_provenance_names_the_seeds_of_every_run_replicas_too(finished: Path) -> None:
    assert publish.provenance(finished / "parity" / "quick")["seeds"] == {
        "train": [3, 4, 9, 10, 30, 31],
        "distill": [3, 4, 30, 31],
        "tune": [50, 51],
    }


def test_published_curves_are_thinned_from_first_to_last(finished: Path) -> None:
    home = finished / "parity" / "quick"
    thin = tables.curves(home)
    assert set(thin.run) == {"teacher", "teacher-9", "tree"} | {
        f"{folder}/{path.name}"
        for folder in ("student", "equivalence")
        for path in runs_below(home / folder)
    }
    for run, table in thin.groupby("run"):
        full = loaders.metrics(home / str(run))
        at = np.sort(table.examples.unique())
        assert len(at) == min(100, full.step.nunique()) and {at[0], at[-1]} == {
            full.examples.min(),
            full.examples.max(),
        }
        both = table.merge(full, on=["seed", "examples"], suffixes=("", "_full"))
        assert len(both) == len(table) and (both.accuracy == both.accuracy_full).all()


def test_published_correlations_are_the_probe_of_every_checkpoint(finished: Path) -> None:
    teacher = finished / "parity" / "quick" / "teacher"
    keys = ["seed", "examples", "degree"]
    published = tables.correlations(teacher).set_index(keys)
    subsets = pd.read_csv(teacher / "probes" / "correlations_in_support.csv")
    expected = subsets.assign(size=subsets.with_2p_minus_1.abs()).groupby(keys)["size"].mean()
    assert len(expected) == len(published)
    pd.testing.assert_series_equal(
        published.in_support.sort_index(), expected, rtol=1e-3, atol=1e-6, check_names=False
    )
    assert published.notna().all().all()


def test_figures_are_drawn_again_from_published_tables(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    folder = tmp_path / "results" / "parity" / "quick"
    shutil.copytree(published, folder)
    pictures = [folder / f"{name}.png" for name in ("width", "first", "transition")]
    from_runs = [matplotlib.image.imread(picture) for picture in pictures]
    for picture in pictures:
        picture.unlink()
    redraw.main([str(folder)])
    for picture, before in zip(pictures, from_runs, strict=True):
        difference = np.abs(matplotlib.image.imread(picture) - before)
        assert difference.mean() < 1e-3, (
            "published tables are rounded, but not so that it could be seen"
        )
    for picture in pictures:
        picture.unlink()
    (folder / "curves.csv").unlink()
    redraw.main([str(folder)])
    assert [picture.exists() for picture in pictures] == [True, True, False]
    for name in ("learning_times.csv", "claims.json"):
        (folder / name).unlink()
    for nothing in (folder, tmp_path):
        with pytest.raises(UserError, match="no tables that a figure could be drawn from"):
            redraw.main([str(nothing)])


def test_a_size_is_reproduced_and_found_done(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parts of a size run in order: here the tiny experiment alone, which is done and drawn."""
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    monkeypatch.setattr(registry, "EXPERIMENTS", ("parity",))
    monkeypatch.setattr(parity.page, "PAGE", replace(PAGE, study=None))
    monkeypatch.delitem(PRESETS, "transformer-quick")
    command = ["--root", str(finished), "--out", str(finished / "site")]
    for flags in ([], ["--beyond"]):
        reproduce.main([*command, *flags])
        said = capsys.readouterr()
        assert re.search(r"(\d+) of \1 stages are done", said.err)
        assert "already drawn" in said.out
        assert f"reports: {finished / 'site' / 'parity' / 'quick' / 'report.html'}" in said.err


def test_an_unknown_size_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no experiment has it" in refused(reproduce.main, "--preset", "huge", "--root", tmp_path)
    assert "nothing goes beyond the paper" in refused(
        reproduce.main, "--preset", "transformer-quick", "--beyond", "--root", tmp_path
    )


def test_claims_command_prints_the_verdicts(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    claims.main(["--preset", "quick", "--root", str(finished)])
    out = capsys.readouterr().out
    assert out.count("holds") + out.count("does not") >= 5


def test_claims_of_unfinished_runs_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    home = tmp_path / "parity" / "quick"
    shutil.copytree(finished / "parity" / "quick", home)
    (home / "claims.json").unlink()
    for run in ("student/one-shot", "tune/one-shot"):
        manifest = home / run / "manifest.json"
        whole = manifest.read_text()
        manifest.write_text(json.dumps(json.loads(whole) | {"status": "started"}))
        assert f"{run} is not finished" in refused(claims.main, "--root", tmp_path)
        manifest.write_text(whole)
        assert not (home / "claims.json").exists(), "which marks the experiment as done"


def test_runs_that_do_not_belong_together_are_refused(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Claims without a record of their runs are judged again. Not from a teacher of other seeds
    than the students', and not for an edited preset."""
    tiny, home = tiny_experiment(), tmp_path / "parity" / "quick"
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny))
    shutil.copytree(finished / "parity" / "quick", home)
    judged = (home / "claims.json").read_text()
    (home / "claims.json").write_text('{"claims": []}')
    experiment.main(["--root", str(tmp_path)])
    assert (home / "claims.json").read_text() == judged

    shutil.rmtree(home / "teacher")
    planned = {stage.name: stage for stage in plan_preset(SPEC, "quick", tmp_path)}
    train.main([*planned["teacher"].command[1:], "--training.seed", "7"])
    for main in (claims.main, experiment.main):
        message = refused(main, "--root", tmp_path)
        assert "  teacher was trained with training.seed = 7, the preset now says 3\n" in message
        assert "  student/progressive was taught by another teacher than the one in" in message
    assert "than those that are there: teacher," in refused(
        make.main, "--root", tmp_path, "--out", tmp_path / "site"
    )
    capsys.readouterr()
    experiment.main(["--root", str(tmp_path), "--dry-run"])
    assert "stale: was taught" in capsys.readouterr().out
    edited = replace(
        tiny, student=replace(tiny.student, training=replace(tiny.student.training, seed=7))
    )
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "Edited.", edited))
    assert (
        "  student/one-shot was trained with training.seed = 3, the preset now says 7\n"
        in refused(claims.main, "--root", tmp_path)
    )
    assert (home / "claims.json").read_text() == judged


def test_claim_c_is_what_the_probe_says(finished: Path) -> None:
    """The ratio at the transition recomputed from the probes' tables, of every teacher that has
    one; R has the replicas as well."""
    home = finished / "parity" / "quick"
    ratios: dict[str, list[float]] = {}
    for teacher, seeds, student in (
        ("teacher", (3, 4), "student/two-shot"),
        ("teacher-9", (9, 10), "first/teacher-9/at+0"),
    ):
        inside = pd.read_csv(home / teacher / "probes" / "correlations_in_support.csv").query(
            "degree == 1"
        )
        outside = pd.read_csv(home / teacher / "probes" / "correlations_by_stratum.csv").query(
            "degree == 1 and overlap == 0"
        )
        for seed, transition in zip(
            seeds, RunDirectory(home / student).manifest["transitions"], strict=True
        ):
            if "chosen" in transition:
                at = f"seed == {seed} and step == {transition['chosen']}"
                ratio = (
                    inside.query(at).with_2p_minus_1.abs().mean()
                    / outside.query(at).mean_abs.item()
                )
                ratios.setdefault(teacher, []).append(ratio)
    of_all = ratios["teacher"] + ratios["teacher-9"]
    assert len(of_all) == 3
    for file, claim, expected in (
        (SPEC.paper.output, "C", ratios["teacher"]),
        (BEYOND, "R", of_all),
    ):
        (measured,) = [
            item
            for item in judged_in(home / file)[claim]["measured"]
            if item["name"] == "in / off support at the transition (not judged)"
        ]
        assert measured["value"] == pytest.approx(np.median(expected))
        assert measured["num_seeds"] == len(expected)
