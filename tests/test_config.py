"""Configurations: what is refused and how it is said, checkpoint grids, JSON round trips,
identity."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pcfg.distill
import pcfg.experiment
import pcfg.train
from common.base.config import (
    IS_EXPERIMENT,
    SETS_DEFAULTS,
    TrainingConfig,
    as_flags,
    fingerprint,
    flags_of,
    from_dict,
    parse,
    to_dict,
    validate,
    with_overrides,
)
from common.base.errors import RunError, UserError
from common.experiment.commands import DistillCommand
from common.nn.mlp import MLPConfig
from common.train.optim import OptimConfig
from parity import distill, experiment, law, train
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.presets import PRESETS
from parity.spec import SPEC

CONFIG = TrainConfig(ParityData(8, 2), MLPConfig(4), OptimConfig((0.1,)), TrainingConfig(10, 2, 5))


@given(steps=st.integers(1, 3000), every=st.integers(0, 500), log_spaced=st.booleans())
def test_checkpoint_grid(steps: int, every: int, log_spaced: bool) -> None:
    if log_spaced and every == 0:
        with pytest.raises(ValueError, match="checkpoint_log_spaced"):
            TrainingConfig(steps, 1, 1, checkpoint_every=0, checkpoint_log_spaced=True)
        return
    grid = TrainingConfig(
        steps, 1, 1, checkpoint_every=every, checkpoint_log_spaced=log_spaced
    ).checkpoint_steps()
    powers = {2**i for i in range(20) if 2**i < every} if log_spaced else set()
    expected = {
        step
        for step in range(steps + 1)
        if step in (0, steps) or (every and step % every == 0) or step in powers
    }
    assert grid == tuple(sorted(expected))


def test_log_spaced_checkpoints_are_saved(tmp_path: Path) -> None:
    from common.runs.directory import RunDirectory
    from common.runs.trajectory import Trajectory
    from parity import train
    from tests.conftest import TINY_TEACHER

    train.main(
        [
            "--run-dir",
            str(tmp_path / "run"),
            *TINY_TEACHER,
            "--training.checkpoint-every",
            "64",
            "--training.checkpoint-log-spaced",
        ]
    )
    assert Trajectory(RunDirectory(tmp_path / "run")).steps() == (
        0,
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        192,
        256,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"training": replace(CONFIG.training, batch_size=0)},
            r"training\.batch_size = 0: .*greater than or equal to 1",
        ),
        ({"optim": OptimConfig((0.1, -1.0))}, r"optim\.learning_rate\.1 = -1\.0: .*greater than 0"),
        ({"optim": OptimConfig((float("inf"),))}, r"learning_rate\.0 = inf: .*finite"),
        (
            {"optim": OptimConfig((0.1,), warmup_fraction=1.5)},
            r"warmup_fraction = 1\.5: .*less than or equal to 1",
        ),
        ({"training": replace(CONFIG.training, seed=-1)}, r"training\.seed = -1"),
    ],
)
def test_a_refusal_names_field_value_and_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(replace(CONFIG, **change))  # type: ignore[arg-type]


def test_json_round_trip_and_identity() -> None:
    assert from_dict(TrainConfig, to_dict(CONFIG), Path("config.json")) == CONFIG
    assert fingerprint(to_dict(CONFIG)) == fingerprint(to_dict(replace(CONFIG)))
    assert fingerprint(to_dict(CONFIG)) != fingerprint(to_dict(replace(CONFIG, model=MLPConfig(5))))


def test_a_stored_configuration_with_unknown_or_missing_fields_is_refused() -> None:
    values = to_dict(CONFIG)
    with pytest.raises(
        RunError, match=r"config\.json does not hold a TrainConfig.*\n.*model\.depth = 3"
    ):
        from_dict(
            TrainConfig, values | {"model": values["model"] | {"depth": 3}}, Path("config.json")
        )
    del values["model"]
    with pytest.raises(RunError, match="model"):
        from_dict(TrainConfig, values, Path("config.json"))


OVERRIDES = {
    "supervision.offset": st.integers(-10_000, 10_000),
    "shared_stream": st.booleans(),
    "training.stop_after": st.none() | st.floats(1, 100, allow_nan=False),
    "training.seed": st.integers(0, 2**31 - 1),
    "optim.learning_rate": st.lists(st.floats(1e-9, 10), min_size=1, max_size=4).map(tuple),
    "schedule": st.sampled_from(["ce", "one-shot", "till-saturate"]),
    "teacher_seed": st.none() | st.integers(0, 9),
}


@given(overrides=st.fixed_dictionaries({}, optional=OVERRIDES))
@settings(max_examples=25)
def test_overrides_are_what_their_flags_parse_to(overrides: dict[str, Any]) -> None:
    config = PRESETS["quick"].config.student
    changed = with_overrides(config, overrides)
    for name, value in overrides.items():
        *parents, field = name.split(".")
        part = functools.reduce(getattr, parents, changed)
        assert getattr(part, field) == value
    words = ["--run-dir", "run", *as_flags(overrides)]
    assert parse_student(words) == changed


def parse_student(words: list[str]) -> StudentConfig:
    """The configuration of students that a person types; labels warn of what they do not use."""
    default = DistillCommand(PRESETS["quick"].config.student, SPEC.flags)
    command_type = DistillCommand[StudentConfig, type(SPEC.flags)]
    return parse(command_type, words, prog="", description="", default=default).config


def test_overrides_name_fields_and_stay_in_range() -> None:
    config = PRESETS["quick"].config.student
    assert flags_of(["--supervision.offset=-16"]) == {"supervision.offset": ["-16"]}
    assert as_flags({"supervision.offset": -16}) == ("--supervision.offset=-16",)
    with pytest.raises(UserError, match=r"training\.steps = 0"):
        with_overrides(config, {"training.steps": 0})
    with pytest.raises(UserError, match=r"no field training\.stops"):
        with_overrides(config, {"training.stops": 0})


def help_of(main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("main", [train.main, distill.main, pcfg.train.main, pcfg.distill.main])
def test_help_of_a_run_says_what_a_preset_sets(
    main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(main, capsys)
    assert SETS_DEFAULTS in shown and IS_EXPERIMENT not in shown
    assert "(fixed to" not in shown
    for part in ("data", "model", "optim", "training"):
        assert f"--{part}." in shown


@pytest.mark.parametrize("main", [experiment.main, law.main, pcfg.experiment.main])
def test_help_of_an_experiment_promises_no_flags_of_runs(
    main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(main, capsys)
    assert IS_EXPERIMENT in shown and SETS_DEFAULTS not in shown
    assert "--dry-run" in shown
    assert "--data." not in shown and "--training." not in shown
