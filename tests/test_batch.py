"""What batch systems are asked for, and the cores that they grant."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.base.config import parse
from common.base.errors import RunError
from common.base.mesh import num_cores
from common.experiment.batch import Asked, read_asked, write_asked
from common.experiment.commands import ExperimentCommand
from common.experiment.costs import Cost
from common.runs.__main__ import RunsCommand
from figures.reproduce import ReproduceCommand
from parity import experiment
from tests.commands import REPOSITORY

GB = 2**30


def cost(seconds: float, memory: int, *, is_scaled: bool) -> Cost:
    return Cost(seconds, memory, 0, 0, may_end_sooner=True, is_scaled=is_scaled)


def test_jobs_ask_for_more_than_is_projected(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs = {
        Path("a/DONE"): cost(30, GB, is_scaled=False),
        Path("b/DONE"): cost(7200, GB, is_scaled=True),
    }
    write_asked(path, costs)
    asked = read_asked(path)
    assert asked == {
        "": Asked(240, 8000, 0),
        "a/DONE": Asked(11, 1536 + 2000, 0),
        "b/DONE": Asked(190, 3072 + 2000, 0),
    }
    path.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_asked(path)


def test_with_a_gpu_the_machine_needs_no_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    path = tmp_path / "new" / "costs.json"
    write_asked(path, {Path("a/DONE"): cost(60, GB, is_scaled=False)})
    assert read_asked(path) == {"": Asked(240, 8000, 1), "a/DONE": Asked(12, 8000, 1)}


def test_costs_are_kept_by_a_dry_run_alone(tmp_path: Path, refused: Callable[..., str]) -> None:
    costs = ("--costs", tmp_path / "costs.json")
    where = ("--root", tmp_path / "runs")
    assert "keeps what --dry-run finds out" in refused(experiment.main, *where, *costs)
    experiment.main([*map(str, (*where, *costs)), "--dry-run"])
    asked = read_asked(tmp_path / "costs.json")
    # As made up in conftest: a thousandth of a second a step.
    assert asked[str(tmp_path / "runs" / "parity" / "quick" / "teacher" / "DONE")].minutes > 10
    assert not (tmp_path / "runs").exists()


def test_cores_are_those_that_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    here = len(os.sched_getaffinity(0))
    for granted, count in (
        ("1", 1),
        (str(here + 5), here),
        ("", here),
        ("0", here),
        ("2(x3)", here),
    ):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
        assert num_cores() == count, granted


PAGE = (REPOSITORY / "profiles" / "README.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.S | re.M)
    for line in block.splitlines()
]
ARGUMENTS: dict[str, Any] = {
    "parity.experiment": ExperimentCommand,
    "figures.reproduce": ReproduceCommand,
    "common.runs": RunsCommand,
}


def test_the_page_for_batch_users_types_commands_that_are_there() -> None:
    modules = [words[words.index("-m") + 1 :] for words in COMMANDS if "-m" in words]
    assert {module for module, *_ in modules} == ARGUMENTS.keys()
    for module, *arguments in modules:
        parse(ARGUMENTS[module], arguments, prog=module, description="")
    for name in re.findall(r"`([\w.-]+/[\w./-]+)`", PAGE):
        assert (REPOSITORY / name).exists() or name.startswith(("/", "parity_")), name


def test_the_page_for_batch_users_plans_jobs(tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    planned = [words for words in COMMANDS if words[0] == "snakemake"]
    assert [words[-1] for words in planned] == ["profiles/slurm", "--unlock"]
    for words in planned:
        command = [sys.executable, "-m", *words, "--dry-run", "--directory", str(tmp_path)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
