"""`python -m benchmarks.mlm_bert`: milliseconds of a training step of BERT on masked text, the
`laptop` teacher, beside Hugging Face's, and beside the products of matrices in it.

Each side runs in a process of its own and in turn, several rounds; the table shows medians. All
train in float32 with Adam and clipped gradients on rows of the same shape with as many masks.
Hugging Face's `BertForMaskedLM` computes the logits of all positions; put together by hand from its
parts it computes those of the masked ones alone, as ours does. Both are spared some of the work:
rows are drawn from a pool made before, and the learning rate is constant.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.gpu import ON_CPU, Scale
from benchmarks.gpu_steps import scan
from benchmarks.gpu_timing import Attention, Logits, with_seeds, with_small_model
from benchmarks.report import StepSpeed, our_name, write_found
from benchmarks.side import Work
from benchmarks.turns import Side, Timing, time_in_turns
from common.base.config import PositiveInt, parse
from common.base.errors import run_command
from common.base.mesh import num_cores, set_up_devices
from mlm.config import TrainConfig
from mlm.data import num_asked
from mlm.presets import PRESETS, SAMPLE
from mlm.spec import SPEC

NAME = "BERT on text of `laptop`"
OURS, PRODUCTS = our_name(1), "products of matrices alone"


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.mlm_bert`."""

    corpus: Path = SAMPLE
    """A folder that `python -m mlm.prepare` has made; its vocabulary counts, its text does not."""
    attentions: tuple[Attention, ...] = ("sdpa", "eager")
    """Hugging Face's implementations of attention that are tried."""
    threads: tuple[PositiveInt, ...] = field(default_factory=lambda: (num_cores(),))
    """With how many threads of PyTorch each of them is tried."""
    steps: PositiveInt = 10
    """Steps in a timed round."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    scale: Scale = "full"
    """tiny: a small model and a small batch, to see whether the script works."""
    out: Path | None = None
    """A JSON file to write."""


class Product(NamedTuple):
    """`(N, I, J)` times `(N, J, K)`: a product of matrices, or N of them."""

    n: int
    i: int
    j: int
    k: int


def main(args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.mlm_bert",
        description=f"Milliseconds of a training step: {NAME}, beside Hugging Face's.",
    )
    config = config_of(str(command.corpus), command.scale)
    vocabulary = config.data.load().vocabulary.size
    training = config.training
    title = (
        f"{NAME}: width {config.model.width}, {training.batch_size} rows of {config.data.length}"
        f" tokens, {vocabulary:,} word pieces, {num_cores()} cores"
    )
    timings = time_in_turns(sides_of(command), command.rounds)
    Console(soft_wrap=True).print(table_of(command, title, timings))
    if command.out is not None:
        batch = f"batch {training.batch_size}"
        speeds = [
            StepSpeed(
                f"{NAME} ({batch}), logits of {logits} positions",
                "ms",
                1e3 * fastest_of(timings, logits) / command.steps,
                1,
                1e3 * timings[OURS].median / command.steps,
            )
            for logits in ("all", "selected")
        ]
        write_found(command.out, "mlm_bert", {title: timings}, speeds)


def config_of(corpus: str, scale: Scale) -> TrainConfig:
    """The teacher of the preset on another corpus, one seed of it."""
    teacher = PRESETS["laptop"].config.teacher
    config = with_seeds(replace(teacher, data=replace(teacher.data, corpus=Path(corpus))), 1)
    return config if scale == "full" else with_small_model(config)


def sides_of(command: BenchCommand) -> dict[str, Side]:
    """Ours, its products, and Hugging Face's."""
    common = {"corpus": str(command.corpus), "scale": command.scale, "steps": command.steps}
    sides = {
        OURS: Side("benchmarks.mlm_bert:steps_of_ours", common),
        PRODUCTS: Side("benchmarks.mlm_bert:products_of_ours", common),
    }
    logits: tuple[Logits, ...] = ("all", "selected")
    for kind in logits:
        for attention in command.attentions:
            for threads in sorted(set(command.threads)):
                settings = {"logits": kind, "attention": attention, "threads": threads}
                sides[f"{peer_name(kind)}, {attention}, {threads} threads"] = Side(
                    "benchmarks.mlm_peers:steps_of_peer", common | settings, ON_CPU
                )
    return sides


def peer_name(logits: str) -> str:
    """How the names of Hugging Face's sides begin."""
    return f"Hugging Face, logits of {logits} positions"


def fastest_of(timings: Mapping[str, Timing], logits: str) -> float:
    """Seconds of a round of the fastest of Hugging Face's sides of a kind."""
    names = [name for name in timings if name.startswith(peer_name(logits))]
    return min(timings[name].median for name in names)


def steps_of_ours(corpus: str, scale: Scale, steps: int) -> Work:
    """Rounds of `steps` updates."""
    set_up_devices()
    return Work(scan(SPEC.teacher_problem(config_of(corpus, scale)), steps)().advance)


def products_of_ours(corpus: str, scale: Scale, steps: int) -> Work:
    """As many products of matrices of the same shapes as there are in these updates, one after the
    other."""
    set_up_devices()
    config = config_of(corpus, scale)
    counts = products_of(config, config.data.load().vocabulary.size)
    multiply = jax.jit(jnp.matmul)
    operands = {}
    for product in counts:
        n, i, j, k = product
        a = jax.random.normal(jax.random.key(0), (n, i, j) if n > 1 else (i, j))
        b = jax.random.normal(jax.random.key(1), (n, j, k) if n > 1 else (j, k))
        operands[product] = jax.block_until_ready((a, b))

    def advance() -> None:
        for product, count in counts.items():
            for _ in range(steps * count - 1):
                multiply(*operands[product])
            jax.block_until_ready(multiply(*operands[product]))

    return Work(advance)


def products_of(config: TrainConfig, vocabulary: int) -> Counter[Product]:
    """How often a step computes products of each shape, forward and backward."""
    model, length = config.model, config.data.length
    rows, width, asked = (
        config.training.batch_size,
        model.width,
        num_asked(length, config.masking),
    )
    forward: Counter[Product] = Counter()
    for layer in range(model.layers):
        queries = asked if layer == model.layers - 1 else length
        for readers, count in ((queries, 2), (length, 2)):  # queries, output; keys, values
            forward[Product(1, rows * readers, width, width)] += count
        each = rows * model.heads
        forward[Product(each, queries, model.head_size, length)] += 1
        forward[Product(each, queries, length, model.head_size)] += 1
        forward[Product(1, rows * queries, width, 4 * width)] += 1
        forward[Product(1, rows * queries, 4 * width, width)] += 1
    forward[Product(1, rows * asked, width, width)] += 1
    forward[Product(1, rows * asked, width, vocabulary)] += 1
    of_step: Counter[Product] = Counter()
    for (n, i, j, k), count in forward.items():
        of_step[Product(n, i, j, k)] += count
        of_step[Product(n, i, k, j)] += count  # the gradient of the left factor
        of_step[Product(n, j, i, k)] += count  # and of the right one
    return of_step


def table_of(command: BenchCommand, title: str, timings: Mapping[str, Timing]) -> Table:
    """Milliseconds of a step, and how many times as long as ours that is."""
    table = Table("", "ms", "x ours", title=title, title_justify="left")
    for name, timing in timings.items():
        milliseconds = 1e3 * timing.median / command.steps
        share = timing.median / timings[OURS].median
        table.add_row(name, f"{milliseconds:.2f}", f"{share:.2f}")
    return table


if __name__ == "__main__":
    run_command(main)
