"""`python -m benchmarks.pcfg_sampler`: sentences per second of the sampler on one core, beside
plain recursions over the grammar.

The plain recursion draws every rule with `numpy.random.choice`, as one writes it at first (and as
the published create_mlm.py does); the faster one with `random.choices`, which is made for single
draws. Each side runs in a process of its own and in turn, several rounds; the table shows medians.
"""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.side import Work
from benchmarks.turns import Side, time_in_turns
from common.base.config import PositiveInt, parse
from common.base.errors import run_command
from pcfg.grammar import Grammar, Rule, load
from pcfg.sampler import make_sampler

RECURSION, FAST_RECURSION = "plain recursion", "faster recursion"


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.pcfg_sampler`."""

    grammar: str = "cfg3b"
    """A shipped grammar or a file."""
    batch_size: PositiveInt = 512
    """Sentences that the sampler draws at one time."""
    sentences: PositiveInt = 10_240
    """Sentences in a timed round of the sampler; the recursions draw a 64th of them."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""


def main(args: list[str]) -> None:
    """Time and print."""
    command = parse(
        BenchCommand,
        args,
        prog="benchmarks.pcfg_sampler",
        description="Sentences/s of the sampler, beside plain recursions.",
    )
    grammar = load(command.grammar)  # before processes begin that would not find it either
    batches, few = -(-command.sentences // command.batch_size), -(-command.sentences // 64)
    sides = {
        RECURSION: recursion_side(command.grammar, "numpy", few),
        FAST_RECURSION: recursion_side(command.grammar, "python", few),
        "here, tokens": sampler_side(command, batches, with_derivations=False),
        "here, tokens and derivations": sampler_side(command, batches, with_derivations=True),
    }
    timings = time_in_turns(sides, command.rounds)
    drawn = {
        name: few if name in (RECURSION, FAST_RECURSION) else batches * command.batch_size
        for name in sides
    }
    rates = {name: drawn[name] / timing.median for name, timing in timings.items()}
    Console(soft_wrap=True).print(table_of(grammar, command.batch_size, rates))


def use_one_core() -> None:
    """Keep this process, and whatever threads it starts from now on, on one core where the system
    lets it. Call before anything is computed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def numpy_choice(rules: tuple[Rule, ...]) -> Rule:
    """One alternative, by its probability."""
    return rules[np.random.choice(len(rules), p=[rule.probability for rule in rules])]


def python_choice(rules: tuple[Rule, ...]) -> Rule:
    """The same without numpy."""
    return random.choices(rules, [rule.probability for rule in rules])[0]


def recursion_side(grammar: str, choice: Literal["numpy", "python"], num_sentences: int) -> Side:
    """Lists of terminals, one sentence after the other."""
    arguments = {"grammar": grammar, "choice": choice, "num_sentences": num_sentences}
    return Side("benchmarks.pcfg_sampler:recursion", arguments)


def recursion(grammar: str, choice: Literal["numpy", "python"], num_sentences: int) -> Work:
    """The same in its process."""
    use_one_core()
    loaded, choose = load(grammar), numpy_choice if choice == "numpy" else python_choice

    def expand(symbol: str) -> list[str]:
        if symbol not in loaded.rules:
            return [symbol]
        sentence = []
        for child in choose(loaded.rules[symbol]).children:
            sentence.extend(expand(child))
        return sentence

    def draw() -> None:
        for _ in range(num_sentences):
            expand(loaded.levels[0][0])

    return Work(draw)


def sampler_side(command: BenchCommand, batches: int, *, with_derivations: bool) -> Side:
    """Compiled batches, of which the caller uses the tokens, or the derivations as well."""
    arguments = {
        "grammar": command.grammar,
        "batch_size": command.batch_size,
        "batches": batches,
        "with_derivations": with_derivations,
    }
    return Side("benchmarks.pcfg_sampler:sampler", arguments)


def sampler(grammar: str, batch_size: int, batches: int, with_derivations: bool) -> Work:
    """The same in its process."""
    use_one_core()
    drawn = make_sampler(load(grammar))

    @jax.jit
    def sample(key: jax.Array) -> object:
        sentences = drawn.sample(key, batch_size)
        return sentences if with_derivations else sentences.tokens_BxT

    keys = jax.random.split(jax.random.key(0), batches)

    def draw() -> None:
        for key in keys:
            jax.block_until_ready(sample(key))

    return Work(draw)


def table_of(grammar: Grammar, batch_size: int, rates: Mapping[str, float]) -> Table:
    """Sentences per second, and how many times either recursion that is."""
    shortest, longest = grammar.length_bounds()
    title = (
        f"{grammar.name}, sentences of {shortest} to {longest} tokens, batches of {batch_size}, one"
        " core"
    )
    table = Table("", "sentences/s", "x plain", "x faster", title=title, title_justify="left")
    for name, rate in rates.items():
        table.add_row(
            name,
            f"{rate:,.0f}",
            f"{rate / rates[RECURSION]:.1f}",
            f"{rate / rates[FAST_RECURSION]:.1f}",
        )
    return table


if __name__ == "__main__":
    run_command(main)
