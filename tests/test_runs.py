"""Runs end to end on the tiny problem: identity, resume after SIGKILL and SIGTERM, damage, export, schedules, probes."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common import export
from common.errors import RunError, UserError
from common.runs import RunDirectory
from common.trajectory import Trajectory, content_hash
from parity import distill, probe, train
from tests.conftest import REPOSITORY, TINY, TINY_STUDENT, TINY_TEACHER, run_module


def same_run(a: Path, b: Path) -> None:
    """Bit-identical metrics, parameters and probes."""
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert RunDirectory(a).manifest["checkpoints"] == RunDirectory(b).manifest["checkpoints"]
    for step in Trajectory(RunDirectory(a)).steps():
        assert content_hash(Trajectory(RunDirectory(a)).restore(step)) == content_hash(Trajectory(RunDirectory(b)).restore(step))


def kill_until_done(module: str, args: list[str], done: Path, kills: int, seed: int) -> int:
    """Start a command again and again, with SIGKILL at random moments, until `kills` have hit; then let it finish."""
    rng, hit = random.Random(seed), 0
    for _ in range(3 * kills):
        if hit == kills or done.exists():
            break
        process = subprocess.Popen([sys.executable, "-m", module, *args], cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(2.0, 5.0))
        if process.poll() is None:
            hit += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = run_module(module, *args)
    assert finished.returncode == 0, finished.stderr
    return hit


def test_learns_and_is_finished(tiny_teacher: Path) -> None:
    run = RunDirectory(tiny_teacher)
    assert run.finished
    assert min(run.metrics()[-1]["accuracy"]) > 0.95
    assert Trajectory(run).steps() == tuple(range(0, 257, 16))
    assert not Trajectory(run).problems()


def test_a_finished_run_is_left_alone(tiny_teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tiny_teacher / "manifest.json").read_bytes()
    train.main(["--run-dir", str(tiny_teacher), *TINY_TEACHER])
    assert "already finished" in capsys.readouterr().err
    assert (tiny_teacher / "manifest.json").read_bytes() == before


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    """Killed teacher, student and probe end with the same bits as uninterrupted ones."""
    longer = [*TINY_TEACHER, "--training.steps", "4096", "--training.checkpoint-every", "64", "--runtime.resume-seconds", "0.01"]
    student = [*TINY_STUDENT, "--training.steps", "2048", "--schedule", "till-saturate", "--supervision.patience", "128"]
    student += ["--supervision.interval", "64", "--runtime.resume-seconds", "0.01"]
    runs = {name: (tmp_path / name / "teacher", tmp_path / name / "student") for name in ("whole", "killed")}
    train.main(["--run-dir", str(runs["whole"][0]), *longer])
    distill.main(["--run-dir", str(runs["whole"][1]), "--teacher", str(runs["whole"][0]), *student])
    probe.main([str(runs["whole"][0]), "--num-examples", "4096"])

    teacher, killed_student = runs["killed"]
    hits = kill_until_done("parity.train", ["--run-dir", str(teacher), *longer], teacher / "DONE", 4, seed=0)
    args = ["--run-dir", str(killed_student), "--teacher", str(teacher), *student]
    hits += kill_until_done("parity.distill", args, killed_student / "DONE", 3, seed=1)
    hits += kill_until_done("parity.probe", [str(teacher), "--num-examples", "4096"], teacher / "probes" / probe.SUMMARY, 3, seed=2)
    same_run(*(pair[0] for pair in runs.values()))
    same_run(*(pair[1] for pair in runs.values()))
    for name in (probe.IN_SUPPORT, probe.BY_STRATUM):
        assert (runs["whole"][0] / "probes" / name).read_bytes() == (teacher / "probes" / name).read_bytes()
    assert hits >= 3


def test_sigterm_saves_and_stops(tmp_path: Path) -> None:
    args = [*TINY_TEACHER, "--training.steps", "100000", "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-m", "parity.train", *args], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoints" / "64").exists():
        time.sleep(0.05)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "goes on from there" in message
    assert RunDirectory(tmp_path / "run").manifest["resume"]["step"] >= 64


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # TensorStore's callbacks outlive the failed read
def test_damage_is_found(tiny_teacher: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    largest = max((damaged / "checkpoints" / "16").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(RunError, match=r"checkpoints/16"):
        Trajectory(RunDirectory(damaged)).restore(16)
    assert len(Trajectory(RunDirectory(damaged)).problems()) == 1
    result = run_module("parity.distill", "--run-dir", tmp_path / "s", "--teacher", damaged, *TINY_STUDENT)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_wrong_hash_is_found(tiny_teacher: Path, tmp_path: Path) -> None:
    changed = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["checkpoints"]["16"] = manifest["checkpoints"]["32"]
    (changed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="does not match the hash"):
        Trajectory(RunDirectory(changed)).restore(16)


def test_divergence_is_an_error_with_its_step(tmp_path: Path) -> None:
    result = run_module("parity.train", "--run-dir", tmp_path / "run", *TINY_TEACHER, "--optim.learning-rate", "1e20")
    assert result.returncode == 1
    assert "NaN or infinite at step" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("schedule", ["ce", "one-shot", "progressive", "two-shot", "n-shot", "till-saturate"])
def test_every_schedule_trains(tiny_teacher: Path, tmp_path: Path, schedule: str) -> None:
    args = [*TINY_STUDENT, "--schedule", schedule, "--supervision.segments", "32", "16", "64", "16"]
    distill.main(["--run-dir", str(tmp_path / "s"), "--teacher", str(tiny_teacher), *args])
    run = RunDirectory(tmp_path / "s")
    used = {step for record in run.metrics() for step in record["teacher_step"]}
    assert run.finished
    if schedule == "ce":
        assert used == {None}
    elif schedule == "till-saturate":
        assert used <= set(range(16, 257, 16))
    else:
        assert 256 in used


def test_export_loads_into_pytorch(tiny_teacher: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    export.main([str(tiny_teacher), "--step", "256", "--out", str(tmp_path / "teacher.safetensors"), "--seed-index", "1"])
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    model.load_state_dict(load_file(tmp_path / "teacher.safetensors"))
    support = RunDirectory(tiny_teacher).manifest["support"]
    x = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (1000, 8)).astype(np.float32))
    accuracy = (model(x).argmax(-1) == (x[:, support].prod(-1) > 0)).float().mean()
    assert float(accuracy) > 0.95


def test_bad_input_is_refused(refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path) -> None:
    new = ("--run-dir", tmp_path / "new")
    student = (*new, "--teacher", tiny_teacher, *TINY_STUDENT)
    assert "unknown preset" in refused(train.main, *new, "--preset", "huge")
    assert "larger than data.d" in refused(train.main, *new, "--data.d", "5")
    assert "twice" in refused(train.main, *new, "--data.k", "2", "--data.support", "3", "3")
    assert "numbered 0 to" in refused(train.main, *new, "--data.k", "2", "--data.support", "3", "99")
    assert "training.steps = 0" in refused(train.main, *new, "--training.steps", "0")
    assert "training.steps = -3" in refused(train.main, *new, "--training.steps", "-3")
    assert "finite" in refused(train.main, *new, "--optim.learning-rate", "nan")
    assert "Unrecognized" in refused(train.main, *new, "--optim.momentum", "1")
    assert "temperature" in refused(distill.main, *student, "--loss.labels", "soft", "--loss.temperature", "0")
    assert "does not exist" in refused(distill.main, *new, *TINY_STUDENT, "--teacher", tmp_path / "nobody")
    assert "needs --teacher" in refused(distill.main, *new, *TINY_STUDENT)
    assert "data.d = 8" in refused(distill.main, *student, "--data.d", "9")
    assert "step 17" in refused(distill.main, *student, "--schedule", "n-shot", "--supervision.segments", "17", "5")
    assert "another configuration" in refused(train.main, "--run-dir", tiny_teacher, *TINY_TEACHER, "--data.seed", "5")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    assert "not a run directory" in refused(train.main, "--run-dir", tmp_path / "other", *TINY)
    assert "no checkpoint at step 7" in refused(export.main, tiny_teacher, "--step", "7", "--out", tmp_path / "x")


def test_an_unwritable_run_directory_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_module("parity.train", "--run-dir", tmp_path / "file" / "run", *TINY)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_locked_run_is_refused(tiny_teacher: Path) -> None:
    from common.runs import locked

    with locked(tiny_teacher), pytest.raises(UserError, match="in use by another process"):
        train.main(["--run-dir", str(tiny_teacher), *TINY_TEACHER])
