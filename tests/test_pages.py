"""The report page, its captions and data, and what of it is published: everything that is drawn is
said, and nothing else."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from common.base.config import Preset
from common.runs.directory import RunDirectory
from figures import law as law_figure
from figures import levels, loaders, overview, report, spike, tables, width
from figures import transition as transition_figure
from parity.page import PAGE
from parity.presets import PRESETS
from tests.commands import REPOSITORY
from tests.tiny_experiment import tiny_experiment

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
        if (path := shutil.which(name))
    ),
    None,
)


def test_notes_are_items_of_their_own(finished: Path) -> None:
    page = (finished / "site" / "parity" / "quick" / "report.html").read_text()
    judged = json.loads((finished / "parity" / "quick" / "claims.json").read_text())["claims"]
    notes = [note for claim in judged for note in claim["notes"]]
    assert len(notes) > 3
    for note in notes:
        assert f"<li>{escape(note)}</li>" in page


def test_captions_say_what_is_drawn(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = finished / "parity" / "quick"
    page = (finished / "site" / "parity" / "quick" / "report.html").read_text()
    assert "diamond" not in page.lower()
    assert "Right: the sweep that chose it" in page
    assert "Thin: further teachers" in page
    monkeypatch.setattr(loaders, "PUBLISHED_SCALE", "quick")
    monkeypatch.setattr(loaders, "replicas", lambda _: [])
    monkeypatch.setitem(
        PRESETS,
        "quick",
        Preset("quick", "A tiny problem.", replace(tiny_experiment(), tuning=None)),
    )
    assert "Diamonds: the paper's." in spike.caption(home)
    assert "Diamonds: the paper's points" in transition_figure.caption(home)
    assert "There is no sweep" in width.caption(home)
    assert "Thin" not in overview.caption(home)
    assert "no sweep of this experiment" in PAGE.footnote(PRESETS["quick"].config)


def test_teachers_without_a_transition_are_drawn_and_said_to_have_none(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    home = tmp_path / "quick"
    shutil.copytree(finished / "parity" / "quick", home)
    two_shot = RunDirectory(home / "student" / "two-shot")
    two_shot.write_manifest(transitions=[{"reason": "it stays at chance"}] * 2)
    assert "which has no transition" in spike.caption(home)
    assert spike.draw(home, tmp_path / "site").exists()


def test_the_law_is_part_of_the_report(finished: Path, tmp_path: Path) -> None:
    published, home = REPOSITORY / "results" / "law" / "quick", tmp_path / "law"
    shutil.copytree(published, home)
    shutil.copytree(finished / "parity" / "quick" / "teacher", home / "k3-d16" / "teacher")
    fits = json.loads((published / "fits.json").read_text())
    (home / "fits.json").write_text(json.dumps(fits | {"made_from": {"k3-d16/teacher": "a hash"}}))
    addition = law_figure.addition(home)
    assert addition.runs == "the law over d (1 runs)"
    assert addition.seconds == RunDirectory(home / "k3-d16" / "teacher").manifest["wall_seconds"]
    subject = report.Subject("A title", "quick", "a note", "a command", "a footnote", {}, {})
    page = report.write(
        finished / "parity" / "quick", tmp_path, subject, [], [addition]
    ).read_text()
    assert page.count('class="verdict') == 9 + len(fits["comparisons"])
    assert page.count(fits["criterion"]) == len(fits["comparisons"]) > 0
    for name in ("learning_times.csv", "tuning.csv", "fits.json"):
        assert f'href="data/law_{name}"' in page
        assert (tmp_path / "data" / f"law_{name}").read_bytes() == (home / name).read_bytes()
    assert "the law over d" in page


def test_data_hold_every_table_that_is_drawn(finished: Path) -> None:
    names = {path.name for path in (finished / "site" / "parity" / "quick" / "data").iterdir()}
    assert names >= {
        "levels.csv",
        "curves.csv",
        "first_checkpoints.csv",
        "teacher-9_correlations_by_stratum.csv",
    }


def test_transitions_of_the_levels_are_in_a_table(finished: Path, tmp_path: Path) -> None:
    """Of a tree whose first level is learnt half-way through by one seed and never by the other,
    and whose second level is never learnt."""
    shutil.copytree(finished / "parity" / "quick" / "tree", tmp_path / "tree")
    records = RunDirectory(tmp_path / "tree").metrics()
    half = records[len(records) // 2]["examples"]
    for record in records:
        rising = 0.5 + 0.5 / (1 + np.exp((half - record["examples"]) / 300))
        record |= {"accuracy_level_1": [rising, 0.5], "accuracy": [0.25, 0.25]}
    (tmp_path / "tree" / "metrics.jsonl").write_text(
        "".join(f"{json.dumps(record)}\n" for record in records)
    )
    table = tables.levels(tmp_path).set_index(["level", "seed"])
    assert table.index.tolist() == [(1, 3), (1, 4), (2, 3), (2, 4)]
    (start, middle, end), *others = table.to_numpy().tolist()
    assert start < middle < end
    assert abs(middle - half) <= 8 * 16, "one evaluation away at most"
    assert others == [[pd.NA] * 3] * 3
    assert f"median middles at {middle:,} examples" in levels.caption(tmp_path)


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: the report is not opened in a browser"
)


def chromium(page: Path, profile: Path, *args: str) -> str:
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-sync",
    ]
    flags += ["--disable-component-update", "--no-first-run", f"--user-data-dir={profile}"]
    return subprocess.run(
        [str(CHROMIUM), *flags, *args, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


@needs_chromium
def test_report_opens_in_chromium(finished: Path, tmp_path: Path) -> None:
    page, shot = finished / "site" / "parity" / "quick" / "report.html", tmp_path / "report.png"
    dom = chromium(page, tmp_path / "profile", "--dump-dom")
    assert dom.count('class="verdict') == 8
    assert dom.count("<img") == 6
    chromium(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1200,2400")
    pixels = matplotlib.image.imread(shot)
    assert pixels.shape[:2] == (2400, 1200)
    assert np.mean(pixels[..., :3] < 0.5) > 0.01, "the page is blank"


@needs_chromium
@pytest.mark.parametrize("width", [420, 1200])
def test_claims_are_not_cut_off(finished: Path, tmp_path: Path, width: int) -> None:
    """In a frame of that width, because a window cannot be as narrow; the page tells its frame how
    far the table and its cells reach."""
    tell = """<script>addEventListener("load", () => {
        const cells = [...document.querySelectorAll("#claims, #claims td")];
        const reaches = cells.map((cell) => cell.getBoundingClientRect().right);
        parent.postMessage(Math.max(...reaches), "*");
    })</script>"""
    (tmp_path / "page.html").write_text(
        (finished / "site" / "parity" / "quick" / "report.html").read_text() + tell
    )
    hear = """<script>
    addEventListener("message", (message) => { document.body.dataset.reach = message.data; })
    </script>"""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body>{hear}<iframe src="page.html" width="{width}" height="3000"></iframe></body>'
    )
    dom = chromium(
        frame,
        tmp_path / "profile",
        "--dump-dom",
        "--virtual-time-budget=10000",
        "--allow-file-access-from-files",
    )
    reach = re.search(r'data-reach="([\d.]+)"', dom)
    assert reach is not None
    assert 0.5 * width < float(reach[1]) <= width
