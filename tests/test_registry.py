"""What every experiment of the registry gets for free: its configurations are valid and survive
JSON, and every stage of every preset is a command that parses to what is run."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.base.config import from_dict, parse, to_dict, validate
from common.experiment.commands import ProbeCommand, distill_command, request_of, train_command
from common.experiment.plan import plan_preset, print_plan
from common.experiment.stages import DataStage, JudgementStage, ProbeStage, RunStage, Stage
from common.train.problem import Problem
from figures import registry

pytestmark = pytest.mark.usefixtures("preset_corpora")
PRESETS = [(name, preset) for name in registry.names() for preset in registry.spec_of(name).presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_configurations_are_valid_and_survive_json(name: str, preset: str) -> None:
    spec = registry.spec_of(name)
    experiment = spec.presets[preset].config
    validate(experiment)
    for config in (experiment, experiment.teacher, experiment.student):
        assert from_dict(type(config), to_dict(config), Path("config.json")) == config
    problems = (
        spec.teacher_problem(experiment.teacher),
        spec.student_problem(experiment.student, experiment.teacher),
        spec.student_problem(experiment.student, None),
    )
    assert all(isinstance(problem, Problem) and problem.lanes for problem in problems)
    assert [problem.teaching is not None for problem in problems] == [False, True, False]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_are_documented(name: str, preset: str) -> None:
    spec = registry.spec_of(name)
    assert spec.presets[preset].name == preset
    assert f"python -m {name}.experiment --preset {preset}" in spec.presets[preset].note


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_stage_is_a_command_that_parses(
    name: str, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = registry.spec_of(name)
    stages = plan_preset(spec, preset, tmp_path, beyond=True)
    each_after_what_it_needs(stages)
    print_plan(stages)
    assert "to do" in capsys.readouterr().out
    for stage in stages:
        if isinstance(stage, DataStage):
            is_of_these_tests = not stage.kept.is_relative_to(tmp_path)
            assert stage.is_done() == is_of_these_tests
            continue
        assert not stage.is_begun()
        if isinstance(stage, RunStage):
            says_what_it_does(stage)
        elif isinstance(stage, ProbeStage):
            command_type = ProbeCommand[type(stage.probe.settings)]
            command = parse(command_type, stage.command[1:], prog="", description="")
            assert (command.run_dir, command.settings) == (stage.run_dir, stage.settings)
        else:
            assert isinstance(stage, JudgementStage)
            assert stage.command[:3] == (f"{name}.claims", "--preset", preset)


def each_after_what_it_needs(stages: Sequence[Stage]) -> None:
    """Stages come in order, each with an output of its own."""
    known: set[Path] = set()
    for stage in stages:
        assert set(stage.needs) <= known, stage.name
        assert stage.output not in known, stage.name
        known.add(stage.output)


def says_what_it_does(stage: RunStage) -> None:
    """A run's command, typed by a person, asks for what the stage runs in this process."""
    module, *words = stage.command
    assert module == f"{stage.spec.name}.{stage.stage}"
    commands = {"train": train_command, "distill": distill_command}
    command = commands[stage.stage](stage.spec, words)
    assert request_of(command) == stage.request
    assert not command.dry_run
