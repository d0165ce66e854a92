"""`python -m parity.law`: learning time against the dimension d at fixed k, for the teacher,
labels, progressive and two-shot, with fitted exponents.

    runs/law/<preset>/k3-d32/tune/...      sweeps over learning rates, and over the length of
                                           two-shot's first stage, on seeds of their own
    runs/law/<preset>/k3-d32/teacher       the teacher's trajectory
    runs/law/<preset>/k3-d32/student/...   one run for each strategy; two-shot once for each length
                                           of its first stage
    runs/law/<preset>/fits.json            exponents, beside learning_times.csv and tuning.csv

By the paper's theory a student of labels, or of the final teacher, needs d^(k-1) examples, and a
student of two checkpoints d^2 up to logarithms. Neither the theory nor this count includes the
teacher's own examples. Everything scales with the teacher: its budget is about 2.5 times its
learning time at each d, its checkpoints are 1/32 of that budget apart, and two-shot's first stage
is the one of `LawConfig.first_stages` that was fastest on the tuning seeds.
"""

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from common.base.config import (
    IS_EXPERIMENT,
    Overrides,
    PositiveFloat,
    PositiveInt,
    Preset,
    Runtime,
    Seed,
    chosen_preset,
    configuration,
    describe_presets,
    parse,
)
from common.base.errors import RunError, UserError, run_command
from common.base.interruption import STOP_SIGNALS, Notes, Preempted, exit_code, noting
from common.experiment.judging import names_of, sweeps_in
from common.experiment.plan import Planner, print_plan, refuse_stale, run_stages
from common.experiment.stages import Stage
from common.runs.directory import RunDirectory
from common.runs.files import write_json, write_text
from common.runs.lineage import MADE_FROM, contents
from common.runs.tuning import (
    SWEEP_STOP_AFTER,
    learning_times,
    preference,
    rate_results,
    tuning_table,
)
from parity.exponents import STRATEGIES, fits
from parity.presets import PRESETS
from parity.spec import SPEC

TIMES, TUNING, FITS = "learning_times.csv", "tuning.csv", "fits.json"
BASE = "quick"
"""The parity preset from which every run of the law starts."""
EVALUATIONS, CHECKPOINTS = 128, 32
"""Evaluations and checkpoints in a teacher's budget."""
WAITING_SECONDS = 0.05
"""Seconds between two looks at the processes that run side by side."""
STOP_AFTER = 1.25
"""`training.stop_after` of the reported students, whose learning times are all that is used; three
evaluations must confirm one."""


@configuration
class LawPoint:
    """One problem, and the budget in steps of its teacher and of the teacher's students. Labels get
    `LawConfig.label_factor` times as many."""

    k: PositiveInt
    d: PositiveInt
    steps: Annotated[int, Field(multiple_of=EVALUATIONS, gt=0)]


@configuration
class LawConfig:
    """Problems and settings that do not depend on them."""

    points: tuple[LawPoint, ...]
    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=4)]
    """The grid of every sweep."""
    seed: Seed
    num_seeds: PositiveInt
    tuning_seed: Seed
    num_tuning_seeds: PositiveInt
    teacher_width: PositiveInt = 256
    student_width: PositiveInt = 32
    batch_size: PositiveInt = 32
    eval_examples: PositiveInt = 1024
    label_factor: PositiveInt = 2
    """The budget of labels divided by that of the teacher."""
    first_stages: tuple[PositiveInt, ...] = (32, 16, 8, 4)
    """Lengths of two-shot's first stage to choose from, as divisors of the teacher's budget."""

    def __post_init__(self) -> None:
        if max(self.seed, self.tuning_seed) < min(
            self.seed + self.num_seeds, self.tuning_seed + self.num_tuning_seeds
        ):
            raise ValueError("the tuning seeds overlap the seeds that are reported")
        if any(EVALUATIONS % divisor for divisor in self.first_stages):
            raise ValueError(
                f"first_stages = {self.first_stages}: each must divide {EVALUATIONS}, so that the"
                " stage ends at an evaluation"
            )


LAW_PRESETS: dict[str, Preset[LawConfig]] = {
    "quick": Preset(
        "quick",
        "k=3 at d=24 to 96 and k=4 at d=16 to 48, width 256 to 32, batch 32, 8 seeds; every rate"
        " and two-shot's first stage chosen on 6 other seeds. 6 minutes on two slow CPU cores."
        " Command: python -m parity.law --preset quick. Results: results/law/quick.",
        LawConfig(
            points=(
                LawPoint(k=3, d=24, steps=256),
                LawPoint(k=3, d=32, steps=384),
                LawPoint(k=3, d=48, steps=768),
                LawPoint(k=3, d=64, steps=1024),
                LawPoint(k=3, d=96, steps=2048),
                LawPoint(k=4, d=16, steps=512),
                LawPoint(k=4, d=20, steps=768),
                LawPoint(k=4, d=24, steps=1152),
                LawPoint(k=4, d=32, steps=2048),
                LawPoint(k=4, d=48, steps=4096),
            ),
            learning_rate=(0.3, 0.5, 0.8, 1.3, 2.0, 3.2),
            seed=600,
            num_seeds=8,
            tuning_seed=1200,
            num_tuning_seeds=6,
        ),
    ),
    "laptop": Preset(
        "laptop",
        "k=3 at d=24 to 192 and k=4 at d=16 to 96, as quick but with 16 seeds, 8 for tuning and a"
        " wider grid. Not run yet: ten times the operations of quick, by that count half an hour on"
        " two idle cores. Command: python -m parity.law --preset laptop.",
        LawConfig(
            points=(
                LawPoint(k=3, d=24, steps=256),
                LawPoint(k=3, d=32, steps=384),
                LawPoint(k=3, d=48, steps=768),
                LawPoint(k=3, d=64, steps=1280),
                LawPoint(k=3, d=96, steps=2560),
                LawPoint(k=3, d=128, steps=4096),
                LawPoint(k=3, d=192, steps=8192),
                LawPoint(k=4, d=16, steps=640),
                LawPoint(k=4, d=24, steps=1280),
                LawPoint(k=4, d=32, steps=2560),
                LawPoint(k=4, d=48, steps=5120),
                LawPoint(k=4, d=64, steps=10_240),
                LawPoint(k=4, d=96, steps=24_576),
            ),
            learning_rate=(0.2, 0.3, 0.5, 0.8, 1.3, 2.0, 3.2),
            seed=620,
            num_seeds=16,
            tuning_seed=1200,
            num_tuning_seeds=8,
        ),
    ),
}


@dataclass(frozen=True)
class LawCommand:
    """Arguments of `python -m parity.law`."""

    preset: Literal["quick", "laptop"] = "quick"
    """Which problems."""
    root: Path = Path("runs")
    """Where runs are kept."""
    k: int | None = None
    """Only the runs of this k, and no fit; without it one process for each k, side by side, then
    the fit."""
    dry_run: bool = False
    """Print every command, whether it has been done or is stale, and why, and what the rest costs
    on this machine, and stop."""
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Run what has not been run yet, then fit."""
    preset = chosen_preset(args, LAW_PRESETS)
    text = describe_presets(
        "Learning time against d at fixed k, and its exponents. Start it again to go on.",
        IS_EXPERIMENT,
        LAW_PRESETS,
    )
    command = parse(LawCommand, args, prog="parity.law", description=text)
    config, home = preset.config, command.root / "law" / preset.name
    ks = ks_of(config)
    if command.k is not None and command.k not in ks:
        raise UserError(f"--k {command.k}: this preset has k = {', '.join(map(str, ks))}")
    stages = {k: plan(config, home, k) for k in ks}
    if command.dry_run:
        print_plan([stage for k in ks if command.k in (None, k) for stage in stages[k]])
    elif command.k is not None:
        run_stages(stages[command.k], command.runtime)
    else:
        run_all(command, home, stages)
        every = [stage.output for of_k in stages.values() for stage in of_k]
        write_tables(config, home, preset.name, contents(home, names_of(every, home)))


def run_all(command: LawCommand, home: Path, stages: Mapping[int, Sequence[Stage]]) -> None:
    """Run what has not been run yet, one process for each k."""
    every = [stage for of_k in stages.values() for stage in of_k]
    states = refuse_stale(every)
    to_do = {
        stage.output for stage, state in zip(every, states, strict=True) if state.word != "done"
    }
    missing = [k for k, of_k in stages.items() if any(stage.output in to_do for stage in of_k)]
    if not missing:
        return
    law = (sys.executable, "-m", "parity.law", "--preset", home.name, "--root", str(command.root))
    runtime = ("--runtime.resume-seconds", str(command.runtime.resume_seconds))
    run_side_by_side([[*law, *runtime, "--k", str(k)] for k in missing])
    refuse_stale(every)


def run_side_by_side(commands: list[list[str]]) -> None:
    """Run commands at the same time and wait for all. A signal that asks to stop is passed on to
    them.

    Raises:
        Preempted: a signal has stopped them; each has said what is saved.
        RunError: a command failed; it has said why.
    """
    # No progress bars, which would overwrite each other.
    environment = os.environ | {"TTY_COMPATIBLE": "0"}
    with noting(second_interrupt_ends=False) as signals:
        # In process groups of their own: a terminal's Ctrl-C reaches them once, through this one.
        children = [
            subprocess.Popen(command, env=environment, process_group=0) for command in commands
        ]
        try:
            wait_for(children, signals)
        finally:
            for child in children:
                child.terminate()
        codes = [child.returncode for child in children]
        stopped_by = next(
            (number for number in STOP_SIGNALS if {exit_code(number), -number} & {*codes}), None
        )
        if stopped_by is not None:
            raise Preempted(
                stopped_by, "the runs have said what is saved; the same command goes on from there"
            )
    if any(codes):
        raise RunError("a run failed, see above; the same command goes on from there")


def wait_for(children: Sequence[subprocess.Popen[bytes]], signals: Notes) -> None:
    """Wait until all processes have ended, and send each of them every signal that arrives."""
    num_passed_on = 0
    while any(child.poll() is None for child in children):
        for number in signals.numbers[num_passed_on:]:
            for child in children:
                child.send_signal(number)
            num_passed_on += 1
        sleep(WAITING_SECONDS)


def ks_of(config: LawConfig) -> list[int]:
    """The degrees of the parities."""
    return sorted({point.k for point in config.points})


def plan(config: LawConfig, home: Path, k: int) -> list[Stage]:
    """Every stage of one k, each after those it needs."""
    planner = Planner(SPEC, PRESETS[BASE].config, home, BASE)
    for point in config.points:
        if point.k == k:
            _plan_point(planner, config, point)
    return planner.stages


def folder_of(point: LawPoint) -> str:
    """Name of a point's directory."""
    return f"k{point.k}-d{point.d}"


def _plan_point(planner: Planner, config: LawConfig, point: LawPoint) -> None:
    """Every stage of one problem."""
    folder = folder_of(point)
    common = {
        "data.k": point.k,
        "data.d": point.d,
        "training.batch_size": config.batch_size,
        "training.eval_every": point.steps // EVALUATIONS,
        "training.eval_examples": config.eval_examples,
    }
    teacher = {**common, "model.width": config.teacher_width, "training.steps": point.steps}
    student = {**common, "model.width": config.student_width}
    checkpoints = {"training.checkpoint_every": point.steps // CHECKPOINTS}
    seeds = {"training.seed": config.seed, "training.num_seeds": config.num_seeds}
    tuning_seeds = {
        "training.seed": config.tuning_seed,
        "training.num_seeds": config.num_tuning_seeds,
    }
    sweep = {
        "optim.learning_rate": config.learning_rate,
        **tuning_seeds,
        "training.stop_after": SWEEP_STOP_AFTER,
    }
    rate = f"{folder}/tune/teacher-rate"
    tuned_teacher = f"{folder}/tune/teacher"
    reported = f"{folder}/teacher"
    planner.train(rate, {**teacher, **sweep, "training.checkpoint_every": 0})
    planner.train(tuned_teacher, {**teacher, **tuning_seeds, **checkpoints}, rate)
    planner.train(reported, {**teacher, **seeds, **checkpoints}, rate)
    for name, schedule in student_schedules(config, point.steps).items():
        is_taught = name != "ce"
        tune, run = f"{folder}/tune/{name}", f"{folder}/student/{name}"
        planner.distill(
            tune, {**student, **schedule, **sweep}, tuned_teacher if is_taught else None
        )
        ends_early = {"training.stop_after": STOP_AFTER}
        overrides = {**student, **schedule, **seeds, **ends_early}
        planner.distill(run, overrides, reported if is_taught else None, tune)


def student_schedules(config: LawConfig, steps: int) -> dict[str, Overrides]:
    """The settings in which the student runs of one problem differ, by the name of the run."""
    schedules: dict[str, Overrides] = {
        "ce": {"schedule": "ce", "training.steps": steps * config.label_factor},
        "progressive": {
            "schedule": "progressive",
            "supervision.interval": steps // CHECKPOINTS,
            "training.steps": steps,
        },
    }
    for divisor in config.first_stages:
        schedules[two_shot_name(divisor)] = {
            "schedule": "two-shot",
            "supervision.first_steps": steps // divisor,
            # A teacher that has not learnt must not end the law; its student is counted.
            "supervision.without_transition": "final",
            "training.steps": steps,
        }
    return schedules


def two_shot_name(divisor: int) -> str:
    """Name of the run whose first stage is this part of the teacher's budget."""
    return f"two-shot-{divisor}"


def chosen_run(config: LawConfig, home: Path, strategy: str) -> str:
    """The reported run of a strategy at one problem; for two-shot the one whose first stage was
    fastest on the tuning seeds."""
    if strategy == "teacher":
        return "teacher"
    if strategy != "two-shot":
        return f"student/{strategy}"
    best = {
        name: min(rate_results(RunDirectory(home / "tune" / name)), key=preference)
        for name in map(two_shot_name, config.first_stages)
    }
    return f"student/{min(best, key=lambda name: preference(best[name]))}"


def times_table(config: LawConfig, home: Path) -> pd.DataFrame:
    """Every reported learning time.

    Columns: k, d, strategy, seed, learning_rate, first_stage (of two-shot), t90 (empty where
        censored) and budget, the last three in examples.
    """
    rows = []
    for point in config.points:
        for strategy in STRATEGIES:
            folder = home / folder_of(point)
            run = RunDirectory(folder / chosen_run(config, folder, strategy))
            of_run = {"k": point.k, "d": point.d, "strategy": strategy}
            first_stage = None
            if strategy == "two-shot":
                first_steps = run.record["config"]["supervision"]["first_steps"]
                first_stage = first_steps * config.batch_size
            budget = run.metrics()[-1]["examples"]
            seeds, rates = run.manifest["seeds"], run.manifest["learning_rates"]
            for seed, rate, time in zip(seeds, rates, learning_times(run), strict=True):
                of_lane = {"seed": seed, "learning_rate": rate, "first_stage": first_stage}
                t90 = None if math.isinf(time) else int(time)
                rows.append(of_run | of_lane | {"t90": t90, "budget": budget})
    return pd.DataFrame(rows).astype({"t90": "Int64", "first_stage": "Int64"})


def write_tables(
    config: LawConfig, home: Path, preset: str, runs: Mapping[str, str | None]
) -> None:
    """Write the learning times, the sweeps and the fits; the fits name the runs they are made
    from."""
    times = times_table(config, home)
    tables = []
    for point in config.points:
        outputs = [stage.output for stage in plan(config, home, point.k)]
        tuning = tuning_table(sweeps_in(home / folder_of(point) / "tune", outputs))
        tables.append(tuning.assign(k=point.k, d=point.d))
    write_text(home / TIMES, times.to_csv(index=False))
    write_text(home / TUNING, pd.concat(tables).to_csv(index=False))
    write_json(
        home / FITS,
        {"preset": preset, MADE_FROM: runs}
        | fits(times, config.learning_rate, config.first_stages),
    )


if __name__ == "__main__":
    run_command(main)
