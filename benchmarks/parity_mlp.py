"""`python -m benchmarks.parity_mlp`: examples per second of a preset's teacher and student step,
beside PyTorch.

Each side runs in turn, several rounds; the table shows medians, and ratios to the fastest plain
PyTorch loop: small operations run faster on one thread than on all, so both are tried. "10 seeds"
counts the examples of all seeds that train together.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
from rich.console import Console
from rich.table import Table

from benchmarks import peers
from common.base.config import PositiveInt, PresetName, chosen_preset, parse
from common.base.errors import run_command
from common.base.mesh import set_up_devices
from common.train.engine import Problem, ScanEngine
from parity.presets import PRESETS, Experiment
from parity.spec import SPEC
from parity.task import functional_model


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.parity_mlp`."""

    preset: PresetName = "quick"
    """Whose teacher and student steps."""
    steps: PositiveInt = 200
    """Steps in a timed round of one seed."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""


def main(args: list[str]) -> None:
    """Time and print."""
    set_up_devices()
    experiment = chosen_preset(args, PRESETS).config
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.parity_mlp",
        description="Examples/s of the MLP training steps, beside PyTorch.",
    )
    console = Console(soft_wrap=True)
    for role in ("teacher", "student"):
        sides = {
            **our_sides(experiment, role, command.steps),
            **peer_sides(experiment, role, command.steps),
        }
        seconds = measure(sides, command.rounds)
        console.print(table_of(experiment, role, seconds, command.steps))


def our_sides(experiment: Experiment, role: str, steps: int) -> dict[str, Callable[[], None]]:
    """One seed alone, and all seeds of the preset together."""
    sides = {}
    for num_seeds in (1, experiment.teacher.training.num_seeds):
        problem, config = problem_of(experiment, role, num_seeds), experiment.teacher
        engine = ScanEngine(problem)
        init = functional_model(config).init
        teachers_L = (
            engine.place(jax.vmap(init)(jax.random.split(jax.random.key(1), num_seeds)))
            if role == "student"
            else None
        )
        state = [engine.init()]

        def advance(
            engine: ScanEngine = engine, state: list = state, teachers_L: dict | None = teachers_L
        ) -> None:
            state[0] = jax.block_until_ready(engine.advance(state[0], teachers_L, steps))

        sides[f"this laboratory, {num_seeds} seed{'s' if num_seeds > 1 else ''}"] = advance
    return sides


def problem_of(experiment: Experiment, role: str, num_seeds: int) -> Problem:
    """The preset's problem with another number of seeds."""
    if role == "teacher":
        config = experiment.teacher
        return SPEC.teacher_problem(
            replace(config, training=replace(config.training, num_seeds=num_seeds))
        )
    student = experiment.student
    return SPEC.student_problem(
        replace(student, training=replace(student.training, num_seeds=num_seeds)),
        experiment.teacher,
    )


def peer_sides(experiment: Experiment, role: str, steps: int) -> dict[str, Callable[[], None]]:
    """The same step in PyTorch."""
    config, teacher_width = (
        (experiment.teacher, None)
        if role == "teacher"
        else (experiment.student, experiment.teacher.model.width)
    )
    data, rate = config.data, config.optim.learning_rate[0]
    return peers.sides(
        data.d,
        data.k,
        config.model.width,
        config.training.batch_size,
        rate,
        steps,
        len(jax.devices()),
        teacher_width,
    )


def measure(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, so that a slow moment of the machine hits
    all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if i > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table_of(experiment: Experiment, role: str, seconds: dict[str, float], steps: int) -> Table:
    """Examples per second, and how many times the PyTorch loop that is."""
    config = experiment.teacher if role == "teacher" else experiment.student
    what = (
        f"{role}: d={config.data.d}, width {config.model.width}, batch {config.training.batch_size}"
    )
    table = Table("", "examples/s", "x PyTorch", title=what, title_justify="left")
    fastest_peer = min(value for name, value in seconds.items() if "PyTorch" in name)
    for name, value in seconds.items():
        seeds = experiment.teacher.training.num_seeds if "seeds" in name else 1
        rate = steps * config.training.batch_size * seeds / value
        peer_rate = steps * config.training.batch_size / fastest_peer
        table.add_row(name, f"{rate:,.0f}", f"{rate / peer_rate:.1f}")
    return table


if __name__ == "__main__":
    run_command(main)
