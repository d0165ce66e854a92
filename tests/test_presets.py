"""The presets that users get: valid, documented, plannable, and able to start."""

import itertools
from pathlib import Path

import pytest

from common.base.config import to_dict
from common.experiment.plan import plan_preset
from common.runs.directory import RunDirectory
from parity import distill, train
from parity.presets import PRESETS
from parity.spec import SPEC
from tests.looking import look_at_stages


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_teacher_without_a_transition_ends_an_experiment(name: str) -> None:
    stages = [
        stage
        for stage in plan_preset(SPEC, name, Path("runs"), beyond=True)
        if "two-shot" in stage.command
    ]
    assert stages
    for stage in stages:
        assert ("--supervision.without-transition", "final") in itertools.pairwise(stage.command)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_says_how_long_every_first_stage_lasts(name: str) -> None:
    """A projected layer lasts one or two of the intervals of progressive, the first checkpoint of
    two-shot longer."""
    supervision = PRESETS[name].config.student.supervision
    assert supervision.projection_steps in (supervision.interval, 2 * supervision.interval)
    assert (
        supervision.first_steps is not None
        and supervision.first_steps > supervision.projection_steps
    )


def test_an_experiment_with_soft_labels_has_one_shot_once() -> None:
    names = {
        name: {stage.name for stage in plan_preset(SPEC, name, Path("runs"))}
        for name in ("quick", "transformer-laptop")
    }
    assert {"student/one-shot", "student/one-shot-soft"} <= names["quick"]
    assert {name for name in names["transformer-laptop"] if "one-shot" in name} == {
        "tune/one-shot",
        "student/one-shot",
    }


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_stage_of_a_preset_can_be_looked_at(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dry run of each training stage before anything exists; what reads a run that does not exist
    yet says so."""
    mains = {"parity.train": train.main, "parity.distill": distill.main}
    look_at_stages(plan_preset(SPEC, name, tmp_path, beyond=True), mains, capsys)


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("laptop", ()),
        ("paper", ()),
        ("transformer-laptop", ("--training.eval-examples", "64")),
        ("transformer-paper", ("--training.batch-size", "2", "--training.eval-examples", "8")),
    ],
)
def test_large_presets_start(name: str, smaller: tuple[str, ...], tmp_path: Path) -> None:
    """The published teachers (and the laptop's) train their first steps and save them."""
    args = [
        "--preset",
        name,
        "--run-dir",
        str(tmp_path / "run"),
        "--training.steps",
        "4",
        "--training.checkpoint-every",
        "2",
        *smaller,
    ]
    train.main([*args, "--training.num-seeds", "1", "--training.eval-every", "4"])
    run = RunDirectory(tmp_path / "run")
    expected = to_dict(PRESETS[name].config.teacher)
    assert run.finished
    assert run.record["config"]["model"] == expected["model"]
    assert run.record["config"]["data"] == expected["data"]
