"""Milliseconds of a training step of a Transformer for grammars, a `quick` teacher, beside Hugging
Face's in PyTorch: `benchmarks.pcfg_bert` and `benchmarks.pcfg_gpt2`.

Each side runs in a process of its own and in turn, several rounds; the table shows medians, and
ratios to the fastest of Hugging Face's: both implementations of attention are tried, with one
thread and with all. All train in float32 with Adam and clipped gradients on batches of the same
shape. Hugging Face's is spared some of the work: it draws its sentences from a pool made before,
and its learning rate is constant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.gpu import ON_CPU, Scale
from benchmarks.gpu_steps import scan
from benchmarks.gpu_timing import Attention, GrammarPart, grammar_config, shapes_of, with_seeds
from benchmarks.report import StepSpeed, our_name, write_found
from benchmarks.side import Work
from benchmarks.turns import Side, Timing, time_in_turns
from common.base.config import PositiveInt, parse
from common.base.mesh import num_cores, set_up_devices
from pcfg.next_token.spec import SPEC as NEXT_TOKEN
from pcfg.spec import SPEC as PCFG


@dataclass(frozen=True)
class Compared:
    """A model whose steps are compared."""

    name: str
    """In tables."""
    benchmark: str
    """The module of its command."""
    part: GrammarPart
    """Whose teacher it is."""


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of such a command."""

    seeds: PositiveInt = 8
    """Seeds of ours that train together, beside one alone."""
    attentions: tuple[Attention, ...] = ("sdpa", "eager")
    """Hugging Face's implementations of attention that are tried; the fastest is what ours are
    compared with."""
    threads: tuple[PositiveInt, ...] = field(default_factory=lambda: (1, num_cores()))
    """With how many threads of PyTorch each of them is tried."""
    steps: PositiveInt = 20
    """Steps in a timed round."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    scale: Scale = "full"
    """tiny: a small model and a small batch, to see whether the script works."""
    out: Path | None = None
    """A JSON file to write; `results/NAME.json`, with the name of the benchmark, is the one that
    README.md's tables show."""


def bench(model: Compared, args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog=f"benchmarks.{model.benchmark}",
        description=f"Milliseconds of a training step: {model.name}, beside Hugging Face's.",
    )
    config = grammar_config(shapes_of(command.scale), model.part)
    batch = f"batch {config.training.batch_size}"
    title = f"{model.name}: width {config.model.width}, {batch}, {num_cores()} cores"
    ours, peers = our_sides(model, command), peer_sides(model, command)
    timings = time_in_turns({**ours, **peers}, command.rounds)
    fastest = min(timings[name].median for name in peers) / command.steps
    Console(soft_wrap=True).print(table_of(command, title, timings, fastest))
    if command.out is not None:
        speeds = [
            StepSpeed(
                f"{model.name} ({batch})",
                "ms",
                1e3 * fastest,
                seeds,
                1e3 * seconds_of(command, our_name(seeds), timings),
            )
            for seeds in dict.fromkeys((1, command.seeds))
        ]
        write_found(command.out, model.benchmark, {title: timings}, speeds)


def our_sides(model: Compared, command: BenchCommand) -> dict[str, Side]:
    """One seed alone, and several together."""
    return {
        our_name(seeds): Side(
            "benchmarks.hugging_face:steps_of_ours",
            {
                "part": model.part,
                "scale": command.scale,
                "num_seeds": seeds,
                "steps": command.steps,
            },
        )
        for seeds in dict.fromkeys((1, command.seeds))
    }


def steps_of_ours(part: GrammarPart, scale: Scale, num_seeds: int, steps: int) -> Work:
    """Rounds of `steps` updates of all seeds."""
    set_up_devices()
    spec = NEXT_TOKEN if part == "next-token-quick" else PCFG
    config = with_seeds(grammar_config(shapes_of(scale), part), num_seeds)
    return Work(scan(spec.teacher_problem(config), steps)().advance)


def peer_sides(model: Compared, command: BenchCommand) -> dict[str, Side]:
    """Hugging Face's model with each implementation of attention and each number of threads."""
    return {
        f"Hugging Face, {attention} attention, {threads} thread{'s' if threads > 1 else ''}": Side(
            "benchmarks.gpu_peers:steps_on_cpu",
            {
                "part": model.part,
                "scale": command.scale,
                "attention": attention,
                "threads": threads,
                "steps": command.steps,
            },
            ON_CPU,
        )
        for attention in command.attentions
        for threads in sorted(set(command.threads))
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
