"""Every command of the README is run here, or by `.ci/run` (the `make` targets)."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from figures import law, loaders, make, publish, reproduce
from parity import presets as parity_presets
from parity.law import LAW_PRESETS
from pcfg import presets as pcfg_presets
from pcfg.presets import STRATEGIES
from tests.commands import REPOSITORY, run_module

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
SHELL, PYTHON = ([text for language, text in BLOCKS if language == wanted] for wanted in ("", "python"))
COMMANDS = [shlex.split(line, comments=True) for block in SHELL for line in block.splitlines() if line.strip()]
MAKEFILE = (REPOSITORY / "Makefile").read_text()


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_make_targets_are_run_by_ci() -> None:
    targets = {command[1] for command in COMMANDS if command[0] == "make"}
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert {"figures", "beyond", "test", "bench"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.M)
        # These take minutes and are not tests: programs of `bench` are tried below, `beyond` runs at a tiny size in test_experiment.
        assert target in ("bench", "beyond") or f"make {target}" in ci


@pytest.mark.parametrize("size", ["quick", "laptop", "paper", "transformer-quick"])
@pytest.mark.parametrize("beyond", [False, True])
def test_make_runs_what_a_preset_has(size: str, beyond: bool) -> None:
    """No command names a preset that it would refuse, and none that it would accept is missing."""
    known = {"parity.experiment": parity_presets.PRESETS, "parity.law": LAW_PRESETS, "pcfg.experiment": pcfg_presets.PRESETS}
    wanted = {
        (module, "--preset", name, *(("--beyond",) if beyond and module == "parity.experiment" else ()))
        for module, presets in known.items()
        for name in (size, f"transformer-{size}")
        if name in presets and belongs(module, presets[name].config, beyond)
    }
    parts = list(reproduce.parts_of(size, beyond=beyond))
    assert {command for part in parts for command in part.commands} == wanted
    assert all(make.PAGES[part.experiment].presets[part.preset] for part in parts)
    target = "beyond" if beyond else "figures"
    (line,) = [line for line in run(["make", "-n", target, f"PRESET={size}"], REPOSITORY).splitlines() if "figures.reproduce" in line]
    assert line.split("figures.reproduce ")[1] == f"--preset {size}{' --beyond' if beyond else ''}"


def belongs(module: str, config: Any, beyond: bool) -> bool:
    """Whether `make figures`, or `make beyond`, is to run a preset of a module."""
    if not beyond:
        return module != "parity.law"
    return module == "parity.law" or (module == "parity.experiment" and (config.tree or config.first) is not None)


def test_stage_commands_and_the_pytorch_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which the README gives them, as a user would: each may read what an earlier one wrote."""
    stages = [command for command in COMMANDS if command[:2] == ["python", "-m"] and command[2] != "figures.make"]
    assert {"parity.train", "parity.distill", "parity.probe", "common.runs", "common.export"} <= {command[2] for command in stages}
    for command in stages:
        done = run_module(*command[2:], cwd=tmp_path, optimised=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert len(PYTHON) == 1
    assert len([line for line in PYTHON[0].splitlines() if line.strip()]) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(PYTHON[0], names)
    import torch

    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    assert model(torch.ones(3, 32)).shape == (3, 2)


def test_figures_are_drawn_by_the_command_of_the_readme() -> None:
    (command,) = [command for command in COMMANDS if command[:3] == ["python", "-m", "figures.make"]]
    assert command[3:] == ["--preset", "quick"]


def test_snakemake_command_is_accepted() -> None:
    commands = [command for command in COMMANDS if command[0] == "snakemake"]
    assert commands
    for command in commands:
        run([sys.executable, "-m", *command, "--dry-run"], REPOSITORY)


@pytest.mark.parametrize(
    ("command", "peer"),
    [
        ("parity_mlp --steps 2 --rounds 1", "PyTorch loop, 1 thread"),
        ("blocked --d 32 --widths 100 --blocks 32 --rounds 1", "PyTorch loop, 1 thread"),
        ("pcfg_sampler --sentences 64 --batch-size 8 --rounds 1", "plain recursion"),
    ],
)
def test_benchmarks_run(command: str, peer: str, tmp_path: Path) -> None:
    name, *args = command.split()
    assert f"$(BIN)/python -m benchmarks.{name}" in MAKEFILE
    done = run_module(f"benchmarks.{name}", *args, cwd=tmp_path, optimised=True)
    assert done.returncode == 0, done.stderr
    assert peer in done.stdout


@pytest.mark.parametrize("preset", sorted(path.parent.name for path in (REPOSITORY / "results").glob("*/claims.json")))
def test_the_claims_table_is_the_published_one(preset: str) -> None:
    """The table is what the claims file says, and the README shows it unchanged, or links it."""
    published = REPOSITORY / "results" / preset
    if (fits := published / "fits.json").exists():
        table = law.table(json.loads(fits.read_text()), preset.removeprefix("law-"))
    else:
        experiment = "pcfg" if preset.startswith("pcfg-") else "parity"
        claims = json.loads((published / "claims.json").read_text())["claims"]
        table = publish.claims_table(claims, experiment, preset.removeprefix("pcfg-"))
    assert (published / publish.TABLE).read_text() == table
    assert table in README or f"(results/{preset}/{publish.TABLE})" in README


def test_students_stand_beside_the_published_ones() -> None:
    published = REPOSITORY / "results" / "pcfg-laptop"
    final = pd.read_csv(published / "final_accuracy.csv")
    mean = final.groupby(["examples", "strategy"]).accuracy.mean()
    best = json.loads((published / "ceiling.json").read_text())["ceiling"]["accuracy"]
    points = loaders.targets("overview_acc", "pcfg_bert").set_index(["x", "series"]).y
    panel = loaders.targets("curr_pcfg", "two_shot_final_accuracy").set_index("note").y
    for sentences in (16_000, 32_000, 64_000):
        row = " | ".join(f"{value:.3f}" for value in (*(mean[sentences][name] for name in STRATEGIES), mean[128_000]["teacher"], best))
        assert f"| here, {sentences:,} sentences | {row} |" in README
    for steps in (2000, 4000, 8000, 16_000):
        row = " | ".join(f"{points[steps][name]:.3f}" for name in ("ce", "one_shot", "progressive"))
        assert f"| published, {steps} batches of 512 | {row} | | {points[steps]['teacher']:.3f} | |" in README
    assert f"| published, panel of 2-shot | | {panel['= one-shot']:.3f} | | {panel['best, = C1']:.3f} | | |" in README


def test_links_exist() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (REPOSITORY / link).exists(), link
