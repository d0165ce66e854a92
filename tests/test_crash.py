"""Processes killed and preempted at random moments: the same command goes on and ends with the same bits."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common.runs import RunDirectory
from parity import distill, probe, train
from tests.commands import REPOSITORY, run_module, start_module
from tests.conftest import TINY_STUDENT, TINY_TEACHER, same_run

RING = ("--training.ring-every", "16", "--training.ring-size", "4")


def kill_repeatedly(module: str, args: list[str], written: Callable[[], int], kills: int, seed: int) -> int:
    """Start a command again and again; SIGKILL it at a random moment after it has written a few more things; then let it finish.

    Args:
        module: what to run.
        args: its arguments.
        written: counts what the command has left on disk so far.
        kills: how often.
        seed: of the moments.

    Returns:
        How many processes were killed while they worked.
    """
    rng, hits = random.Random(seed), 0
    for _ in range(kills):
        wanted = written() + rng.randint(1, 3)
        process = start_module(module, *args)
        while process.is_alive() and written() < wanted:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        hits += process.is_alive()
        process.kill()
        process.join()
    finished = run_module(module, *args)
    assert finished.returncode == 0, finished.stderr
    return hits


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    """Teacher, student and probe, killed at least ten times in all, end with the same bits as uninterrupted ones."""
    longer = [*TINY_TEACHER, "--training.steps", "4096", "--training.checkpoint-every", "64", *RING, "--runtime.resume-seconds", "0.01"]
    student = [*TINY_STUDENT, "--training.steps", "2048", "--schedule", "till-saturate", "--supervision.patience", "128"]
    student += ["--supervision.interval", "64", "--runtime.resume-seconds", "0.01"]
    probing = ["--num-examples", "65536"]
    runs = {name: (tmp_path / name / "teacher", tmp_path / name / "student") for name in ("whole", "killed")}
    train.main(["--run-dir", str(runs["whole"][0]), *longer])
    distill.main(["--run-dir", str(runs["whole"][1]), "--teacher", str(runs["whole"][0]), *student])
    probe.main([str(runs["whole"][0]), *probing])

    teacher, killed_student = runs["killed"]
    hits = kill_repeatedly("parity.train", ["--run-dir", str(teacher), *longer], lambda: lines(teacher / "metrics.jsonl"), 5, seed=0)
    args = ["--run-dir", str(killed_student), "--teacher", str(teacher), *student]
    hits += kill_repeatedly("parity.distill", args, lambda: lines(killed_student / "metrics.jsonl"), 4, seed=1)
    parts = teacher / "probes" / "correlations.parts"
    hits += kill_repeatedly("parity.probe", [str(teacher), *probing], lambda: len(list(parts.glob("*.npz"))), 3, seed=2)
    same_run(*(pair[0] for pair in runs.values()))
    same_run(*(pair[1] for pair in runs.values()))
    for name in (probe.IN_SUPPORT, probe.BY_STRATUM):
        assert (runs["whole"][0] / "probes" / name).read_bytes() == (teacher / "probes" / name).read_bytes()
    assert hits >= 10


def lines(path: Path) -> int:
    """Lines in a file that may not exist yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_sigterm_saves_and_stops(tmp_path: Path) -> None:
    args = [*TINY_TEACHER, "--training.steps", "100000", "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-m", "parity.train", *args], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoints" / "64").exists():
        time.sleep(0.05)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in message
    assert "goes on from there" in message
    assert "Traceback" not in message
    assert RunDirectory(tmp_path / "run").manifest["resume"]["step"] >= 64
