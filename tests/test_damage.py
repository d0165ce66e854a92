"""Damaged files: whatever reads them ends in one message that names the file and says what to
do."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from common.base.config import Preset
from common.base.errors import RunError
from common.runs import __main__ as show
from common.runs.directory import RunDirectory
from common.runs.lineage import MADE_FROM, VERSION, result_hash
from figures import make
from parity import claims, probe
from parity.presets import PRESETS
from tests.tiny_experiment import tiny_experiment

WITHOUT_ENTRIES = (
    "{}",
    "[]",
    "3",
    "null",
    '{"status": "finished"}',
    '{"config": [], "checkpoints": []}',
)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("content", WITHOUT_ENTRIES)
def test_files_of_something_else_are_one_message(
    tiny_teacher: Path, tmp_path: Path, refused: Callable[..., str], name: str, content: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_teacher, other)
    (other / name).write_text(content)
    assert f"{other} is not a run directory: {name} h" in refused(show.main, other)


@pytest.mark.parametrize("content", WITHOUT_ENTRIES)
def test_metrics_without_their_entries_are_one_message(
    tiny_teacher: Path, tmp_path: Path, content: str
) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    (damaged / "metrics.jsonl").write_text(f"{content}\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is corrupted .*run its command again"):
        show.main([str(damaged)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seeds": "0, 1"}, "seeds = '0, 1'"),
        ({"seeds": [0]}, "1 seeds, but 2 learning_rates"),
        ({"checkpoints": {"last": "0"}}, "checkpoints.last"),
        ({"wall_seconds": None}, "wall_seconds: missing"),
        ({"status": "done"}, "status = 'done'"),
        ({"resume": {"step": 16}}, "resume.sha256"),
    ],
)
def test_a_manifest_with_wrong_entries_is_one_message(
    tiny_teacher: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    (damaged / "manifest.json").write_text(json.dumps(manifest | changes))
    with pytest.raises(RunError, match=re.escape(reason)):
        show.main([str(damaged)])


@pytest.mark.parametrize("content", ["", "{}", "[]", "null"])
def test_a_damaged_probe_is_one_message(tiny_teacher: Path, tmp_path: Path, content: str) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged, ignore=shutil.ignore_patterns("probes"))
    (damaged / "probes").mkdir()
    (damaged / "probes" / "correlations.json").write_text(content)
    with pytest.raises(
        RunError,
        match=r"correlations\.json is damaged .*; delete it and run the probe's command again",
    ):
        probe.main([str(damaged), "--num-examples", "256"])


def test_a_probe_that_was_interrupted_and_damaged(tiny_teacher: Path, tmp_path: Path) -> None:
    """Without its settings it begins anew; a part that cannot be read is named."""
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged, ignore=shutil.ignore_patterns("probes"))
    parts = damaged / "probes" / "correlations.parts"
    parts.mkdir(parents=True)
    (parts / "settings.json").write_text("{")
    (parts / "0-112.npz").write_text("")
    probe.main([str(damaged), "--num-examples", "256"])
    table = (damaged / "probes" / "correlations_by_stratum.csv").read_text()
    (damaged / "probes" / "correlations.json").unlink()
    settings = {"num_examples": 256, "per_stratum": 50, "seed": 0}
    made_from = {"run": {"hash": result_hash(RunDirectory(damaged))}}
    begun = {"settings": settings, MADE_FROM: made_from, VERSION: 1}
    parts.mkdir()
    (parts / "settings.json").write_text(json.dumps(begun))
    (parts / "0-112.npz").write_text("no archive")
    with pytest.raises(RunError, match=r"0-112\.npz is damaged .*delete .*correlations\.parts"):
        probe.main([str(damaged), "--num-examples", "256"])
    shutil.rmtree(parts)
    probe.main([str(damaged), "--num-examples", "256"])
    assert (damaged / "probes" / "correlations_by_stratum.csv").read_text() == table


def test_a_refused_probe_leaves_nothing_behind(
    tiny_teacher: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(tiny_teacher, tree, ignore=shutil.ignore_patterns("probes"))
    record = json.loads((tree / "config.json").read_text())
    record["config"]["data"]["depth"] = 2
    (tree / "config.json").write_text(json.dumps(record))
    assert "reads the probability of one of two" in refused(probe.main, tree)
    assert not (tree / "probes").exists()


@pytest.mark.parametrize(
    ("file", "content", "main"),
    [
        ("claims.json", "[]", make.main),
        ("claims.json", "{", make.main),
        ("learning_times.csv", "", make.main),
        ("first_checkpoints.csv", "a,b\n1,2\n", make.main),
        ("teacher/probes/correlations_by_stratum.csv", "\x00\n", claims.main),
        ("teacher/probes/correlations_in_support.csv", "seed,step\n", claims.main),
        ("student/one-shot/metrics.jsonl", "{}\n", claims.main),
    ],
)
def test_a_damaged_result_is_one_message(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: str,
    main: Callable[[list[str]], None],
) -> None:
    monkeypatch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
    monkeypatch.setattr("figures.style.save", lambda *_: tmp_path)  # no picture is looked at
    home = tmp_path / "runs" / "parity" / "quick"
    shutil.copytree(
        finished / "parity" / "quick", home, ignore=shutil.ignore_patterns("checkpoints")
    )
    (home / file).write_text(content)
    with pytest.raises(RunError, match=rf"{Path(file).name} is (damaged|corrupted) .*again"):
        main(
            [
                "--root",
                str(tmp_path / "runs"),
                *(["--out", str(tmp_path / "site")] if main is make.main else []),
            ]
        )
    plt.close("all")
