"""Suites of checkpoints by their published names, from a disk and from a hub that is made up."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.base.errors import UserError
from common.formats import fetch
from common.formats.fetch import folder_of
from common.formats.suites import SUITES, find_snapshots, listed_snapshots
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from mlm.suite import main
from tests.test_load import LENGTH, home

__all__ = ["home"]

NAMES = {
    "multiberts": ("multiberts-seed_3-step_40k", 40_000, 29),
    "pythia": ("step512", 512, 154),
    "parc-pythia": ("checkpoint-2560", 2560, 10),
    "mistral-gpt2": ("checkpoint-19900", 19_900, 608),
}


@pytest.mark.parametrize("name", SUITES)
def test_published_names_tell_published_steps(name: str) -> None:
    suite, (folder, step, count) = SUITES[name], NAMES[name]
    assert suite.step_of(folder) == step
    assert step in suite.steps and len(suite.steps) == count
    assert sorted(set(suite.steps)) == list(suite.steps)
    assert suite.step_of("main") is None and suite.step_of("stepping") is None


def words(home: Path, run: Path, like: str, folder: str) -> list[str]:
    """What is typed."""
    data = ("--data.corpus", str(home / "corpus"), "--data.length", str(LENGTH))
    return [folder, "--like", like, "--run-dir", str(run), *data, "--eval-examples", "8"]


def snapshot(home: Path, folder: Path, name: str) -> None:
    """A checkpoint of this name."""
    shutil.copytree(home / "checkpoint-2", folder / name)


def test_a_folder_of_snapshots(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which steps are missing, and which are pickles, is told; the rest is one run."""
    folder = tmp_path / "snapshots"
    for step in (20, 40, 60):
        snapshot(home, folder, f"google/multiberts-seed_0-step_{step}k")
    pickle = folder / "google" / "multiberts-seed_0-step_60k"
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    main(words(home, tmp_path / "run", "multiberts", str(folder)))
    run = RunDirectory(tmp_path / "run")
    assert Trajectory(run).steps() == (20_000, 40_000)
    assert run.metrics()[1]["examples"] == 40_000 * 256
    said = capsys.readouterr().err
    assert "missing: 26 of them: 0, 80000, 100000, ..., 1900000, 2000000" in said
    assert "steps 60000: has its weights as a pickle" in said and "weights_only=True" in said
    assert "steps 20000 and 40000 have equal weights" in said


def test_a_list_of_checkpoints(home: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    snapshot(home, tmp_path, "a")
    listed = tmp_path / "list.txt"
    listed.write_text(f"# of one run\n7 a\n\n3 {home / 'checkpoint-0'}\n")
    assert [step for step, _ in listed_snapshots(listed)] == [3, 7]
    main(words(home, tmp_path / "run", str(listed), "."))
    assert Trajectory(RunDirectory(tmp_path / "run")).steps() == (3, 7)
    for text, message in (
        ("seven a\n", "line 1: 'seven a' is no step and folder"),
        ("7 a\n7 b\n", "are both of step 7"),
        ("# nothing\n", "names no checkpoint"),
    ):
        listed.write_text(text)
        with pytest.raises(UserError, match=message):
            listed_snapshots(listed)
    assert "neither a suite" in refused(main, *words(home, tmp_path / "x", "olmo", "."))


def test_folders_without_a_suite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint whose folder is named like"):
        find_snapshots(tmp_path, SUITES["pythia"])
    with pytest.raises(UserError, match="is no folder"):
        find_snapshots(tmp_path / "nowhere", SUITES["pythia"])


class Hub:
    """In place of the package huggingface-hub: models in folders, whose subfolders are their
    revisions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def HfApi(self) -> "Hub":
        return self

    def list_repo_files(self, name: str, revision: str | None) -> list[str]:
        if not (self.folder / name).is_dir():
            raise ConnectionError("no answer\nfrom anybody")
        return [path.name for path in (self.folder / name / (revision or "main")).iterdir()]

    def list_repo_refs(self, name: str) -> Any:
        names = [path.name for path in (self.folder / name).iterdir()]
        return SimpleNamespace(branches=[SimpleNamespace(name=name) for name in names], tags=[])

    def snapshot_download(self, name: str, revision: str | None, allow_patterns: Any) -> str:
        assert "*.safetensors" in allow_patterns
        return str(self.folder / name / (revision or "main"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a made-up hub."""
    monkeypatch.setattr(fetch, "_hub", lambda: Hub(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_suite_of_the_hub(
    home: Path, hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of its branches and tags that are there, and no others."""
    for name in ("main", "step1", "step1000"):
        snapshot(home, hub, f"lab/model/{name}")
    main(words(home, tmp_path / "run", "pythia", "hub:lab/model"))
    assert Trajectory(RunDirectory(tmp_path / "run")).steps() == (1, 1000)
    assert "missing: 152 of them: 0, 2, 4" in capsys.readouterr().err


def test_models_of_the_hub(home: Path, hub: Path) -> None:
    snapshot(home, hub, "lab/model/main")
    snapshot(home, hub, "lab/model/step7")
    assert folder_of("hub:lab/model") == hub / "lab/model/main"
    assert folder_of("hub:lab/model,revision=step7") == hub / "lab/model/step7"
    assert folder_of("lab/model") == Path("lab/model")
    weights = hub / "lab/model/main/model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(UserError, match="lab/model has its weights as a pickle"):
        folder_of("hub:lab/model")
    weights.with_name("pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="has no weights in safetensors files"):
        folder_of("hub:lab/model")
    with pytest.raises(UserError, match=r"no answer\. Without a connection, give the folder"):
        folder_of("hub:lab/other")
    with pytest.raises(UserError, match="give hub:NAME or"):
        folder_of("hub:lab/model,step=7")
