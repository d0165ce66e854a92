"""Whoever adds an experiment does what the README says: here with one that is as small as one can
be, in a folder outside of the repository."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.experiment.batch import write_asked
from common.experiment.costs import Cost
from tests.commands import REPOSITORY, run_module

TOY = REPOSITORY / "tests" / "toy"
COST = Cost(3600.0, 10**9, 0, 0, may_end_sooner=False, is_scaled=False)
README = (REPOSITORY / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody keeps an experiment of their own."""
    path = tmp_path_factory.mktemp("own")
    shutil.copytree(TOY, path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    return path


def variables(folder: Path) -> dict[str, str]:
    """What they set."""
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}", "CURRICULUM_EXPERIMENTS": "toy"}


def forked(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of theirs, in their folder."""
    return run_module(module, *arguments, cwd=folder, environment=variables(folder))


def started(
    folder: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in a Python that is started for it, in their folder or another one."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd or folder,
        env=os.environ | variables(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_an_experiment_of_ones_own(folder: Path) -> None:
    """From the plan to the page: nothing of it is in the laboratory."""
    costs = folder / "runs" / "toy" / "quick.costs.json"
    costs.parent.mkdir(parents=True)
    write_asked(costs, {Path("runs/toy/quick/teacher/DONE"): COST})
    snakefile = ("--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1")
    whole = (*snakefile, "figures_toy_quick", "--dry-run", "--printshellcmds")
    planned = started(folder, "snakemake", *whole)
    assert planned.returncode == 0, planned.stderr
    shown = planned.stdout + planned.stderr
    for command in ("toy.train --preset quick", "toy.distill --preset quick", "toy.claims"):
        assert command in shown
    # An hour and a half, and ten minutes; and what is asked for where nothing is projected.
    assert shown.count("runtime=100") == 1 and shown.count("runtime=240") == 3
    first = "runs/toy/quick/tune/teacher/DONE"
    made = started(folder, "snakemake", *snakefile, first)
    assert made.returncode == 0, made.stderr
    assert (folder / first).exists()
    profile = ("--profile", str(REPOSITORY / "profiles" / "local"), "--directory", str(folder))
    elsewhere = started(folder, "snakemake", *snakefile, first, *profile, cwd=folder.parent)
    assert "Nothing to be done" in elsewhere.stdout + elsewhere.stderr
    ran = started(folder, "toy.experiment")
    assert ran.returncode == 0, ran.stderr
    assert "T: A student" in ran.stdout and "holds" in ran.stdout
    (claim,) = json.loads((folder / "runs/toy/quick/claims.json").read_text())["claims"]
    assert claim["holds"]
    again = forked(folder, "toy.experiment")
    assert "4 of 4 stages are done" in again.stderr
    drawn = forked(folder, "figures.make", "--experiment", "toy")
    assert drawn.returncode == 0, drawn.stderr
    page = (folder / "site/toy/quick/report.html").read_text()
    assert "Two clouds" in page and page.count("<img") == 1
    published = forked(folder, "figures.publish", "--experiment", "toy")
    assert published.returncode == 0, published.stderr
    assert "holds: accuracy" in (folder / "results/toy/quick/table.md").read_text()


def test_an_experiment_that_is_not_there_is_named(folder: Path) -> None:
    missing = forked(folder, "figures.make", "--experiment", "nobody")
    assert missing.returncode == 2
    said = " ".join(missing.stderr.split())
    assert (
        "--experiment nobody: unknown experiment; choose one of parity, pcfg, pcfg.next_token,"
        in said
    )


def test_it_imports_what_the_readme_names() -> None:
    """And the README names nothing that is not there."""
    section = README.partition("## Adding an experiment")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:common|figures)\.[\w.]+)`", section))
    for module in named:
        path = REPOSITORY / Path(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists(), module
    for path in sorted(TOY.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            root = node.module.partition(".")[0]
            if root not in ("common", "figures"):
                continue
            modules = {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
            is_named = any(
                module == name or module.startswith(f"{name}.")
                for module in modules
                for name in named
            )
            assert is_named, f"{path.name} imports {node.module}, which the README does not name"
