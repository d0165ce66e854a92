"""`python -m benchmarks.parity_mlp`: examples per second of a preset's teacher and student step,
beside PyTorch.

Each side runs in a process of its own and in turn, several rounds; the table shows medians, and
ratios to the fastest plain PyTorch loop: small operations run faster on one thread than on all, so
both are tried. "10 seeds" counts the examples of all seeds that train together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.gpu_steps import scan
from benchmarks.gpu_timing import with_seeds
from benchmarks.report import StepSpeed, our_name, write_found
from benchmarks.side import Work
from benchmarks.turns import Side, Timing, time_in_turns
from common.base.config import PositiveInt, PresetName, chosen_preset, parse
from common.base.errors import run_command
from common.base.mesh import num_cores, set_up_devices
from common.train.problem import Problem
from parity.config import StudentConfig, TrainConfig
from parity.presets import PRESETS, Experiment
from parity.spec import SPEC
from parity.task import functional_model

Role = Literal["teacher", "student"]


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.parity_mlp`."""

    preset: PresetName = "quick"
    """Whose teacher and student steps."""
    roles: tuple[Role, ...] = ("teacher", "student")
    """Of which of them."""
    steps: PositiveInt = 200
    """Steps in a timed round of one seed."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    out: Path | None = None
    """A JSON file to write; `results/parity_mlp.json` is the one that README.md's tables show."""


def main(args: list[str]) -> None:
    """Time and print."""
    experiment = chosen_preset(args, PRESETS).config
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.parity_mlp",
        description="Examples/s of the MLP training steps, beside PyTorch.",
    )
    console, timings, speeds = Console(soft_wrap=True), {}, []
    for role in command.roles:
        ours, peers = our_sides(command, role), peer_sides(experiment, role, command.steps)
        title = title_of(experiment, role)
        timings[title] = time_in_turns({**ours, **peers}, command.rounds)
        rates = rates_of(experiment, role, timings[title], command.steps)
        console.print(table_of(title, rates))
        speeds += speeds_of(experiment, command.preset, role, rates)
    if command.out is not None:
        write_found(command.out, "parity_mlp", timings, speeds)


def our_sides(command: BenchCommand, role: Role) -> dict[str, Side]:
    """One seed alone, and all seeds of the preset together."""
    together = PRESETS[command.preset].config.teacher.training.num_seeds
    return {
        our_name(seeds): Side(
            "benchmarks.parity_mlp:steps_of_ours",
            {"preset": command.preset, "role": role, "num_seeds": seeds, "steps": command.steps},
        )
        for seeds in dict.fromkeys((1, together))
    }


def steps_of_ours(preset: str, role: Role, num_seeds: int, steps: int) -> Work:
    """Rounds of `steps` updates of all seeds."""
    set_up_devices()
    experiment = PRESETS[preset].config
    teacher_init = functional_model(experiment.teacher).init if role == "student" else None
    return Work(scan(problem_of(experiment, role, num_seeds), steps, teacher_init)().advance)


def problem_of(experiment: Experiment, role: Role, num_seeds: int) -> Problem:
    """The preset's problem with another number of seeds."""
    if role == "teacher":
        return SPEC.teacher_problem(with_seeds(experiment.teacher, num_seeds))
    return SPEC.student_problem(with_seeds(experiment.student, num_seeds), experiment.teacher)


def config_of(experiment: Experiment, role: Role) -> TrainConfig | StudentConfig:
    """The preset's teacher or student."""
    return experiment.teacher if role == "teacher" else experiment.student


def peer_sides(experiment: Experiment, role: Role, steps: int) -> dict[str, Side]:
    """The same step in PyTorch."""
    config = config_of(experiment, role)
    teacher_width = experiment.teacher.model.width if role == "student" else None
    data, rate = config.data, config.optim.learning_rate[0]
    width, batch_size = config.model.width, config.training.batch_size
    return pytorch_loops(data.d, data.k, width, batch_size, rate, steps, teacher_width)


def pytorch_loops(
    d: int,
    k: int,
    width: int,
    batch_size: int,
    rate: float,
    steps: int,
    teacher_width: int | None = None,
) -> dict[str, Side]:
    """Plain loops of `steps` updates of one model: batches drawn whole, with one thread and with
    all cores, and through a DataLoader."""
    problem = {
        "d": d,
        "k": k,
        "width": width,
        "batch_size": batch_size,
        "rate": rate,
        "teacher_width": teacher_width,
    }
    ways = {
        "1 thread": {"threads": 1, "loaded": False},
        f"{num_cores()} threads": {"threads": num_cores(), "loaded": False},
        "DataLoader, 1 thread": {"threads": 1, "loaded": True},
    }
    return {
        f"PyTorch loop, {name}": Side("benchmarks.peers:loop", {**problem, **way, "steps": steps})
        for name, way in ways.items()
    }


def fastest_peer(timings: Mapping[str, Timing]) -> float:
    """Seconds of a round of the fastest PyTorch loop."""
    return min(timing.median for name, timing in timings.items() if "PyTorch" in name)


def title_of(experiment: Experiment, role: Role) -> str:
    """Of the table of a role."""
    config = config_of(experiment, role)
    return (
        f"{role}: d={config.data.d}, width {config.model.width}, batch {config.training.batch_size}"
    )


def rates_of(
    experiment: Experiment, role: Role, timings: Mapping[str, Timing], steps: int
) -> dict[str, float]:
    """Examples per second of every side, those of all its seeds together."""
    batch_size = config_of(experiment, role).training.batch_size
    together = experiment.teacher.training.num_seeds
    seeds = {name: together if name == our_name(together) else 1 for name in timings}
    return {
        name: steps * batch_size * seeds[name] / timing.median for name, timing in timings.items()
    }


def table_of(title: str, rates: Mapping[str, float]) -> Table:
    """Examples per second, and how many times the fastest PyTorch loop that is."""
    table = Table("", "examples/s", "x PyTorch", title=title, title_justify="left")
    fastest = fastest_rate(rates)
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / fastest:.1f}")
    return table


def fastest_rate(rates: Mapping[str, float]) -> float:
    """Of a PyTorch loop."""
    return max(rate for name, rate in rates.items() if "PyTorch" in name)


def speeds_of(
    experiment: Experiment, preset: str, role: Role, rates: Mapping[str, float]
) -> list[StepSpeed]:
    """Rows of README.md's table of steps."""
    teacher, student = experiment.teacher, experiment.student
    shape = f"width {teacher.model.width}, batch {teacher.training.batch_size}"
    if role == "student":
        shape = (
            f"width {student.model.width} under a teacher of {teacher.model.width}, batch"
            f" {student.training.batch_size}"
        )
    together = teacher.training.num_seeds
    return [
        StepSpeed(
            f"`{preset}` {role} ({shape})",
            "examples/s",
            fastest_rate(rates),
            seeds,
            rates[our_name(seeds)],
        )
        for seeds in dict.fromkeys((1, together))
    ]


if __name__ == "__main__":
    run_command(main)
