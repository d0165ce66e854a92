"""What our steps and those of the peers have in common: whose they are, and how they are timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import parity.presets
import pcfg.next_token.presets
import pcfg.presets
from benchmarks.gpu import Scale
from common.base.config import PositiveInt
from common.nn.blocks import TransformerConfig
from common.nn.mlp import MLPConfig
from common.runs.files import write_json
from parity.config import TrainConfig as ParityConfig
from pcfg.config import TrainConfig as MaskedConfig
from pcfg.next_token.config import TrainConfig as NextTokenConfig

NARROW = 100
"""Hidden units of the published student, whose steps are timed beside those of its teacher."""
Attention = Literal["sdpa", "eager"]
"""Hugging Face's implementations: a function of PyTorch's, which is the default, or products."""
Logits = Literal["all", "selected"]
"""Of which positions a masked model computes them."""
GrammarPart = Literal["pcfg-quick", "pcfg-paper", "next-token-quick"]
"""Presets on grammars: on masked tokens, or on next ones."""
GrammarConfig = MaskedConfig | NextTokenConfig


@dataclass(frozen=True)
class StepsCommand:
    """Arguments of `python -m benchmarks.gpu_steps` and `python -m benchmarks.gpu_peers`."""

    part: str
    """Whose steps."""
    out: Path
    """The JSON file to write."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    scale: Scale = "full"
    """tiny: small models and few steps, to see whether the script works."""


class Side(NamedTuple):
    """Something to time."""

    advance: Callable[[], None]
    """`steps` more steps, to their end."""
    steps: int
    examples: int
    """Of a step, those of all seeds together."""
    flops: float | None = None
    """Of an example."""
    tokens: int = 1
    """Of an example, padding included."""


Sides = Mapping[str, Callable[[], Side]]
"""What is to be timed, by name; made when its turn comes, because two may not fit in memory."""
Memory = Callable[[], int | None]
"""The most bytes that were in use at one time since the process began; None: it is not known."""


class Shapes(NamedTuple):
    """The experiments whose steps are timed."""

    batch_one: parity.presets.Experiment
    quick: parity.presets.Experiment
    transformer: parity.presets.Experiment
    pcfg_quick: pcfg.presets.Experiment
    next_token_quick: pcfg.next_token.presets.Experiment
    pcfg_paper: pcfg.presets.Experiment
    scale: Scale


def shapes_of(scale: Scale) -> Shapes:
    """The presets, or small models of the same kinds."""
    of_parity = {name: parity.presets.PRESETS[name].config for name in parity.presets.PRESETS}
    of_pcfg = {name: pcfg.presets.PRESETS[name].config for name in pcfg.presets.PRESETS}
    full = Shapes(
        batch_one=of_parity["paper"],
        quick=of_parity["quick"],
        transformer=of_parity["transformer-paper"],
        pcfg_quick=of_pcfg["quick"],
        next_token_quick=pcfg.next_token.presets.PRESETS["quick"].config,
        pcfg_paper=of_pcfg["paper"],
        scale=scale,
    )
    if scale == "full":
        return full
    short = replace(full.pcfg_paper.teacher.data, start_level=4)
    paper = replace(full.pcfg_paper, teacher=replace(full.pcfg_paper.teacher, data=short))
    tiny = {name: with_small_models(getattr(full, name)) for name in Shapes._fields[:5]}
    return Shapes(**tiny, pcfg_paper=with_small_models(paper), scale=scale)


def with_small_models(experiment: Any) -> Any:
    """An experiment whose teacher and student are small, with small batches."""
    teacher, student = (with_small_model(experiment.teacher), with_small_model(experiment.student))
    if not isinstance(experiment, parity.presets.Experiment):
        return replace(experiment, teacher=teacher, student=student)
    # The sizes with which the models' are compared have no meaning where these are others.
    return replace(experiment, teacher=teacher, student=student, sizes=())


def with_small_model(config: Any) -> Any:
    """A configuration of the same kind whose steps cost next to nothing."""
    is_transformer = isinstance(config.model, TransformerConfig)
    small = {"heads": 1, "layers": 1} if is_transformer else {"width": 8}
    few = {"batch_size": min(config.training.batch_size, 4), "eval_examples": 16}
    return replace(
        config,
        model=replace(config.model, **small),
        training=replace(config.training, **few),
    )


def with_seeds(config: Any, num_seeds: int) -> Any:
    """A configuration with another number of seeds."""
    return replace(config, training=replace(config.training, num_seeds=num_seeds))


def with_dtype(config: Any, dtype: Literal["auto", "float32"]) -> Any:
    """A Transformer's configuration with activations of another type."""
    return replace(config, model=replace(config.model, dtype=dtype))


def mlp_config(shapes: Shapes, width: int | None) -> ParityConfig:
    """The published teacher on batches of one; with a width, that one in place of its own."""
    teacher = shapes.batch_one.teacher
    return teacher if width is None else replace(teacher, model=MLPConfig(width))


def grammar_config(shapes: Shapes, part: GrammarPart) -> GrammarConfig:
    """The teacher of a preset for grammars."""
    if part == "next-token-quick":
        return shapes.next_token_quick.teacher
    return masked_config(shapes, part)


def masked_config(shapes: Shapes, part: Literal["pcfg-quick", "pcfg-paper"]) -> MaskedConfig:
    """The same of those on masked tokens."""
    return (shapes.pcfg_quick if part == "pcfg-quick" else shapes.pcfg_paper).teacher


def time_all(
    command: StepsCommand,
    sides: Sides,
    memory: Memory,
    peak_flops: Callable[[], float] | None = None,
) -> None:
    """Time one side after another, and write the file after each.

    Args:
        command: where to write, and how many rounds.
        sides: what is to be timed.
        memory: asked after each side.
        peak_flops: what the device can do in a second, beside which a side's operations are put;
            asked last, because the answer takes memory.
    """
    found: dict[str, Any] = {}
    for name, make in sides.items():
        try:
            found[name] = timing(make(), command.rounds)
        except Exception as error:  # whatever a library raises: out of memory, say
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:1500]}"}
        peak_bytes = memory()
        if peak_bytes is not None:
            found[name]["peak_memory_gib_of_process_so_far"] = round(peak_bytes / 2**30, 3)
        write_json(command.out, found)
    if peak_flops is not None:
        peak = peak_flops()
        for of_side in found.values():
            if "flops_per_second" in of_side:
                of_side["model_flop_utilisation"] = of_side["flops_per_second"] / peak
        write_json(command.out, found | {"product_of_matrices_flops_per_second": peak})


def timing(side: Side, rounds: int) -> dict[str, Any]:
    """The first call, then `rounds` more of them, and what follows from their median."""
    first, *seconds = (seconds_of(side.advance) for _ in range(rounds + 1))
    median = statistics.median(seconds)
    rate = side.examples * side.steps / median
    found = {
        "microseconds_per_step": round(1e6 * median / side.steps, 3),
        "rounds_microseconds_per_step": [round(1e6 * each / side.steps, 3) for each in seconds],
        "examples_per_second": round(rate, 1),
        "tokens_per_second": round(rate * side.tokens, 1),
        "examples_per_step": side.examples,
        "steps_per_round": side.steps,
        "first_call_seconds": round(first, 3),
        "compile_seconds": round(first - median, 3),
    }
    return found if side.flops is None else found | {"flops_per_second": rate * side.flops}


def seconds_of(call: Callable[[], None]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
