"""A whole experiment on a problem that is learnt in a second."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.base.config import Preset, TrainingConfig
from common.nn.mlp import MLPConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from figures import make
from parity import experiment
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.presets import (
    PRESETS,
    EquivalenceConfig,
    Experiment,
    FirstCheckpointConfig,
    ReplicaConfig,
    TreeConfig,
    TuningConfig,
)


def tiny_experiment() -> Experiment:
    data, budget = (
        ParityData(8, 2),
        TrainingConfig(
            steps=256, batch_size=16, eval_every=8, eval_examples=512, seed=3, num_seeds=2
        ),
    )
    return Experiment(
        teacher=TrainConfig(
            data, MLPConfig(64), OptimConfig((0.5,)), replace(budget, checkpoint_every=8)
        ),
        student=StudentConfig(
            data,
            MLPConfig(8),
            OptimConfig((0.5,)),
            budget,
            supervision=ScheduleConfig(interval=8, first_steps=64, projection_steps=1),
        ),
        label_steps=512,
        sizes=((8, 512), (16, 512), (64, 256)),
        tuning=TuningConfig((0.2, 0.4, 0.6, 0.8), seed=50, num_seeds=2),
        probe_examples=2048,
        tree=TreeConfig(k=1, depth=2, steps=512, eval_every=8),
        first=FirstCheckpointConfig(
            (-16, 0, 16), first_steps=64, steps=128, eval_every=8, num_seeds=2
        ),
        replicas=(ReplicaConfig(seed=9, steps=128, stop_after=20.0),),
        equivalence=EquivalenceConfig(seed=30, num_seeds=2),
    )


def run_and_draw(root: Path) -> None:
    """Run it as the preset `quick`, with what goes beyond the paper, and draw it; a second time
    there is nothing to do."""
    command = ["--preset", "quick", "--root", str(root), "--beyond"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", Preset("quick", "A tiny problem.", tiny_experiment()))
        experiment.main(command)
        for stray in (
            ".DS_Store",
            "teacher-notes.txt",
            "tune/.DS_Store",
            "student/Thumbs.db",
            "teacher/checkpoints/.DS_Store",
            "app/manifest.json",
        ):
            path = root / "parity" / "quick" / stray
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        make.main(["--preset", "quick", "--root", str(root), "--out", str(root / "site")])
        before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("manifest.json"))
        experiment.main(command)
        assert before == sorted(
            (path, path.stat().st_mtime_ns) for path in root.rglob("manifest.json")
        )
