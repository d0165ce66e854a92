"""`python -m benchmarks.gpu_steps`: this laboratory's training steps, for `benchmarks.gpu`.

One part is one process. Nothing is taken from the cache of compiled programs, so that the first
call of a side tells what compiling costs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_timing import (
    NARROW,
    Shapes,
    Side,
    Sides,
    StepsCommand,
    masked_config,
    mlp_config,
    shapes_of,
    time_all,
    with_dtype,
    with_seeds,
)
from common.base.config import parse
from common.base.errors import run_command
from common.nn import attention
from common.nn.functional import Params
from common.runs.files import write_json
from common.train.engine import ScanEngine
from common.train.problem import Problem
from common.train.speed import product_rate
from parity.blocked import BLOCK_ROWS, BlockedEngine
from parity.config import TrainConfig
from parity.spec import SPEC as PARITY
from parity.task import functional_model
from pcfg.spec import SPEC as PCFG

STEPS = {"batch-one": 2048, "quick": 1000, "transformer": 100, "pcfg-quick": 100, "pcfg-paper": 2}
"""In a timed round."""
TINY_STEPS = 64
OTHER_BLOCKS = (8, 16, 64, 128)
SEEDS = {"batch-one": 3, "quick": 10, "pcfg-quick": 8}
"""That train together, beside one alone. (Three of a Transformer take half a minute to compile.)"""


def main(args: list[str]) -> None:
    """Time the sides of one part."""
    command = parse(StepsCommand, args, prog="benchmarks.gpu_steps", description="Our steps.")
    shapes = shapes_of(command.scale)
    if command.part == "precision":
        write_json(command.out, precision(shapes))
        return
    time_all(command, PARTS[command.part](shapes), peak_bytes, product_rate)


def peak_bytes() -> int | None:
    """The most memory that JAX had in use on the device at one time."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def steps_of(shapes: Shapes, part: str) -> int:
    """Steps in a timed round."""
    return STEPS[part] if shapes.scale == "full" else min(STEPS[part], TINY_STEPS)


def batch_one(shapes: Shapes) -> Sides:
    """The MLP on batches of one: both engines at both widths, one seed alone and three together."""
    return batch_one_sides(shapes, (1, SEEDS["batch-one"]))


def batch_one_alone(shapes: Shapes) -> Sides:
    """The same of one seed."""
    return batch_one_sides(shapes, (1,))


def batch_one_sides(shapes: Shapes, numbers_of_seeds: Sequence[int]) -> Sides:
    """Both engines at both widths."""
    steps = steps_of(shapes, "batch-one")
    sides: dict[str, Callable[[], Side]] = {}
    for width in (None, NARROW):
        for seeds in numbers_of_seeds:
            config = with_seeds(mlp_config(shapes, width), seeds)
            name = f"width {config.model.width}, {seeds} seed{'s' if seeds > 1 else ''}"
            sides[f"blocked, {name}"] = blocked(config, steps, BLOCK_ROWS)
            sides[f"scan, {name}"] = scan(PARITY.teacher_problem(config), steps)
    return sides


def blocks(shapes: Shapes) -> Sides:
    """The wide MLP in blocks of other sizes."""
    config, steps = with_seeds(mlp_config(shapes, None), 1), steps_of(shapes, "batch-one")
    name = f"width {config.model.width}, 1 seed"
    return {f"blocked by {rows}, {name}": blocked(config, steps, rows) for rows in OTHER_BLOCKS}


def quick(shapes: Shapes) -> Sides:
    """The preset's teacher and student."""
    return parity_sides(shapes.quick, steps_of(shapes, "quick"), SEEDS["quick"], "")


def transformer(shapes: Shapes) -> Sides:
    """The published GPT-2s, in bfloat16 (on an accelerator) and in float32."""
    steps, experiment = steps_of(shapes, "transformer"), shapes.transformer
    exact = replace(
        experiment,
        teacher=with_dtype(experiment.teacher, "float32"),
        student=with_dtype(experiment.student, "float32"),
    )
    return {
        **parity_sides(experiment, steps, 1, ", dtype auto"),
        **parity_sides(exact, steps, 1, ", float32"),
    }


def parity_sides(experiment: Any, steps: int, many: int, suffix: str) -> Sides:
    """Teacher and student of an experiment on parity, one seed alone and many together."""
    sides: dict[str, Callable[[], Side]] = {}
    for seeds in dict.fromkeys((1, many)):
        teacher = with_seeds(experiment.teacher, seeds)
        student = with_seeds(experiment.student, seeds)
        name = f"{seeds} seed{'s' if seeds > 1 else ''}{suffix}"
        sides[f"teacher, {name}"] = scan(PARITY.teacher_problem(teacher), steps)
        problem = PARITY.student_problem(student, experiment.teacher)
        init = functional_model(experiment.teacher).init
        sides[f"student, {name}"] = scan(problem, steps, init)
    return sides


def pcfg_quick(shapes: Shapes) -> Sides:
    """The preset's teacher."""
    config, steps = masked_config(shapes, "pcfg-quick"), steps_of(shapes, "pcfg-quick")
    return {
        f"teacher, {seeds} seed{'s' if seeds > 1 else ''}": scan(
            PCFG.teacher_problem(with_seeds(config, seeds)), steps
        )
        for seeds in (1, SEEDS["pcfg-quick"])
    }


def pcfg_paper(shapes: Shapes) -> Sides:
    """The published teacher, the largest step of all."""
    problem = PCFG.teacher_problem(masked_config(shapes, "pcfg-paper"))
    return {"teacher, 1 seed": scan(problem, steps_of(shapes, "pcfg-paper"))}


def pcfg_paper_variants(shapes: Shapes) -> Sides:
    """What its dropout costs, and what the bound on its attention weights."""
    config, steps = masked_config(shapes, "pcfg-paper"), steps_of(shapes, "pcfg-paper")
    undropped = replace(config, model=replace(config.model, dropout=0.0))

    def in_large_slices() -> Side:
        attention.MAX_WEIGHTS *= 8
        return scan(PCFG.teacher_problem(config), steps)()

    return {
        "teacher, no dropout": scan(PCFG.teacher_problem(undropped), steps),
        "teacher, attention in slices 8 times as large": in_large_slices,
    }


def evaluation(shapes: Shapes) -> Sides:
    """A whole evaluation, as one step."""
    quick, transformer = shapes.quick.teacher, shapes.transformer.teacher
    problems = {
        "transformer-paper teacher": PARITY.teacher_problem(transformer),
        "quick teacher, all seeds": PARITY.teacher_problem(quick),
        "batch-one teacher": PARITY.teacher_problem(shapes.batch_one.teacher),
        "pcfg-quick teacher": PCFG.teacher_problem(shapes.pcfg_quick.teacher),
        "pcfg-paper teacher": PCFG.teacher_problem(shapes.pcfg_paper.teacher),
    }
    return {name: record(problem) for name, problem in problems.items()}


PARTS: dict[str, Callable[[Shapes], Sides]] = {
    "batch-one": batch_one,
    "batch-one-alone": batch_one_alone,
    "blocks": blocks,
    "quick": quick,
    "transformer-paper": transformer,
    "pcfg-quick": pcfg_quick,
    "pcfg-paper": pcfg_paper,
    "pcfg-paper-variants": pcfg_paper_variants,
    "evaluation": evaluation,
}


def scan(
    problem: Problem, steps: int, teacher_init: Callable[[jax.Array], Params] | None = None
) -> Callable[[], Side]:
    """Steps one by one.

    Args:
        problem: what is trained.
        steps: of a round.
        teacher_init: untrained parameters of a student's teachers, one for each lane.
    """

    def make() -> Side:
        engine = ScanEngine(problem)
        if teacher_init is None:
            return side(engine, steps)
        keys_L = jax.random.split(jax.random.key(1), len(problem.lanes))
        return side(engine, steps, engine.place(jax.vmap(teacher_init)(keys_L)))

    return make


def blocked(config: TrainConfig, steps: int, rows: int) -> Callable[[], Side]:
    """Steps in blocks."""
    problem = PARITY.teacher_problem(config)
    return lambda: side(BlockedEngine(problem, block_rows=rows), steps)


def side(engine: ScanEngine, steps: int, teachers_L: Params | None = None) -> Side:
    """`steps` more steps of an engine from wherever it has come to."""
    state = [engine.init()]

    def advance() -> None:
        state[0] = jax.block_until_ready(engine.advance(state[0], teachers_L, steps))

    return sized(engine.problem, advance, steps)


def record(problem: Problem) -> Callable[[], Side]:
    """An evaluation of untrained models."""

    def make() -> Side:
        engine = ScanEngine(problem)
        state = [engine.init()]

        def advance() -> None:
            state[0], _ = jax.block_until_ready(engine.record(state[0]))

        return Side(advance, 1, len(problem.lanes) * len(engine.eval_batch.labels))

    return make


def sized(problem: Problem, advance: Callable[[], None], steps: int) -> Side:
    """A side of a problem's steps, whose lanes all see examples of their own."""
    work, examples = problem.work, len(problem.lanes) * problem.size.batch_size
    return Side(advance, steps, examples, work.flops + work.teacher_flops, work.tokens)


def precision(shapes: Shapes) -> dict[str, Any]:
    """How far the engines are from each other on a device whose products may be rounded.

    The change of the parameters over the same steps from the same weights, in float32 with XLA's
    own precision of products (which on a GPU may be TF32) and with the highest, relative to the
    steps one by one with the highest.
    """
    steps = min(steps_of(shapes, "batch-one"), 256)
    found: dict[str, Any] = {"steps": steps, "unit": "norm of the difference / norm of the change"}
    for width in (None, NARROW):
        config = with_seeds(mlp_config(shapes, width), 1)
        changes = {
            f"{name}, {precision}": change(engine, config, steps, precision)
            for precision in ("highest", "default")
            for name, engine in (("scan", ScanEngine), ("blocked", BlockedEngine))
        }
        reference = changes["scan, highest"]
        found[f"width {config.model.width}"] = {
            name: float(jnp.linalg.norm(value - reference) / jnp.linalg.norm(reference))
            for name, value in changes.items()
        }
    return found


def change(
    engine_type: type[ScanEngine], config: TrainConfig, steps: int, precision: str
) -> jax.Array:
    """What some steps change in all parameters, as one vector."""
    problem = replace(PARITY.teacher_problem(config), programs={})
    with jax.default_matmul_precision(precision):
        engine = engine_type(problem)
        before = jax.device_get(engine.init().params)
        after = jax.device_get(engine.advance(engine.init(), None, steps).params)
    leaves = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
    return jnp.concatenate([jnp.ravel(new - old) for new, old in leaves])


if __name__ == "__main__":
    run_command(main)
