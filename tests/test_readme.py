"""Every command of the README is run here, or by `.ci/run` (the `make` targets)."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.base.errors import UserError
from common.judge.stats import INTERVALS
from figures import law as figures_law
from figures import make, publish, readme, reproduce
from parity import presets as parity_presets
from parity.law import LAW_PRESETS
from pcfg import presets as pcfg_presets
from tests.commands import REPOSITORY, run_module

README = (REPOSITORY / "README.md").read_text()
RESULTS = REPOSITORY / "results"
RESULTS_README = (RESULTS / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
SHELL, PYTHON = (
    [text for language, text in BLOCKS if language == wanted] for wanted in ("", "python")
)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in SHELL
    for line in block.splitlines()
    if line.strip()
]
MAKEFILE = (REPOSITORY / "Makefile").read_text()


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_make_targets_are_run_by_ci() -> None:
    targets = {command[1] for command in COMMANDS if command[0] == "make"}
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert {"figures", "beyond", "test", "bench"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.M)
        # These take minutes and are not tests: programs of `bench` are tried below, `beyond` runs
        # at a tiny size in test_experiment.
        assert target in ("bench", "beyond") or f"make {target}" in ci


@pytest.mark.parametrize("size", ["quick", "laptop", "paper", "transformer-quick"])
@pytest.mark.parametrize("beyond", [False, True])
def test_make_runs_what_a_preset_has(size: str, beyond: bool) -> None:
    """No command names a preset that it would refuse, and none that it would accept is missing."""
    known = {
        "parity.experiment": parity_presets.PRESETS,
        "parity.law": LAW_PRESETS,
        "pcfg.experiment": pcfg_presets.PRESETS,
    }
    wanted = {
        (
            module,
            "--preset",
            name,
            *(("--beyond",) if beyond and module == "parity.experiment" else ()),
        )
        for module, presets in known.items()
        for name in (size, f"transformer-{size}")
        if name in presets and belongs(module, presets[name].config, beyond)
    }
    parts = list(reproduce.parts_of(size, beyond=beyond))
    assert {command for part in parts for command in part.commands} == wanted
    assert all(make.PAGES[part.experiment].presets[part.preset] for part in parts)
    target = "beyond" if beyond else "figures"
    (line,) = [
        line
        for line in run(["make", "-n", target, f"PRESET={size}"], REPOSITORY).splitlines()
        if "figures.reproduce" in line
    ]
    assert line.split("figures.reproduce ")[1] == f"--preset {size}{' --beyond' if beyond else ''}"


def belongs(module: str, config: Any, beyond: bool) -> bool:
    """Whether `make figures`, or `make beyond`, is to run a preset of a module."""
    if not beyond:
        return module != "parity.law"
    return module == "parity.law" or (
        module == "parity.experiment" and (config.tree or config.first) is not None
    )


def test_stage_commands_and_the_pytorch_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which the README gives them, as a user would: each may read what an earlier
    one wrote."""
    stages = [
        command
        for command in COMMANDS
        if command[:2] == ["python", "-m"] and command[2] != "figures.make"
    ]
    assert {"parity.train", "parity.distill", "parity.probe", "common.runs", "common.export"} <= {
        command[2] for command in stages
    }
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
    (command,) = [
        command for command in COMMANDS if command[:3] == ["python", "-m", "figures.make"]
    ]
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


@pytest.mark.parametrize(
    "preset", sorted(path.parent.name for path in RESULTS.glob("*/claims.json"))
)
def test_a_published_table_is_what_the_claims_say(preset: str) -> None:
    """And the README shows it, or links it; below it stand the commits that made it and what its
    intervals are."""
    experiment = "pcfg" if preset.startswith("pcfg-") else "parity"
    folder = RESULTS / preset
    table = publish.published_table(folder, experiment, preset.removeprefix("pcfg-"))
    assert (folder / publish.TABLE).read_text() == table
    assert json.loads((folder / "provenance.json").read_text())["commits"][0][:7] in table
    assert preset in readme.TABLES or f"(results/{preset}/{publish.TABLE})" in README


def test_every_table_is_rendered_from_the_results() -> None:
    assert readme.render(README, RESULTS) == README
    for name in readme.TABLES:
        assert README.count(f"<!-- table: {name} -->\n| ") == 1
    for text in (README, RESULTS_README):
        tables = re.findall(r"^\|(?: *:?-+:? *\|)+$", text, re.M)
        assert len(tables) == text.count("<!-- table: "), "a table without a source"


def test_rendering_changes_what_differs_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(README.replace("d^1.", "d^2.").replace("| 0.591 |", "| 0.592 |"))
    assert path.read_text() != README
    readme.main(["--readme", str(path), "--results", str(RESULTS)])
    assert path.read_text() == README
    path.write_text("<!-- table: nonsense -->\n| a |\n")
    with pytest.raises(UserError, match=r"table: nonsense is unknown; there are quick, .*"):
        readme.main(["--readme", str(path), "--results", str(RESULTS)])


def of_results() -> Iterator[tuple[str, str]]:
    """Numbers of the published results in sentences: the text, and what must stand in it."""
    levels = pd.read_csv(RESULTS / "quick" / "levels.csv")
    middles = levels.groupby("level").middle.median()
    first, second, third = (f"{middle / 1000:.0f}k" for middle in middles)
    yield (
        README,
        (
            f"with transitions at {first}, {second} and {third} examples (medians of"
            f" {levels.seed.nunique()} seeds)"
        ),
    )

    (one_shot,) = [claim for claim in judged("quick") if claim["claim"] == "O"]
    (soft,) = [item for item in one_shot["measured"] if "soft labels" in item["name"]]
    ratio, low, high = (f"{soft[name]:.2f}" for name in ("value", "low", "high"))
    yield README, f"{ratio} [{low}, {high}] of the examples of labels"
    yield RESULTS_README, f"Soft labels, not judged: {ratio} [{low}, {high}]"

    times = pd.read_csv(RESULTS / "paper" / "learning_times.csv")
    teachers = [
        f"{time / 1e6:.1f}M" for time in sorted(times[times.run.str.startswith("teacher")].t90)
    ]
    yield README, f"Three teachers learn at {teachers[0]}, {teachers[1]} and {teachers[2]} examples"
    yield (
        RESULTS_README,
        f"Three teachers learn at {teachers[0]}, {teachers[1]} and {teachers[2]} examples",
    )

    law = json.loads((RESULTS / "law-quick" / "fits.json").read_text())["comparisons"]
    at_3, at_4 = (
        figures_law.interval_text(comparison["ce_minus_two_shot"], ".2f") for comparison in law
    )
    yield RESULTS_README, f"by {at_4} here"
    yield RESULTS_README, f"2-shot came out cheaper as well: {at_3}"

    yield README, INTERVALS


def of_earlier_results() -> Iterator[tuple[str, str]]:
    runs = ("8905739", "c8fea5e", "4ced548", "fee209d")
    ratios = [
        earlier("quick", run, "C", "in / off support at the transition").value for run in runs
    ]
    areas = [earlier("quick", run, "F", "area under ROC of degree 1").value for run in runs]
    yield (
        RESULTS_README,
        "({:.2f}, {:.2f}, {:.2f} and {:.2f} in over off the support".format(*ratios),
    )
    yield (
        RESULTS_README,
        "degree 1's area under ROC {:.2f}, {:.2f}, {:.2f} and {:.2f}".format(*areas),
    )
    labels = [
        in_thousands(earlier("quick", run, "W", "t90 at width 100")) for run in (*runs[:2], runs[3])
    ]
    yield RESULTS_README, "Labels at width 100 needed {}, {} and {} examples".format(*labels)
    ones = [in_hundredths(earlier("quick", run, "O", "t90 one-shot / CE")) for run in runs[:3]]
    yield RESULTS_README, "made the ratio {}, {} and {}".format(*ones)
    yield (
        RESULTS_README,
        (
            f"{in_hundredths(earlier('law-quick', '493029a', 'k=4', 'labels less 2-shot'))} for the"
            " same seeds on another processor"
        ),
    )
    follows = earlier("transformer-quick", "667999c", "P", "t90 progressive / its teacher")
    yield (
        RESULTS_README,
        f"(progressive / teacher {in_hundredths(follows)}",
    )
    heads = [
        earlier("transformer-quick", "667999c", "W", f"t90 at {heads} heads").value / 1000
        for heads in (12, 18, 24)
    ]
    yield (
        RESULTS_README,
        "{:.0f}k, {:.0f}k and {:.0f}k examples at 12, 18 and 24 heads".format(*heads),
    )


def of_speed() -> Iterator[tuple[str, str]]:
    steps = pd.read_csv(RESULTS / "speed" / "steps.csv", dtype=str)
    slow = steps[steps.run == "figures"]
    alone, together = slow[slow.seeds == "1"], slow[slow.seeds == "10"]
    yield (
        README,
        (
            f"at {alone.pytorch.iloc[0]} and {alone.pytorch.iloc[1]} examples/s, and ours at"
            f" {times_of(alone, 0)} and {times_of(alone, 1)}"
        ),
    )
    yield README, f"with one seed, {times_of(together, 0)} and {times_of(together, 1)} with ten"
    again = {run: steps[steps.run == run].times.tolist() for run in ("second", "third")}
    yield (
        README,
        "a second run gave {}x at width 100 and {}x at width 50,000".format(*again["second"]),
    )
    yield (
        README,
        "{}x ({}x with 3 seeds) and {}x, the two products alone {}x".format(*again["third"]),
    )
    blocks = pd.read_csv(RESULTS / "speed" / "blocked.csv", dtype=str)
    of_width = blocks[blocks.run == "third"].groupby("width").ms.apply(", ".join)
    yield README, f"{of_width['100']} ms at width 100 and {of_width['50000']} ms at width 50,000"
    products, plain, best = pd.read_csv(RESULTS / "speed" / "ratios.csv").itertuples(index=False)
    yield README, f"a step costs {products.low:g} times the two matrix products"
    yield README, f"{plain.low:.0f} to {plain.high:.0f} times as fast as by a plain recursion"
    yield (
        README,
        f"{best.low:.0f} to {best.high:.0f} times as fast as by the best recursion of ours",
    )


def of_costs() -> Iterator[tuple[str, str]]:
    minutes = pd.read_csv(RESULTS / "speed" / "costs.csv").set_index("what").minutes
    parts = ", ".join(
        f"{part} {minutes[f'make figures: {part}']:g}"
        for part in ("MLP", "Transformers", "grammars")
    )
    yield (
        README,
        (
            f"`make figures` took {minutes['make figures in a fresh clone']:g} minutes on two CPU"
            f" cores ({parts})"
        ),
    )
    yield README, f"([laptop](results/laptop/table.md), {minutes['laptop']:g} minutes)"
    yield README, f"ten other seeds ({minutes['transformer-laptop']:g} minutes)"
    yield README, f"{minutes['pcfg-laptop']:g} minutes on two cores"
    yield README, f"{minutes['paper'] / 60:g} hours on two cores"


def earlier(folder: str, commit: str, claim: str, name: str) -> pd.Series:
    """One measurement of an earlier publication."""
    history = pd.read_csv(RESULTS / "history.csv")
    (row,) = history[
        (history.folder == folder)
        & (history.commit == commit)
        & (history.claim == claim)
        & (history["name"] == name)
    ].index
    return history.loc[row]


def in_thousands(item: pd.Series) -> str:
    return f"{item.value / 1000:.0f}k [{item.low / 1000:.0f}k, {item.high / 1000:.0f}k]"


def in_hundredths(item: pd.Series) -> str:
    return f"{item.value:.2f} [{item.low:.2f}, {item.high:.2f}]"


def judged(preset: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / preset / "claims.json").read_text())["claims"]


def times_of(table: pd.DataFrame, row: int) -> str:
    return f"{table.here.iloc[row]} ({table.times.iloc[row]}x)"


@pytest.mark.parametrize("sentences", [of_results, of_earlier_results, of_speed, of_costs])
def test_numbers_in_sentences_come_from_the_results(
    sentences: Callable[[], Iterator[tuple[str, str]]],
) -> None:
    assert [words for text, words in sentences() if words not in " ".join(text.split())] == []


def test_printed_speed_ups_are_those_of_the_printed_numbers() -> None:
    """As far as their rounding allows."""
    steps = pd.read_csv(RESULTS / "speed" / "steps.csv", thousands=",").dropna()
    is_rate = steps.unit == "examples/s"
    expected = np.where(is_rate, steps.here / steps.pytorch, steps.pytorch / steps.here)
    np.testing.assert_allclose(steps.times, expected, rtol=0.03)


def test_links_exist() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (REPOSITORY / link).exists(), link
