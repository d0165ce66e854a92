"""`python -m benchmarks.mlm_feed --corpus DIR`: tokens a second of the batches of text alone, and
of training steps, with the corpus on the devices and fed from its files.

The model is a BERT of `--heads`, `--head-size` and `--layers`. Each side runs in a process of its
own and in turn, several rounds; the table shows medians. Padding counts as tokens. A feed must be
many times as fast as the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.side import Work
from benchmarks.turns import Side, time_in_turns
from common.base.config import PositiveInt, TrainingConfig, parse
from common.base.errors import run_command
from common.base.mesh import set_up_devices
from common.sequence.masking import CountedMaskingConfig
from common.train.engine import ScanEngine, lane_key
from common.train.optim import OptimConfig
from common.train.problem import Data, Problem, teacher_problem
from mlm.data import TextConfig
from mlm.model import TextModel
from mlm.task import task_of


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.mlm_feed`."""

    corpus: Path
    """A folder that `python -m mlm.prepare` has made."""
    length: PositiveInt = 128
    """Tokens in a row."""
    batch_size: PositiveInt = 64
    """Rows in a step."""
    whole_words: bool = False
    """Mask whole words."""
    heads: PositiveInt = 4
    head_size: PositiveInt = 32
    layers: PositiveInt = 3
    steps: PositiveInt = 8
    """Training steps in a round; of batches alone there are 32 times as many."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""


@dataclass(frozen=True)
class Config:
    """What a problem is made of."""

    model: TextModel
    optim: OptimConfig
    training: TrainingConfig


BATCHES_A_STEP = 32
"""Batches alone are so many times as many as steps."""


def main(args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.mlm_feed",
        description="Tokens/s of batches of text, and of training steps.",
    )
    TextConfig(command.corpus, command.length).load()  # before processes begin that would fail
    sides, tokens = {}, {}
    of_step = command.batch_size * command.length
    for name, is_fed in (("on the devices", False), ("from the files", True)):
        for what, trains in (("batches", False), ("steps", True)):
            sides[f"{what}, {name}"] = side(command, is_fed=is_fed, trains=trains)
            times = 1 if trains else BATCHES_A_STEP
            tokens[f"{what}, {name}"] = of_step * command.steps * times
    timings = time_in_turns(sides, command.rounds)
    rates = {name: tokens[name] / timing.median for name, timing in timings.items()}
    Console(soft_wrap=True).print(table_of(command, rates))


def side(command: BenchCommand, *, is_fed: bool, trains: bool) -> Side:
    """Batches or steps, in a process of their own."""
    arguments = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(command).items()
        if name != "rounds"
    }
    return Side("benchmarks.mlm_feed:work", arguments | {"is_fed": is_fed, "trains": trains})


def work(
    corpus: str,
    length: int,
    batch_size: int,
    whole_words: bool,
    heads: int,
    head_size: int,
    layers: int,
    steps: int,
    is_fed: bool,
    trains: bool,
) -> Work:
    """The same in its process."""
    set_up_devices()
    masking = CountedMaskingConfig(whole_words=whole_words)
    config = Config(
        TextModel(heads, head_size, layers),
        OptimConfig((1e-3,), kind="adam"),
        TrainingConfig(10**6, batch_size, eval_every=10**6, eval_examples=64),
    )
    problem = teacher_problem(task_of(TextConfig(Path(corpus), length), masking), config)
    problem = replace(problem, device_bytes=0 if is_fed else 2**60)
    engine = ScanEngine(problem)
    return stepping(engine, steps) if trains else batching(engine, steps * BATCHES_A_STEP)


def stepping(engine: ScanEngine, steps: int) -> Work:
    """Updates of one lane."""
    state = engine.init()

    def advance() -> None:
        nonlocal state
        state = jax.block_until_ready(engine.advance(state, None, steps))

    return Work(advance)


def batching(engine: ScanEngine, steps: int) -> Work:
    """The batches of as many updates, in the same pieces."""
    draw, first = batches_of(engine.problem), 0

    def advance() -> None:
        nonlocal first
        for num_steps in [steps] if engine.feed is None else engine.feed.pieces(steps):
            data = engine.data
            if engine.feed is not None:
                part = engine.feed.part(first, num_steps)
                data = engine.problem.task.with_stored(data, part)
            jax.block_until_ready(draw(data, first, num_steps))
            first += num_steps

    return Work(advance)


def batches_of(problem: Problem) -> jax.stages.Wrapped:
    """The program `(data, first step, number of steps)` that makes batches one after the other, and
    sums what is in them."""

    @jax.jit
    def draw(data: Data, first: jax.Array, num_steps: jax.Array) -> jax.Array:
        stream = lane_key(problem, jnp.uint32(problem.lanes[0].stream), "train-data")

        def add(i: jax.Array, total: jax.Array) -> jax.Array:
            batch = problem.sample(data, jax.random.fold_in(stream, first + i))
            leaves = batch.inputs.tokens_BxT, batch.inputs.at_BxP, batch.labels, batch.mask
            return total + sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in leaves)

        return jax.lax.fori_loop(0, num_steps, add, jnp.float32(0))

    return draw


def table_of(command: BenchCommand, rates: Mapping[str, float]) -> Table:
    """Tokens a second, and how many times the rate of steps on the devices that is."""
    title = (
        f"batches of {command.batch_size} x {command.length} tokens, BERT of {command.layers}"
        f" layers, {command.heads} heads x {command.head_size}"
    )
    table = Table("", "tokens/s", "x steps", title=title, title_justify="left")
    for name, rate in rates.items():
        share = rate / rates["steps, on the devices"]
        table.add_row(name, f"{rate:,.0f}", f"{share:.3g}")
    return table


if __name__ == "__main__":
    run_command(main)
