"""Stages as jobs of a real Slurm, which tests/slurm/run starts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from common.runs.directory import RunDirectory
from tests.commands import REPOSITORY

pytestmark = pytest.mark.skipif(
    "CURRICULUM_SLURM" not in os.environ, reason="needs a Slurm; run tests/slurm/run"
)
HOME = Path("runs/small_parity/quick")
RUNS = ("teacher", "labels", "student")
WITHOUT_ACCOUNTING = (
    *("--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "5"),
)


def environment(**more: str) -> Mapping[str, str]:
    folder = f"{REPOSITORY / 'tests' / 'slurm'}{os.pathsep}{REPOSITORY}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return kept | {"PYTHONPATH": folder, "CURRICULUM_EXPERIMENTS": "small_parity", **more}


def wait_for(what: str, is_so: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


def job_of(rule: str) -> str:
    """The number of the running job of a rule."""
    columns = ("squeue", "--noheader", "--states", "RUNNING", "--format", "%i %k")
    jobs = subprocess.run(columns, capture_output=True, text=True, check=True).stdout
    (number,) = [line.split()[0] for line in jobs.splitlines() if rule in line]
    return number


def verdicts(folder: Path) -> Any:
    return json.loads((folder / HOME / "claims.json").read_text())["claims"]


def logs(folder: Path, rule: str) -> str:
    """What the jobs of a rule have printed."""
    files = sorted((folder / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime)
    return "\n".join(path.read_text() for path in files if rule in str(path))


def test_stopped_jobs_go_on_and_end_as_runs_that_nobody_stops(tmp_path: Path) -> None:
    """One is stopped by its time limit, one by a signal; both are submitted again."""
    alone, jobs = tmp_path / "alone", tmp_path / "jobs"
    alone.mkdir()
    jobs.mkdir()
    here = environment(JAX_NUM_CPU_DEVICES="1")
    command = (sys.executable, "-m", "small_parity.experiment")
    subprocess.run(command, cwd=alone, env=here, check=True, capture_output=True)

    slow = environment(SLOW="0.9")
    flags = (
        *("--snakefile", REPOSITORY / "Snakefile", "--profile", REPOSITORY / "profiles/slurm"),
        *("--config", "cores_each=1", "--slurm-logdir", jobs / "logs", *WITHOUT_ACCOUNTING),
        *("--slurm-keep-successful-logs", "--default-resources", "slurm_extra=''"),
        *("--set-resources", "small_parity_quick/teacher:runtime=1"),
    )
    words = ("-m", "snakemake", "figures_small_parity_quick", *map(str, flags))
    with (tmp_path / "snakemake.log").open("w") as log:
        graph = subprocess.Popen(
            [sys.executable, *words], cwd=jobs, env=slow, stdout=log, stderr=log
        )
    metrics = jobs / HOME / "labels" / "metrics.jsonl"
    wait_for("labels are learnt", lambda: metrics.exists() and metrics.stat().st_size > 0, 300)
    number = job_of("labels")
    subprocess.run(["scancel", "--signal=USR1", number], check=True)
    assert graph.wait(timeout=900) == 0, (tmp_path / "snakemake.log").read_text()

    assert verdicts(jobs) == verdicts(alone)
    for name in RUNS:
        same, other = (folder / HOME / name / "metrics.jsonl" for folder in (jobs, alone))
        assert same.read_bytes() == other.read_bytes(), name
    starts = {name: RunDirectory(jobs / HOME / name).manifest["starts"] for name in RUNS}
    assert len(starts["teacher"]) > 1 and len(starts["labels"]) > 1
    # Of the cores of this machine each job was granted one.
    devices = [start["device"]["count"] for of_run in starts.values() for start in of_run]
    assert set(devices) == {1}
    assert "SIGTERM" in logs(jobs, "teacher") and "SIGUSR1" in logs(jobs, "labels")
    assert (jobs / "site/small_parity/quick/report.html").exists()
