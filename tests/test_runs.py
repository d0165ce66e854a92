"""Runs end to end on the tiny problem: identity, resume after SIGKILL and SIGTERM, damage, export,
schedules, probes."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from common.base.config import TrainingConfig
from common.base.errors import RunError, UserError
from common.experiment.requests import RunRequest, teacher_run
from common.nn.mlp import MLPConfig
from common.runs import __main__ as show
from common.runs import export
from common.runs.directory import RunDirectory, opened
from common.runs.trajectory import Trajectory
from common.train.optim import OptimConfig
from parity import distill, train
from parity.config import TrainConfig
from parity.data import ParityData
from parity.spec import SPEC
from tests.commands import run_module
from tests.conftest import TINY, TINY_STUDENT, TINY_TEACHER, same_run


def test_learns_and_is_finished(tiny_teacher: Path) -> None:
    run = RunDirectory(tiny_teacher)
    assert run.finished
    assert min(run.metrics()[-1]["accuracy"]) > 0.95
    assert Trajectory(run).steps() == tuple(range(0, 257, 16))
    assert not Trajectory(run).problems()


def test_a_finished_run_is_left_alone(
    tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tiny_teacher / "manifest.json").read_bytes()
    train.main(["--run-dir", str(tiny_teacher), *TINY_TEACHER])
    assert "already finished" in capsys.readouterr().err
    assert (tiny_teacher / "manifest.json").read_bytes() == before


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # TensorStore's callbacks outlive the failed read
def test_damage_is_found(tiny_teacher: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    largest = max(
        (damaged / "checkpoints" / "16").rglob("*"),
        key=lambda path: path.stat().st_size if path.is_file() else 0,
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(RunError, match=r"checkpoints/16"):
        Trajectory(RunDirectory(damaged)).restore(16)
    assert len(Trajectory(RunDirectory(damaged)).problems()) == 1
    result = run_module(
        "parity.distill", "--run-dir", tmp_path / "s", "--teacher", damaged, *TINY_STUDENT
    )
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
    result = run_module(
        "parity.train",
        "--run-dir",
        tmp_path / "run",
        *TINY_TEACHER,
        "--optim.learning-rate",
        "1e20",
    )
    assert result.returncode == 1
    assert "NaN or infinite at step" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "schedule",
    ["ce", "one-shot", "progressive", "two-shot", "till-saturate", "projections"],
)
def test_every_schedule_trains(tiny_teacher: Path, tmp_path: Path, schedule: str) -> None:
    args = [*TINY_STUDENT, "--schedule", schedule]
    teacher = (
        [] if schedule == "ce" else ["--teacher", str(tiny_teacher)]
    )  # which labels do without
    distill.main(["--run-dir", str(tmp_path / "s"), *teacher, *args])
    run = RunDirectory(tmp_path / "s")
    used = {step for record in run.metrics() for step in record["teacher_step"]}
    assert run.finished
    if schedule == "ce":
        assert used == {None}
    elif schedule == "till-saturate":
        assert used <= set(range(16, 257, 16))
    else:
        assert 256 in used


def test_what_would_have_no_effect_is_refused_or_said(
    refused: Callable[..., str],
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = ("--run-dir", tmp_path / "s")
    labels = (*run, *TINY_STUDENT, "--schedule", "ce")
    for teacher in (tiny_teacher, tmp_path / "nobody"):
        for rest in ((), ("--dry-run",)):
            assert "need no teacher" in refused(distill.main, *labels, "--teacher", teacher, *rest)
    assert "no teacher whose --teacher-seed" in refused(distill.main, *labels, "--teacher-seed", 0)
    for main, args in ((train.main, TINY_TEACHER), (distill.main, labels)):
        assert "leave out --optim.learning-rate" in refused(
            main, *run, *args, "--tuned-by", tiny_teacher
        )
    distill.main([*map(str, labels), "--dry-run"])
    assert "no effect with --schedule ce" in (said := capsys.readouterr().err)
    assert said.strip().endswith("--supervision.interval, --supervision.first-steps")
    assert not (tmp_path / "s").exists()


def test_export_loads_into_pytorch(tiny_teacher: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    export.main(
        [
            str(tiny_teacher),
            "--step",
            "256",
            "--out",
            str(tmp_path / "teacher.safetensors"),
            "--seed-index",
            "1",
        ]
    )
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    model.load_state_dict(load_file(tmp_path / "teacher.safetensors"))
    support = RunDirectory(tiny_teacher).manifest["supports"][0]
    x = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (1000, 8)).astype(np.float32))
    accuracy = (model(x).argmax(-1) == (x[:, support].prod(-1) > 0)).float().mean()
    assert float(accuracy) > 0.95


def test_an_exported_file_says_where_it_comes_from(tiny_teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher.safetensors"
    export.main([str(tiny_teacher), "--step", "64", "--out", str(out), "--seed-index", "1"])
    with safe_open(out, "numpy") as file:
        found = file.metadata()
    run = {"experiment": "parity", "stage": "train", "run": RunDirectory(tiny_teacher).hash}
    assert found == run | {"format": "pt", "step": "64", "seed": "1", "learning_rate": "0.5"}


def test_export_overwrites_nothing_unasked(
    refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_to = [tiny_teacher, "--step", "64", "--out"]
    assert "is a folder" in refused(export.main, *export_to, tmp_path)
    assert "does not exist" in refused(export.main, *export_to, tmp_path / "nowhere" / "x")
    assert "a device or a pipe" in refused(export.main, *export_to, "/dev/null", "--overwrite")
    thesis = tmp_path / "thesis"
    thesis.write_text("of years")
    assert "is there already" in refused(export.main, *export_to, thesis)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="quota"):
        patch.setattr("os.fsync", raising(OSError(errno.EDQUOT, "Disk quota exceeded")))
        export.main([*map(str, export_to), str(thesis), "--overwrite"])
    assert thesis.read_text() == "of years"
    assert list(tmp_path.iterdir()) == [thesis]
    export.main([*map(str, export_to), str(thesis), "--overwrite"])
    assert set(load_file(thesis)) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_bad_input_is_refused(
    refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path
) -> None:
    new = ("--run-dir", tmp_path / "new")
    student = (*new, "--teacher", tiny_teacher, *TINY_STUDENT)
    assert "unknown preset" in refused(train.main, *new, "--preset", "huge")
    assert "larger than data.d" in refused(train.main, *new, "--data.d", "5")
    assert "twice" in refused(train.main, *new, "--data.k", "2", "--data.support", "3", "3")
    assert "numbered 0 to" in refused(
        train.main, *new, "--data.k", "2", "--data.support", "3", "99"
    )
    assert "training.steps = 0" in refused(train.main, *new, "--training.steps", "0")
    assert "training.steps = -3" in refused(train.main, *new, "--training.steps", "-3")
    assert "finite" in refused(train.main, *new, "--optim.learning-rate", "nan")
    assert "Unrecognized" in refused(train.main, *new, "--optim.momentum", "1")
    assert "temperature" in refused(
        distill.main, *student, "--loss.labels", "soft", "--loss.temperature", "0"
    )
    assert "does not exist" in refused(
        distill.main, *new, *TINY_STUDENT, "--teacher", tmp_path / "nobody"
    )
    assert "needs --teacher" in refused(distill.main, *new, *TINY_STUDENT)
    assert "data.d = 8" in refused(distill.main, *student, "--data.d", "9")
    assert "step 17" in refused(
        distill.main, *student, "--schedule", "progressive", "--supervision.interval", "17"
    )
    assert "another configuration" in refused(
        train.main, "--run-dir", tiny_teacher, *TINY_TEACHER, "--data.seed", "5"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    assert "not a run directory" in refused(train.main, "--run-dir", tmp_path / "other", *TINY)
    assert "no checkpoint at step 7" in refused(
        export.main, tiny_teacher, "--step", "7", "--out", tmp_path / "x"
    )


def test_a_full_disk_is_one_message_and_loses_nothing(tiny_teacher: Path, tmp_path: Path) -> None:
    """The kernel's own error, from /dev/full; with space again the same command ends with the same
    bits."""
    run_dir = tmp_path / "run"
    args = ["--run-dir", str(run_dir), *TINY_TEACHER]
    training = TrainingConfig(
        steps=256, batch_size=16, eval_every=16, eval_examples=512, checkpoint_every=16, num_seeds=2
    )
    config = TrainConfig(ParityData(8, 2), MLPConfig(64), OptimConfig((0.5,)), training)
    run = teacher_run(SPEC, RunRequest(config, run_dir))
    with opened(run_dir, run.record, seeds=[0, 1], learning_rates=[0.5, 0.5], **run.provenance):
        (run_dir / "metrics.jsonl").symlink_to("/dev/full")
    result = run_module("parity.train", *args)
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    (run_dir / "metrics.jsonl").unlink()
    train.main(args)
    same_run(tiny_teacher, run_dir)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("RESOURCE_EXHAUSTED: No space left on device"),
        ValueError("UNKNOWN: Error writing local file [OS error 122: EDQUOT Disk quota exceeded]"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "checkpoints/0"),
    ],
)
def test_a_disk_that_fills_up_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", raising(error))
    with pytest.raises(
        RunError, match=r"the disk is full, or your quota is used up.*nothing saved so far is lost"
    ):
        train.main(["--run-dir", str(tmp_path / "run"), *TINY_TEACHER])


def test_a_checkpoint_that_the_system_refuses_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["--run-dir", str(tmp_path / "run"), *TINY_TEACHER]
    monkeypatch.setattr(
        "orbax.checkpoint.Checkpointer.save",
        raising(ValueError("INTERNAL: Input/output error\nfrom somewhere")),
    )
    with pytest.raises(
        RunError,
        match=(
            r"could not write .*checkpoints/0 \(ValueError: INTERNAL: Input/output error\); nothing"
            r" saved so far is lost"
        ),
    ):
        train.main(args)
    monkeypatch.setattr(
        "orbax.checkpoint.Checkpointer.save",
        raising(PermissionError(errno.EACCES, "Permission denied", "checkpoints")),
    )
    with pytest.raises(UserError, match="no permission to read or write"):
        train.main(args)


def raising(error: Exception) -> Callable[..., None]:
    """A function that fails."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_a_run_that_cannot_fit_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.train.run.free_bytes", lambda _: 1000)
    with pytest.raises(
        RunError,
        match=r"what is still to be written needs .* kB, the disk has 1 kB free; free .* kB more",
    ):
        train.main(["--run-dir", str(tmp_path / "run"), *TINY_TEACHER])


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "metrics.jsonl"])
def test_a_damaged_record_is_one_message(tiny_teacher: Path, tmp_path: Path, name: str) -> None:
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    (damaged / name).write_text((damaged / name).read_text()[:-30] + "\n")
    with pytest.raises(RunError, match=rf"{name} is corrupted.*run its command again"):
        RunDirectory(damaged).metrics()


def test_a_missing_checkpoint_is_one_message(tiny_teacher: Path, tmp_path: Path) -> None:
    incomplete = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, incomplete)
    shutil.rmtree(incomplete / "checkpoints" / "256")
    args = [
        "--run-dir",
        str(tmp_path / "s"),
        "--teacher",
        str(incomplete),
        *TINY_STUDENT,
        "--schedule",
        "one-shot",
    ]
    with pytest.raises(RunError, match=r"checkpoints/256 cannot be read"):
        distill.main(args)


def test_students_need_teachers_of_their_seeds(
    refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path
) -> None:
    args = ["--run-dir", tmp_path / "s", "--teacher", tiny_teacher, *TINY_STUDENT]
    assert "has seeds [0, 1], not [2, 3]" in refused(distill.main, *args, "--training.seed", "2")
    distill.main([*map(str, args), "--training.seed", "2", "--teacher-seed", "1"])
    assert RunDirectory(tmp_path / "s").finished
    sweep = tmp_path / "sweep"
    train.main(["--run-dir", str(sweep), *TINY_TEACHER, "--optim.learning-rate", "0.3", "0.5"])
    assert "is a sweep" in refused(
        distill.main, "--run-dir", tmp_path / "t", "--teacher", sweep, *TINY_STUDENT
    )
    assert "no transition" in refused(
        distill.main, *two_shot_from_a_teacher_that_never_learns(tmp_path)
    )


def two_shot_from_a_teacher_that_never_learns(tmp_path: Path) -> list[str]:
    """Arguments of a student whose teacher stays at chance."""
    train.main(
        ["--run-dir", str(tmp_path / "slow"), *TINY_TEACHER, "--optim.learning-rate", "1e-6"]
    )
    return [
        "--run-dir",
        str(tmp_path / "u"),
        "--teacher",
        str(tmp_path / "slow"),
        *TINY_STUDENT,
        "--schedule",
        "two-shot",
    ]


def test_a_teacher_that_never_learns_may_teach_by_its_final_checkpoint(tmp_path: Path) -> None:
    distill.main(
        [
            *two_shot_from_a_teacher_that_never_learns(tmp_path),
            "--supervision.without-transition",
            "final",
        ]
    )
    manifest = RunDirectory(tmp_path / "u").manifest
    assert {
        segment["teacher_step"]
        for schedule in manifest["schedules"]["distinct"]
        for segment in schedule["segments"]
    } == {256}
    assert all(set(found) == {"reason"} for found in manifest["transitions"])


def test_dry_run_shows_the_schedule_and_writes_nothing(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [
        "--run-dir",
        str(tmp_path / "s"),
        *TINY_STUDENT,
        "--dry-run",
        "--schedule",
        "progressive",
        "--supervision.interval",
        "96",
    ]
    distill.main([*args, "--teacher", str(tiny_teacher)])
    out = capsys.readouterr().out
    assert re.search(r"0 \.\. 95 .* 96 .* found", out)
    assert re.search(r"192 \.\. 255 .* 256 .* found", out)
    with pytest.raises(UserError, match="step 100"):
        distill.main([*args[:-1], "100", "--teacher", str(tiny_teacher)])
    assert re.search(r"0 \.\. 99 .* 100 .* MISSING", capsys.readouterr().out)
    assert not (tmp_path / "s").exists()


def test_runs_command_shows_and_verifies(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show.main([str(tiny_teacher), "--verify"])
    out = capsys.readouterr().out
    assert "17 checkpoints match" in out
    assert "finished in" in out
    assert "config.data.d" in out
    damaged = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["checkpoints"]["32"] = "0" * 64
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    result = run_module("common.runs", damaged, "--verify")
    assert result.returncode == 1
    assert "checkpoints/32 does not match" in result.stderr
    assert run_module("common.runs", tmp_path / "nowhere").returncode == 2


def test_an_unwritable_run_directory_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_module("parity.train", "--run-dir", tmp_path / "file" / "run", *TINY)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_locked_run_is_refused(tiny_teacher: Path) -> None:
    from common.runs.lock import locked

    with locked(tiny_teacher), pytest.raises(UserError, match="in use by another process"):
        train.main(["--run-dir", str(tiny_teacher), *TINY_TEACHER])
