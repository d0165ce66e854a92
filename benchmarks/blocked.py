"""`python -m benchmarks.blocked`: milliseconds of a batch-1 step of the MLP, in blocks and step by
step, beside PyTorch.

Each side runs in a process of its own and in turn, several rounds; the tables show medians.
"2 products" is what no blocked engine can do without: the pre-activations of a block and the update
of the hidden weights, as two matrix products of that size and nothing else, a step's share of them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_steps import side
from benchmarks.parity_mlp import fastest_peer, pytorch_loops
from benchmarks.report import BlockedCost, StepSpeed, write_found
from benchmarks.side import Work
from benchmarks.turns import Side, Timing, time_in_turns
from common.base.config import PositiveInt, TrainingConfig, parse
from common.base.errors import run_command
from common.base.mesh import num_cores, set_up_devices
from common.nn.mlp import MLPConfig
from common.train.engine import ScanEngine
from common.train.optim import OptimConfig
from parity.blocked import BLOCK_ROWS, BlockedEngine
from parity.config import TrainConfig
from parity.data import ParityData
from parity.spec import SPEC

K = 6
RATE = 0.001


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.blocked`."""

    d: PositiveInt = 100
    """Coordinates."""
    widths: tuple[PositiveInt, ...] = (100, 1000, 50_000)
    """Hidden units."""
    seeds: PositiveInt = 3
    """Seeds that train together beside PyTorch's loops."""
    blocks: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    """Examples in a block, for one seed."""
    tables: tuple[Literal["engines", "blocks"], ...] = ("engines", "blocks")
    """engines: steps in blocks, step by step and in PyTorch, a table for each width. blocks: what a
    step in blocks costs, by inputs, width, block and seeds."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    out: Path | None = None
    """A JSON file to write; `results/blocked.json` is the one that README.md's tables show."""


def main(args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.blocked",
        description="Milliseconds of a batch-1 step: PyTorch, scan, blocked.",
    )
    console, timings, speeds, costs = Console(soft_wrap=True), {}, [], []
    if "engines" in command.tables:
        for width in command.widths:
            title = f"d={command.d}, width {width}, batch 1, {num_cores()} cores"
            timings[title] = time_in_turns(engine_sides(command, width), command.rounds)
            console.print(engines_table(command, width, title, timings[title]))
            speeds += speeds_of(command, width, timings[title])
    if "blocks" in command.tables:
        table = empty_blocks_table()
        for d, width in itertools.product(sorted({32, command.d}), command.widths):
            title = f"blocked, d={d}, width {width}"
            timings[title] = time_in_turns(block_sides(command, d, width), command.rounds)
            of_problem = costs_of(command, d, width, timings[title])
            add_costs(table, of_problem, timings[title])
            costs += of_problem
        console.print(table)
    if command.out is not None:
        write_found(command.out, "blocked", timings, speeds, costs)


def engine_sides(command: BenchCommand, width: int) -> dict[str, Side]:
    """Every way to train one width."""
    d, steps, many = command.d, steps_of(command.d, width), seeds_of(command.seeds)
    return {
        **pytorch_loops(d, K, width, 1, RATE, steps),
        "scan": engine_side(d, width, 1, None),
        "scan" + many: engine_side(d, width, command.seeds, None),
        "blocked": engine_side(d, width, 1, BLOCK_ROWS),
        "blocked" + many: engine_side(d, width, command.seeds, BLOCK_ROWS),
        "2 products": products_side(d, width, BLOCK_ROWS),
    }


def seeds_of(num_seeds: int) -> str:
    """What is added to the name of a side that trains several."""
    return f", {num_seeds} seeds"


def engines_table(
    command: BenchCommand, width: int, title: str, timings: Mapping[str, Timing]
) -> Table:
    """Milliseconds a step and seed, and how many times as fast as the fastest PyTorch loop."""
    title += "; times are per step and seed"
    table = Table("", "ms", "x fastest PyTorch", title=title, title_justify="left")
    peer, steps = fastest_peer(timings), steps_of(command.d, width)
    for name, timing in timings.items():
        seeds = command.seeds if name.endswith(seeds_of(command.seeds)) else 1
        seconds = timing.median / seeds
        table.add_row(name, f"{1e3 * seconds / steps:.4f}", f"{peer / seconds:.1f}")
    return table


def speeds_of(command: BenchCommand, width: int, timings: Mapping[str, Timing]) -> list[StepSpeed]:
    """Rows of README.md's table of steps."""
    step = f"width {width if width < 10_000 else f'{width:,}'}, batch 1, d={command.d}"
    per_step = 1e3 / steps_of(command.d, width)
    peer = per_step * fastest_peer(timings)
    alone = per_step * timings["blocked"].median
    together = per_step * timings["blocked" + seeds_of(command.seeds)].median / command.seeds
    return [
        StepSpeed(step, "ms", peer, 1, alone),
        StepSpeed(step, "ms", peer, command.seeds, together),
    ]


def shapes_of(command: BenchCommand) -> list[tuple[int, int]]:
    """Examples in a block, and seeds."""
    return [(rows, 1) for rows in command.blocks] + [(BLOCK_ROWS, 2 * num_cores())]


def block_sides(command: BenchCommand, d: int, width: int) -> dict[str, Side]:
    """Every shape of a block, and the products of each."""
    shapes = shapes_of(command)
    engines = {f"{rows, seeds}": engine_side(d, width, seeds, rows) for rows, seeds in shapes}
    products = {f"products {rows}": products_side(d, width, rows) for rows, _ in shapes}
    return engines | products


def costs_of(
    command: BenchCommand, d: int, width: int, timings: Mapping[str, Timing]
) -> list[BlockedCost]:
    """Of one problem; rows of README.md's table of blocked steps."""
    costs = []
    for rows, seeds in shapes_of(command):
        timing = timings[f"{rows, seeds}"]
        ms = 1e3 * timing.median / steps_of(d, width) / seeds
        costs.append(BlockedCost(width, d, seeds, rows, ms, timing.facts["peak_bytes"] / 1e6))
    return costs


def empty_blocks_table() -> Table:
    """The cost of a blocked step against inputs, width, block and seeds."""
    return Table(
        "d",
        "width",
        "block",
        "seeds",
        "ms a seed",
        "2 products, ms",
        "ratio",
        "peak MB",
        title="blocked",
        title_justify="left",
    )


def add_costs(table: Table, costs: Sequence[BlockedCost], timings: Mapping[str, Timing]) -> None:
    """The rows of one problem."""
    for cost in costs:
        floor = 1e3 * timings[f"products {cost.block}"].median / steps_of(cost.d, cost.width)
        numbers = f"{cost.ms:.4f}", f"{floor:.4f}", f"{cost.ms / floor:.1f}"
        shape = str(cost.d), str(cost.width), str(cost.block), str(cost.seeds)
        table.add_row(*shape, *numbers, f"{cost.megabytes:.1f}")


def peak_bytes(engine: BlockedEngine, steps: int) -> int:
    """Memory of the compiled steps on one device: state, batches and everything in between."""
    analysis = engine.compiled(engine.init(), None, steps).memory_analysis()
    assert analysis is not None
    return (
        analysis.argument_size_in_bytes
        + analysis.temp_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def steps_of(d: int, width: int) -> int:
    """Steps in a round: a multiple of every block here, and about as much work whatever the
    shape."""
    return 128 * max(1, min(16, 10_000_000 // (d * width) // 128))


def config_of(d: int, width: int, num_seeds: int) -> TrainConfig:
    """A teacher on batches of one."""
    training = TrainingConfig(
        steps=10_000, batch_size=1, eval_every=10_000, eval_examples=256, num_seeds=num_seeds
    )
    return TrainConfig(ParityData(d, K), MLPConfig(width), OptimConfig((RATE,)), training)


def engine_side(d: int, width: int, num_seeds: int, rows: int | None) -> Side:
    """`steps_of(d, width)` more steps, in blocks of so many rows; None: step by step."""
    arguments = {"d": d, "width": width, "num_seeds": num_seeds, "rows": rows}
    return Side("benchmarks.blocked:steps_of_ours", arguments)


def steps_of_ours(d: int, width: int, num_seeds: int, rows: int | None) -> Work:
    """The same in its process."""
    set_up_devices()
    problem, steps = SPEC.teacher_problem(config_of(d, width, num_seeds)), steps_of(d, width)
    engine = ScanEngine(problem) if rows is None else BlockedEngine(problem, block_rows=rows)
    facts = {"peak_bytes": peak_bytes(engine, steps)} if isinstance(engine, BlockedEngine) else {}
    return Work(side(engine, steps).advance, facts)


def products_side(d: int, width: int, rows: int) -> Side:
    """The two products of `steps_of(d, width)` steps."""
    return Side("benchmarks.blocked:products", {"d": d, "width": width, "rows": rows})


def products(d: int, width: int, rows: int) -> Work:
    """The same in its process; the result of each product goes into the next, so that none is left
    out."""
    set_up_devices()
    key = jax.random.key(0)
    x_NxI = 1e-3 * jax.random.normal(key, (rows, d + 1))
    state = [(jax.random.normal(key, (d + 1, width)), jnp.zeros((rows, width)))]

    def block(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        w1_IxM, deltas_NxM = carry
        return (w1_IxM - x_NxI.T @ deltas_NxM, x_NxI @ w1_IxM), None

    length = steps_of(d, width) // rows
    blocks = jax.jit(
        lambda carry: jax.lax.scan(block, carry, None, length=length)[0], donate_argnums=0
    )

    def advance() -> None:
        state[0] = jax.block_until_ready(blocks(state[0]))

    return Work(advance)


if __name__ == "__main__":
    run_command(main)
