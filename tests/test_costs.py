"""What a plan will cost: kinds of runs, projections, what is kept, what is shown."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from common.base import progress
from common.base.config import Overrides
from common.base.progress import Whole, duration_text
from common.experiment import costs
from common.experiment import plan as plans
from common.experiment.costs import Cost, projected_costs
from common.experiment.plan import Planner, State, counted, plan, plan_preset, print_plan
from common.experiment.stages import RunStage, Stage, shell
from common.train import measuring
from common.train.measuring import Measured, Trial
from parity import experiment
from parity.spec import SPEC
from pcfg.spec import SPEC as PCFG
from tests.tiny_experiment import tiny_experiment

MEASURE = measuring.measure
"""As it is, before it is replaced for all tests."""
MEASURED = Measured(
    start=2.0,
    step=0.01,
    evaluation=0.5,
    memory=700_000_000,
    checkpoint=10_000,
    resume=30_000,
    is_scaled=False,
)
PART_OR_SIMILAR = "a part of their examples or from similar runs"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test begins without costs that another one has measured."""
    monkeypatch.setattr(costs, "_file", lambda: tmp_path / "cache" / "costs.json")


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """All that is measured."""
    made: list[Trial] = []

    def measure(trial: Trial) -> Measured:
        made.append(trial)
        return MEASURED

    monkeypatch.setattr(measuring, "measure", measure)
    return made


def tiny_plan(home: Path = Path("runs")) -> list[Stage]:
    return plan(SPEC, tiny_experiment(), home, preset="quick", beyond=True)


def run_to_do(overrides: Overrides, schedule: str | None = None) -> costs.RunToDo:
    """A run of the tiny experiment: of students where there is a schedule."""
    planner = Planner(SPEC, tiny_experiment(), Path("runs"))
    planner.train("teacher", overrides if schedule is None else {})
    if schedule is not None:
        teacher = None if schedule == "ce" else "teacher"
        planner.distill("student", {"schedule": schedule, **overrides}, teacher)
    stages = planner.stages
    return costs._runs_to_do(stages[-1:], stages)[stages[-1].output]


def kind(overrides: Overrides, schedule: str | None = None) -> str:
    return run_to_do(overrides, schedule).kinds[None]


def test_runs_of_a_plan_share_kinds() -> None:
    """Those that differ in their schedule alone are one kind, but for hidden layers."""
    stages = tiny_plan()
    runs = {
        stage.name: costs._runs_to_do([stage], stages)[stage.output]
        for stage in stages
        if isinstance(stage, RunStage)
    }
    kinds = {name: tuple(run.kinds.values()) for name, run in runs.items()}
    one_shot = kinds["student/one-shot"]
    assert kinds["student/progressive"] == kinds["student/two-shot"] == one_shot
    assert kinds["tune/progressive"] == kinds["tune/one-shot"] != one_shot
    assert kinds["student/one-shot-soft"] != one_shot
    assert set(one_shot) < set(kinds["student/projections"])
    assert kinds["teacher"] == kinds["tune/teacher"]
    assert kinds["student/ce-w8"] not in (kinds["teacher"], one_shot)
    assert runs["tune/progressive"].group_size == 4
    assert runs["student/progressive"].group_size == 1


@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 10**6),
    eval_every=st.integers(1, 1000),
    rate=st.floats(1e-4, 10.0),
    stop_after=st.none() | st.floats(1.0, 5.0),
    schedule=st.sampled_from([None, "ce", "one-shot", "two-shot"]),
)
def test_a_kind_knows_no_seeds_rates_and_lengths(
    seed: int,
    steps: int,
    eval_every: int,
    rate: float,
    stop_after: float | None,
    schedule: str | None,
) -> None:
    overrides = {
        "training.seed": seed,
        "training.steps": steps,
        "training.eval_every": eval_every,
        "training.stop_after": stop_after,
        "optim.learning_rate": (rate,),
    }
    assert kind(overrides, schedule) == kind({}, schedule)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.width": 32},
        {"training.batch_size": 8},
        {"training.num_seeds": 3},
        {"training.eval_examples": 64},
        {"optim.kind": "adam"},
        {"optim.learning_rate": (0.1, 0.2)},
        {"data.d": 9},
    ],
)
def test_a_kind_knows_what_a_step_costs(overrides: Overrides) -> None:
    assert kind(overrides) != kind({})


def test_projection_by_hand() -> None:
    """256 steps with an evaluation every 8, and a checkpoint every 8, two lanes."""
    run = run_to_do({})
    cost = run.cost(dict.fromkeys(run.kinds.values(), MEASURED))
    assert cost.seconds == pytest.approx(2.0 + 256 * 0.01 + 33 * 0.5)
    assert (cost.memory, cost.checkpoints, cost.resume) == (700_000_000, 33 * 10_000, 60_000)
    assert cost.time_text == "about 21 seconds"
    assert run_to_do({"training.stop_when_flat": 0.1}).config.training.may_end_sooner
    ends_early = run_to_do({"training.stop_after": 2.0, "training.ring_every": 16})
    cost = ends_early.cost(dict.fromkeys(ends_early.kinds.values(), MEASURED))
    assert cost.checkpoints == (33 + 16) * 10_000
    assert cost.time_text == "at most 21 seconds"
    there = {str(step): {} for step in range(0, 136, 8)}
    half = replace(run, manifest={"resume": {"step": 128}, "checkpoints": there})
    cost = half.cost(dict.fromkeys(half.kinds.values(), MEASURED))
    assert cost.seconds == pytest.approx(2.0 + 128 * 0.01 + 17 * 0.5)
    assert (cost.checkpoints, cost.resume) == (16 * 10_000, 30_000)


def test_hidden_layers_have_steps_of_their_own() -> None:
    run = run_to_do({"supervision.projection_steps": 56}, "projections")
    assert run.steps_of_layer == {0: 56, None: 200}
    known = {run.kinds[0]: replace(MEASURED, step=0.1, memory=10**9), run.kinds[None]: MEASURED}
    cost = run.cost(known)
    assert cost.seconds == pytest.approx(2 * 2.0 + 56 * 0.1 + 200 * 0.01 + 33 * 0.5)
    assert cost.memory == 10**9
    for step, left in ((100, 156), (256, 0)):
        resumed = replace(run, manifest={"resume": {"step": step}})
        assert resumed.steps_of_layer == {None: left}


COSTS = st.builds(
    Cost,
    seconds=st.floats(0, 1e7),
    memory=st.integers(1, 10**12),
    checkpoints=st.integers(0, 10**12),
    resume=st.integers(0, 10**12),
    may_end_sooner=st.booleans(),
    is_scaled=st.booleans(),
)


@given(st.lists(COSTS, min_size=1, max_size=8))
def test_a_total_covers_every_run(parts: list[Cost]) -> None:
    of_all = costs.total(parts)
    assert of_all.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert of_all.memory == max(part.memory for part in parts)
    assert max(part.disk for part in parts) <= of_all.disk <= sum(part.disk for part in parts)


def test_a_kind_is_measured_once(tries: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    stages = tiny_plan()
    first = projected_costs(stages, stages)
    runs = [stage for stage in stages if isinstance(stage, RunStage)]
    assert first.keys() == {stage.output for stage in runs}
    assert 0 < len(tries) < len(runs)
    assert {trial.group_size for trial in tries} == {1, 4}
    tries.clear()
    assert projected_costs(stages, stages) == first == costs.known_costs(stages, stages)
    assert not tries
    monkeypatch.setattr(costs, "_machine", lambda: {"packages": "others"})
    assert not costs.known_costs(stages, stages)
    projected_costs(stages, stages)
    assert tries


def test_what_cannot_be_measured_now_is_scaled(
    tries: list[Trial], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Students have no room on the device; then there is no time for anything."""
    stages = tiny_plan()

    def measure(trial: Trial) -> Measured:
        if trial.problem.role == "student":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return MEASURED

    monkeypatch.setattr(measuring, "measure", measure)
    print_plan(stages)
    out = capsys.readouterr().out
    num_runs = sum(isinstance(stage, RunStage) for stage in stages)
    num_students = sum(isinstance(stage, RunStage) and stage.stage == "distill" for stage in stages)
    assert f"\nscaled from {PART_OR_SIMILAR}: {num_students} of {num_runs} runs\n" in out
    monkeypatch.setattr(costs, "MEASURING_SECONDS", -1.0)
    monkeypatch.setattr(costs, "_read_known", dict)
    assert projected_costs(stages, stages) == {}
    print_plan(stages)
    assert "to do here" not in capsys.readouterr().out


def test_scaling_by_hand() -> None:
    """Twice the batch, and three times the lanes."""
    one, batch, lanes = (
        run_to_do(overrides).trial(None)
        for overrides in ({}, {"training.batch_size": 32}, {"training.num_seeds": 6})
    )
    larger = measuring.scaled(batch, one, MEASURED)
    assert (larger.step, larger.evaluation, larger.start) == pytest.approx((0.02, 0.5, 2.0))
    assert larger.is_scaled
    assert larger.memory > MEASURED.memory
    more = measuring.scaled(lanes, one, MEASURED)
    assert (more.step, more.evaluation) == pytest.approx((0.03, 1.5))
    assert more.checkpoint == 3 * larger.checkpoint
    assert measuring.scaled(one, lanes, more).step == pytest.approx(0.01)


def test_the_most_work_is_measured_first_and_the_most_similar_tells_the_rest(
    tries: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = Planner(SPEC, tiny_experiment(), Path("runs"))
    for size, steps in ((4, 4096), (64, 1024), (128, 256)):
        planner.train(f"b{size}", {"training.batch_size": size, "training.steps": steps})
    stages = planner.stages
    assert projected_costs(stages, stages)
    assert [trial.problem.size.batch_size for trial in tries] == [64, 128, 4]
    runs = costs._runs_to_do(stages, stages)
    trials = costs._trials(runs.values())
    few, many = runs[stages[0].output].kinds[None], runs[stages[2].output].kinds[None]
    known = {few: MEASURED, many: replace(MEASURED, step=1.0)}
    (middle,) = trials.keys() - known.keys()
    assert costs._with_similar(trials, known)[middle].step == 0.5


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.write_text("[1]"),
        lambda path: path.write_text(path.read_text().replace('"step": 0.01', '"step": "soon"')),
        lambda path: path.write_text(path.read_text().replace("{", "{ 7")),
        lambda path: path.write_text(path.read_text().replace('"resume"', '"again"')),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_file_is_measured_again(
    damage: Callable[[Path], Any], tries: list[Trial]
) -> None:
    stages = tiny_plan()
    first = projected_costs(stages, stages)
    num_kinds = len(tries)
    damage(costs._file())
    assert projected_costs(stages, stages) == first
    assert len(tries) == 2 * num_kinds
    projected_costs(stages, stages)
    assert len(tries) == 2 * num_kinds


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_file_that_cannot_be_written_ends_nothing(
    is_folder: bool, tries: list[Trial], tmp_path: Path
) -> None:
    if is_folder:
        costs._file().mkdir(parents=True)
    else:
        (tmp_path / "cache").touch()
    stages = tiny_plan()
    first = projected_costs(stages, stages)
    num_kinds = len(tries)
    assert projected_costs(stages, stages) == first
    assert len(tries) == 2 * num_kinds


def test_the_oldest_measurements_go(tries: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MOST_KEPT", 3)
    for key in "abcde":
        costs._keep(key, MEASURED)
    costs._keep("c", replace(MEASURED, step=1.0))
    assert list(costs._read_known()) == ["c", "d", "e"]
    assert costs._read_known()["c"].step == 1.0


@pytest.mark.parametrize("name", ["teacher", "student/projections", "tune/one-shot-soft"])
def test_measured_numbers_are_plausible(name: str) -> None:
    stages = tiny_plan()
    (stage,) = [stage for stage in stages if stage.name == name]
    run = costs._runs_to_do([stage], stages)[stage.output]
    for layer in run.kinds:
        trial = run.trial(layer)
        measured, least = MEASURE(trial), trial.least
        assert 0 < least.step < measured.step < 0.1
        assert least.evaluation < measured.evaluation < 1.0
        assert 0 <= measured.start < 60.0
        assert 5e7 < measured.memory < 1e11
        per_lane = 4 * (8 * 9 + 2 * 9) if trial.teacher is not None else 4 * (64 * 9 + 2 * 65)
        assert measured.checkpoint == len(trial.problem.lanes) * per_lane
        assert not measured.is_scaled
        assert measured.checkpoint < measured.resume < 2 * measured.checkpoint


def test_what_would_take_long_is_tried_with_a_part_of_its_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a slow machine."""
    trial = run_to_do({"training.batch_size": 64, "training.eval_examples": 4096}).trial(None)
    sizes = []

    def seconds_of(trial: Trial, num_steps: int) -> tuple[float, float, int]:
        sizes.append(trial.problem.size)
        assert num_steps == 2
        return 0.01, 0.02, 1

    monkeypatch.setattr(measuring, "_product_rate", lambda: 2e6)
    monkeypatch.setattr(measuring, "_seconds_of", seconds_of)
    measured = MEASURE(trial)
    (size,) = sizes
    parts = 64 // size.batch_size
    assert parts > 1 and parts == 4096 // size.eval_examples and measured.is_scaled
    assert (measured.step, measured.evaluation) == (parts * 0.01, parts * 0.02)
    assert measured.memory > trial.least.memory


def test_the_published_grammars_are_tried_with_few_sentences() -> None:
    stages = plan_preset(PCFG, "paper", Path("runs"))
    (stage,) = [stage for stage in stages if stage.name == "teacher"]
    trial = costs._runs_to_do([stage], stages)[stage.output].trial(None)
    least = trial.least
    assert least.memory > 5e9
    assert measuring._tried(trial.problem.size, 1, least).batch_size <= 32


def test_a_plan_tells_what_it_costs(
    tries: list[Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.main(["--root", str(tmp_path / "runs"), "--dry-run"])
    out = capsys.readouterr().out
    heads, *rows = [line for line in out.splitlines() if "│" in line or "┃" in line]
    assert [head.strip() for head in heads.split("┃")[1:-1]] == [
        *("stage", "state", "time", "memory", "disk")
    ]
    cells = {row.split("│")[1].strip(): [c.strip() for c in row.split("│")] for row in rows}
    assert cells["teacher"][3:6] == ["about 88 seconds", "700 MB", "550 kB"]
    assert cells["probe"][3:6] == cells["claims"][3:6] == ["-", "-", "-"]
    assert (
        "\nto do here, with 2 CPU devices: at most 2.2 hours, 700 MB of memory, 1.46 MB of disk"
        "\nnot counted: stages that train nothing\n" in out
    )
    assert "GPU" not in out
    commands, _, table = out.partition("┏")
    stages = plan_preset(SPEC, "quick", tmp_path / "runs")
    assert commands.splitlines() == [shell(stage) for stage in stages]
    assert max(map(len, table.splitlines())) <= 100
    assert not (tmp_path / "runs").exists()


def test_the_published_grammars_are_a_gpus_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = replace(MEASURED, step=120.0, memory=31 * 2**30, is_scaled=True)
    monkeypatch.setattr(measuring, "measure", lambda _: slow)
    monkeypatch.setattr(costs, "machine_memory", lambda: 16 * 2**30)
    stages = plan_preset(PCFG, "paper", Path("nowhere"))
    print_plan(stages)
    out = capsys.readouterr().out
    assert "about 11 days" in out
    assert ", at least 33.3 GB of memory, " in out
    assert f"\nscaled from {PART_OR_SIMILAR}: 41 of 41 runs\n" in out
    assert (
        "\na GPU's work: more than 12 hours on CPUs, and more memory than the 17.2 GB of this"
        " machine\n" in out
    )


def test_what_is_done_costs_nothing(
    tries: list[Trial], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = tiny_plan()
    monkeypatch.setattr(plans, "states", lambda stages: [State("done")] * len(stages))
    print_plan(stages)
    out = capsys.readouterr().out
    assert not tries
    assert "to do" not in out and "MB" not in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 second"),
        (40.4, "40 seconds"),
        (89.6, "90 seconds"),
        (90, "1.5 minutes"),
        (600, "10 minutes"),
        (9000, "2.5 hours"),
        (26 * 86400, "26 days"),
        (3333 * 86400, "9.1 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_whole_counts_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages are done, of three the costs are known, of one it is what others took."""
    clock = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    whole = Whole(2, {Path("a"): 100.0, Path("b"): None, Path("c"): 30.0})
    assert (whole.total, whole.done, whole.left()) == (5, 2, "")
    with whole.carrying_out(Path("a")):
        clock = 40.0
        assert whole.left() == "", "nothing is known of b"
        clock = 120.0
    assert (whole.done, whole.left()) == (3, "about 2.5 minutes left")
    with whole.carrying_out(Path("b")):
        clock = 180.0
        assert whole.left() == "about 1.5 minutes left"
        clock = 300.0
        assert whole.left() == "about 30 seconds left", "longer than expected"
    with pytest.raises(KeyboardInterrupt), whole.carrying_out(Path("c")):
        raise KeyboardInterrupt
    assert whole.done == 4


def test_a_block_of_many_plans_is_one_whole(tries: list[Trial]) -> None:
    stages = tiny_plan()
    with counted(stages[3:], stages) as outer:
        assert (outer.total, outer.done) == (len(stages), 3)
        with counted(stages[5:], stages[4:]) as inner:
            assert inner is outer
    with counted(stages[5:], stages[4:]) as later:
        assert (later.total, later.done) == (len(stages) - 4, 1)


def test_the_whole_is_shown_above_the_bar_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=file, force_terminal=True, width=140)
    )
    with progress.above_bars(Whole(2, {Path("a"): 600.0})), progress.progress_bar("run", 9) as go:
        go(4)
    shown = file.getvalue()
    assert "in all" in shown and "2/3" in shown and "about 10 minutes left" in shown
    assert shown.index("in all") < shown.index("run")
    assert "in all" not in shown.splitlines()[-1], "only the stage's own bar stays"
    with progress.progress_bar("alone", 9):
        pass
    assert "in all" not in file.getvalue()[len(shown) :]
