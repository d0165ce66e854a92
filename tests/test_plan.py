"""What an experiment plans, what its commands say, and what they refuse."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.base.errors import UserError
from common.experiment.plan import plan
from common.nn.blocks import TransformerConfig
from figures import make
from parity.spec import SPEC
from tests.commands import run_module
from tests.test_experiment import tiny_experiment


def test_teacher_and_student_are_of_one_kind() -> None:
    tiny = tiny_experiment()
    with pytest.raises(ValueError, match="two kinds"):
        replace(tiny, teacher=replace(tiny.teacher, model=TransformerConfig(2)))
    with pytest.raises(ValueError, match="student's width 8 another budget"):
        replace(tiny, label_steps=100)


def test_a_teacher_may_keep_its_rate() -> None:
    tiny = tiny_experiment()
    assert tiny.tuning is not None
    with pytest.raises(ValueError, match="its rate is not tuned"):
        replace(tiny, tuning=replace(tiny.tuning, teacher=False))
    for sizes in (tiny.sizes, tiny.sizes[:2]):
        fixed = replace(tiny, sizes=tiny.sizes[:2], tuning=replace(tiny.tuning, teacher=False))
        tuned = replace(tiny, sizes=sizes)
        for config, is_tuned in ((fixed, False), (tuned, True)):
            stages = {stage.name: stage for stage in plan(SPEC, config, Path("runs"))}
            assert all(
                ("--tuned-by" in stages[name].command) == is_tuned
                for name in ("teacher", "tune/teacher")
            )
            assert "--tuned-by" in stages["student/progressive"].command
            assert ("tune/teacher-rate" in stages) == (is_tuned and len(sizes) == 2)


def test_figures_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"parity\.experiment --preset quick"):
        make.main(["--preset", "quick", "--root", str(tmp_path)])


@pytest.mark.parametrize(
    "module",
    [
        "parity.train",
        "parity.distill",
        "parity.probe",
        "parity.experiment",
        "parity.claims",
        "figures.make",
    ],
)
def test_help_teaches(module: str) -> None:
    result = run_module(module, "--help")
    assert result.returncode == 0
    assert "usage: python -m" in result.stdout
