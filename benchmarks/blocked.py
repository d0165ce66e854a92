"""`python -m benchmarks.blocked`: milliseconds of a batch-1 step of the MLP, in blocks and step by
step, beside PyTorch.

Each side runs in turn, several rounds; the tables show medians. "2 products" is what no blocked
engine can do without: the pre-activations of a block and the update of the hidden weights, as two
matrix products of that size and nothing else, a step's share of them.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.parity_mlp import measure
from common.base.config import PositiveInt, TrainingConfig, parse
from common.base.errors import run_command
from common.base.mesh import set_up_devices
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
    """Seeds that train together."""
    blocks: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    """Examples in a block, for one seed."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""


def main(args: list[str]) -> None:
    """Time and print."""
    set_up_devices()
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.blocked",
        description="Milliseconds of a batch-1 step: PyTorch, scan, blocked.",
    )
    console = Console(soft_wrap=True)
    for width in command.widths:
        console.print(engines_table(command, width))
    console.print(blocks_table(command))


def engines_table(command: BenchCommand, width: int) -> Table:
    """Every way to train one width."""
    d, steps, many = command.d, steps_of(command.d, width), f", {command.seeds} seeds"
    sides = {
        **peers.sides(d, K, width, 1, RATE, steps, len(jax.devices())),
        "scan": engine_side(ScanEngine(SPEC.teacher_problem(config_of(d, width, 1))), steps),
        "scan" + many: engine_side(
            ScanEngine(SPEC.teacher_problem(config_of(d, width, command.seeds))), steps
        ),
        "blocked": engine_side(BlockedEngine(SPEC.teacher_problem(config_of(d, width, 1))), steps),
        "blocked" + many: engine_side(
            BlockedEngine(SPEC.teacher_problem(config_of(d, width, command.seeds))), steps
        ),
        "2 products": products_side(d, width, BLOCK_ROWS, steps),
    }
    seconds = measure(sides, command.rounds)
    fastest_peer = min(value for name, value in seconds.items() if "PyTorch" in name)
    title = (
        f"d={d}, width {width}, batch 1, {len(jax.devices())} cores; times are per step and seed"
    )
    table = Table("", "ms", "x fastest PyTorch", title=title, title_justify="left")
    for name, value in seconds.items():
        per_seed = value / (command.seeds if "seeds" in name else 1)
        table.add_row(name, f"{1e3 * per_seed / steps:.4f}", f"{fastest_peer / per_seed:.1f}")
    return table


def blocks_table(command: BenchCommand) -> Table:
    """The cost of a blocked step against inputs, width, block and seeds."""
    table = Table(
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
    for d, width in itertools.product(sorted({32, command.d}), command.widths):
        steps = steps_of(d, width)
        shapes = [(rows, 1) for rows in command.blocks] + [
            (BLOCK_ROWS, command.seeds),
            (BLOCK_ROWS, 2 * len(jax.devices())),
        ]
        engines = {
            (rows, seeds): BlockedEngine(
                SPEC.teacher_problem(config_of(d, width, seeds)), block_rows=rows
            )
            for rows, seeds in shapes
        }
        sides = {f"{shape}": engine_side(engine, steps) for shape, engine in engines.items()}
        seconds = measure(
            sides
            | {f"products {rows}": products_side(d, width, rows, steps) for rows, _ in shapes},
            command.rounds,
        )
        for (rows, seeds), engine in engines.items():
            ours, floor = (
                1e3 * seconds[f"{rows, seeds}"] / steps / seeds,
                1e3 * seconds[f"products {rows}"] / steps,
            )
            peak = f"{peak_bytes(engine, steps) / 1e6:.1f}" if rows == BLOCK_ROWS else ""
            table.add_row(
                str(d),
                str(width),
                str(rows),
                str(seeds),
                f"{ours:.4f}",
                f"{floor:.4f}",
                f"{ours / floor:.1f}",
                peak,
            )
    return table


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


def engine_side(engine: ScanEngine, steps: int) -> Callable[[], None]:
    """`steps` more steps."""
    state = [engine.init()]

    def advance() -> None:
        state[0] = jax.block_until_ready(engine.advance(state[0], None, steps))

    return advance


def products_side(d: int, width: int, rows: int, steps: int) -> Callable[[], None]:
    """The two products of `steps` steps; the result of each goes into the next, so that none is
    left out."""
    key = jax.random.key(0)
    x_NxI = 1e-3 * jax.random.normal(key, (rows, d + 1))
    state = [(jax.random.normal(key, (d + 1, width)), jnp.zeros((rows, width)))]

    def block(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        w1_IxM, deltas_NxM = carry
        return (w1_IxM - x_NxI.T @ deltas_NxM, x_NxI @ w1_IxM), None

    blocks = jax.jit(
        lambda carry: jax.lax.scan(block, carry, None, length=steps // rows)[0], donate_argnums=0
    )

    def advance() -> None:
        state[0] = jax.block_until_ready(blocks(state[0]))

    return advance


if __name__ == "__main__":
    run_command(main)
