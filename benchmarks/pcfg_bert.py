"""`python -m benchmarks.pcfg_bert`: milliseconds of a training step of the BERT for grammars, the
`quick` teacher, beside Hugging Face's in PyTorch.

Each side runs in a process of its own and in turn, several rounds; the table shows medians, and
ratios to the fastest of Hugging Face's: both implementations of attention are tried, with one
thread and with all. All train in float32 with Adam and clipped gradients on masked batches of the
same shape. Hugging Face's is spared some of the work: it draws its sentences from a pool made
before, and its learning rate is constant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.gpu import ON_CPU, Scale
from benchmarks.gpu_steps import scan
from benchmarks.gpu_timing import Attention, pcfg_config, shapes_of, with_seeds
from benchmarks.report import StepSpeed, our_name, write_found
from benchmarks.side import Work
from benchmarks.turns import Side, Timing, time_in_turns
from common.base.config import PositiveInt, parse
from common.base.errors import run_command
from common.base.mesh import num_cores, set_up_devices
from pcfg.spec import SPEC


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.pcfg_bert`."""

    seeds: PositiveInt = 8
    """Seeds of ours that train together, beside one alone."""
    attentions: tuple[Attention, ...] = ("sdpa", "eager")
    """Hugging Face's implementations of attention that are tried; the fastest is what ours are
    compared with."""
    steps: PositiveInt = 20
    """Steps in a timed round."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    scale: Scale = "full"
    """tiny: a small model and a small batch, to see whether the script works."""
    out: Path | None = None
    """A JSON file to write; `results/pcfg_bert.json` is the one that README.md's tables show."""


def main(args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.pcfg_bert",
        description="Milliseconds of a BERT's training step, beside Hugging Face's.",
    )
    config = pcfg_config(shapes_of(command.scale), "pcfg-quick")
    batch = f"batch {config.training.batch_size}"
    title = f"BERT of `quick`: width {config.model.width}, {batch}, {num_cores()} cores"
    ours, peers = our_sides(command), peer_sides(command)
    timings = time_in_turns({**ours, **peers}, command.rounds)
    fastest = min(timings[name].median for name in peers) / command.steps
    Console(soft_wrap=True).print(table_of(command, title, timings, fastest))
    if command.out is not None:
        speeds = [
            StepSpeed(
                f"BERT of `quick` ({batch})",
                "ms",
                1e3 * fastest,
                seeds,
                1e3 * seconds_of(command, our_name(seeds), timings),
            )
            for seeds in dict.fromkeys((1, command.seeds))
        ]
        write_found(command.out, "pcfg_bert", {title: timings}, speeds)


def our_sides(command: BenchCommand) -> dict[str, Side]:
    """One seed alone, and several together."""
    return {
        our_name(seeds): Side(
            "benchmarks.pcfg_bert:steps_of_ours",
            {"scale": command.scale, "num_seeds": seeds, "steps": command.steps},
        )
        for seeds in dict.fromkeys((1, command.seeds))
    }


def steps_of_ours(scale: Scale, num_seeds: int, steps: int) -> Work:
    """Rounds of `steps` updates of all seeds."""
    set_up_devices()
    config = with_seeds(pcfg_config(shapes_of(scale), "pcfg-quick"), num_seeds)
    return Work(scan(SPEC.teacher_problem(config), steps)().advance)


def peer_sides(command: BenchCommand) -> dict[str, Side]:
    """Hugging Face's model with each implementation of attention, on one core and on all."""
    return {
        f"Hugging Face, {attention} attention, {threads} thread{'s' if threads > 1 else ''}": Side(
            "benchmarks.gpu_peers:pcfg_quick_on_cpu",
            {
                "scale": command.scale,
                "attention": attention,
                "threads": threads,
                "steps": command.steps,
            },
            ON_CPU,
        )
        for attention in command.attentions
        for threads in sorted({1, num_cores()})
    }


def seconds_of(command: BenchCommand, name: str, timings: Mapping[str, Timing]) -> float:
    """Of a step and seed."""
    seeds = command.seeds if name == our_name(command.seeds) else 1
    return timings[name].median / command.steps / seeds


def table_of(
    command: BenchCommand, title: str, timings: Mapping[str, Timing], fastest: float
) -> Table:
    """Milliseconds of a step and seed, and how many times as fast as Hugging Face's that is."""
    title += "; times are per step and seed"
    table = Table("", "ms", "x Hugging Face", title=title, title_justify="left")
    for name in timings:
        seconds = seconds_of(command, name, timings)
        table.add_row(name, f"{1e3 * seconds:.2f}", f"{fastest / seconds:.1f}")
    return table


if __name__ == "__main__":
    run_command(main)
