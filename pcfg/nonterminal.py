"""`python -m pcfg.nonterminal RUN`: how well the ancestors of every token can be read off the
frozen hidden states of a run's checkpoints.

Two probes train side by side on the same sentences. `linear` reads a token's ancestors off its own
hidden state. `mixing` is the published one (nt_classify.py): each of several heads first averages
the hidden states over positions, with weights that depend on the positions alone. The published
code normalises these weights over the targets, and trains on padding. Here they are normalised over
the sources, and padding is neither source nor target. The untrained model (step 0) is the control:
what a probe reads off it, the probe has learnt by itself.

Causal models are read at the ends of nodes alone, and nothing that comes later is a source
(`python -m pcfg.next_token.nonterminal`).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from common.base.config import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    configuration,
)
from common.base.errors import UserError
from common.base.keys import seed_key
from common.base.mesh import OLDER_EMITTERS, compiler_options, over_lanes
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.blocks import TokenInputs
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, chosen_steps, opened_probe, probed_run
from common.runs.trajectory import Trajectory
from common.train.losses import label_cross_entropy, masked_mean
from common.train.optim import OptimConfig, make_optimizer
from pcfg.config import config_of
from pcfg.grammar import Grammar
from pcfg.sampler import Sampler, Sentences, make_sampler
from pcfg.task import functional_model

NAME = "nonterminals"
TABLE = f"{NAME}.csv"
PROBES = ("linear", "mixing")

TreeT = TypeVar("TreeT")


@configuration
class NonTerminalConfig:
    """Settings of the probe (paper section 4; published code nt_classify.py)."""

    num_train: PositiveInt = 10_240
    """Sentences that the probe learns from in an epoch."""
    num_eval: PositiveInt = 4096
    """Held-out sentences on which it is judged."""
    epochs: PositiveInt = 4
    """How many times the probe sees the training sentences."""
    batch_size: PositiveInt = 64
    """Sentences in an update."""
    learning_rate: PositiveFloat = 1e-2
    """Peak of Adam's learning rate: 6% of the updates warm up to it, then a cosine decays."""
    heads: PositiveInt = 16
    """Heads of the mixing probe."""
    width: PositiveInt = 256
    """Width of a position's vector in each head of the mixing probe."""
    every: NonNegativeInt = 1
    """Probe every so many checkpoints, and the first and the last in any case; 0: those two
    alone."""
    seed: Seed = 0
    """Seed of the sentences and of the probes' initial weights."""

    def __post_init__(self) -> None:
        if self.num_train % self.batch_size or self.num_eval % self.batch_size:
            raise ValueError(
                f"num_train = {self.num_train} and num_eval = {self.num_eval} must be multiples of"
                f" batch_size = {self.batch_size}"
            )


@dataclass(frozen=True)
class Reading:
    """Where probes read a model's hidden states."""

    at_ends: bool
    """Targets of a level are the tokens at which a node of it ends; otherwise all words, at every
    level."""
    is_causal: bool
    """The mixing probe averages over the positions up to the target; otherwise over all."""
    length: int | None = None
    """Tokens of the longest input that the model takes: of a sentence so many count; None: all."""

    def cut(self, sentences: Sentences) -> Sentences:
        """The part of sentences that the model takes; the lengths stay as they are."""
        tokens_BxT, length_B, ancestors_BxTxD, ends_BxTxD = sentences
        taken = slice(self.length)
        return Sentences(
            tokens_BxT[:, taken], length_B, ancestors_BxTxD[:, taken], ends_BxTxD[:, taken]
        )

    def targets(self, sentences: Sentences, level: int) -> jax.Array:
        """The tokens whose ancestor of a level is asked for, `(B, T)`."""
        if self.at_ends:
            return sentences.ends_BxTxD[..., level]
        return sentences.ancestors_BxTxD[..., 0] >= 0

    def sources(self, is_token_BxT: jax.Array) -> jax.Array:
        """The positions over which the mixing probe averages, for `both_logits`. BOS is always one
        of them."""
        if not self.is_causal:
            return is_token_BxT[:, None]
        positions_T = jnp.arange(is_token_BxT.shape[1])
        return is_token_BxT[:, None] & (positions_T[None, None] <= positions_T[None, :, None])


EVERYWHERE = Reading(at_ends=False, is_causal=False)
"""Of a masked model: every word is a target, every position a source."""


def read_accuracy(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    columns = ("step", "seed", "probe", "level", "accuracy", "chance")
    return read_table(run / FOLDER / TABLE, columns, "`python -m pcfg.nonterminal`")


def probe_run(path: Path, config: NonTerminalConfig) -> None:
    """Write `probes/nonterminals.csv` of a finished run. An interrupted probe goes on where it
    stopped; a complete one is left as it is.

    Columns: step, examples, seed, learning_rate, probe (linear or mixing), level (0 is the start),
        accuracy over the tokens of held-out sentences, and chance (the accuracy of always answering
        with the level's commonest symbol).

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings.
    """
    run = probed_run(path, "pcfg")
    model = config_of(run)
    sampler = make_sampler(model.data.load())
    functional = functional_model(model, sampler)

    def hidden(params: Params, tokens_BxT: jax.Array) -> jax.Array:
        inputs = TokenInputs(tokens_BxT, tokens_BxT != sampler.vocabulary.pad)
        return functional.hidden(params, inputs, functional.num_layers - 1).astype(jnp.float32)

    probe_nonterminals(run, config, model.data.load(), hidden)


def probe_nonterminals(
    run: RunDirectory,
    config: NonTerminalConfig,
    grammar: Grammar,
    hidden: Callable[[Params, jax.Array], jax.Array],
    reading: Reading = EVERYWHERE,
    first_level: int = 0,
) -> None:
    """Write `probes/nonterminals.csv` of a run; see `probe_run`.

    Args:
        run: as `probed_run` returns it.
        config: how long and how.
        grammar: that of the run's sentences.
        hidden: parameters of one model and tokens `(B, T)` to hidden states `(B, T, M)`.
        reading: at which tokens, and from which.
        first_level: the table's name of the start's level.

    Raises:
        UserError: the run is in use, or was probed with other settings; or there is nothing to
            predict.
    """
    classes = tuple(len(level) for level in grammar.levels[:-1])
    if max(classes) == 1:
        raise UserError(
            f"{run.path}: no level of the grammar has more than one symbol, so that there is"
            " nothing to predict"
        )
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        sampler = make_sampler(grammar)
        trajectory = Trajectory(run)
        steps = chosen_steps(trajectory.steps(), config.every)
        measure = over_lanes(
            lambda params: probe_accuracy(
                functools.partial(hidden, params), sampler, classes, config, reading
            ),
            len(run.manifest["seeds"]),
        )

        def compute(group: Sequence[int]) -> dict[str, np.ndarray]:
            return {"accuracy_Lx2xD": np.asarray(measure(trajectory.restore(group[0])))}

        chance_of_evaluation = jax.jit(
            lambda: _chance(sampler, classes, config, reading),
            compiler_options=compiler_options(OLDER_EMITTERS),
        )
        chance_D = np.asarray(chance_of_evaluation())
        tables = [
            _rows(run, step, part["accuracy_Lx2xD"], chance_D, first_level)
            for step, part in zip(steps, opened.over(steps, compute), strict=True)
        ]
        write_text(
            opened.folder / TABLE, pd.concat(tables).to_csv(index=False, float_format="%.6g")
        )


def probe_accuracy(
    hidden: Callable[[jax.Array], jax.Array],
    sampler: Sampler,
    classes: Sequence[int],
    config: NonTerminalConfig,
    reading: Reading = EVERYWHERE,
) -> jax.Array:
    """Train both probes on the hidden states of one model and judge them; accuracies `(2, D)` in
    the order of `PROBES`.

    Args:
        hidden: tokens `(B, T)` to hidden states `(B, T, M)`.
        sampler: draws the sentences; every epoch sees the same ones.
        classes: symbols of every level, `(D,)`.
        config: how long and how.
        reading: at which tokens, and from which.
    """
    examples = _Examples(hidden, sampler, classes, config.batch_size, reading)
    params = _trained(examples, seed_key(config.seed, "nonterminal-train"), config)
    eval_key = seed_key(config.seed, "nonterminal-eval")
    right_Nx2xD, targets_NxD = jax.lax.map(
        lambda i: examples.num_right(params, *examples.batch(eval_key, i)),
        jnp.arange(config.num_eval // config.batch_size),
    )
    return jnp.sum(right_Nx2xD, axis=0) / jnp.sum(targets_NxD, axis=0)[None]


@dataclass(frozen=True)
class _Examples:
    """Sentences with their ancestors, and the hidden states of one model on them."""

    hidden: Callable[[jax.Array], jax.Array]
    sampler: Sampler
    classes: Sequence[int]
    batch_size: int
    reading: Reading

    def batch(self, key: jax.Array, i: jax.Array) -> tuple[Sentences, jax.Array]:
        """The i-th batch of a key's stream, with its hidden states `(B, T, M)`."""
        sentences = self.reading.cut(self.sampler.sample(key, self.batch_size, i * self.batch_size))
        return sentences, self.hidden(sentences.tokens_BxT)

    def loss(self, params: Params, sentences: Sentences, hidden_BxTxM: jax.Array) -> jax.Array:
        """Cross-entropy, nats: the mean over the targets, summed over probes and levels."""
        losses = []
        for logits_BxTxC, level in self._logits(params, sentences, hidden_BxTxM):
            label_BxT = sentences.ancestors_BxTxD[..., level].clip(0).astype(jnp.int32)
            is_target_BxT = self.reading.targets(sentences, level).astype(jnp.float32)
            losses.append(masked_mean(label_cross_entropy(logits_BxTxC, label_BxT), is_target_BxT))
        return jnp.stack(losses).sum()

    def num_right(
        self, params: Params, sentences: Sentences, hidden_BxTxM: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """How many ancestors each probe tells at each level, `(2, D)`, and the number of targets,
        `(D,)`."""
        right = []
        for logits_BxTxC, level in self._logits(params, sentences, hidden_BxTxM):
            is_right_BxT = jnp.argmax(logits_BxTxC, -1) == sentences.ancestors_BxTxD[..., level]
            right.append(jnp.sum(is_right_BxT & self.reading.targets(sentences, level)))
        num_targets = [
            jnp.sum(self.reading.targets(sentences, level)) for level in range(len(self.classes))
        ]
        return jnp.stack(right).reshape(len(PROBES), -1), jnp.stack(num_targets)

    def _logits(
        self, params: Params, sentences: Sentences, hidden_BxTxM: jax.Array
    ) -> Iterator[tuple[jax.Array, int]]:
        """For each probe and each level the logits, and the level."""
        is_token_BxT = sentences.tokens_BxT != self.sampler.vocabulary.pad
        sources_BxTxT = self.reading.sources(is_token_BxT)
        for of_probe in both_logits(params, hidden_BxTxM, sources_BxTxT):
            for level, of_level in enumerate(split_levels(of_probe, self.classes)):
                yield of_level, level


def _trained(examples: _Examples, key: jax.Array, config: NonTerminalConfig) -> Params:
    """The weights of both probes after all epochs over the sentences of a key."""
    num_batches = config.num_train // config.batch_size
    num_steps = config.epochs * num_batches
    optim = OptimConfig((config.learning_rate,), decay="cosine", kind="adam")
    optimizer = make_optimizer(optim, num_steps, jnp.float32(config.learning_rate))

    def update(carry: tuple[Params, Any], step: jax.Array) -> tuple[tuple[Params, Any], None]:
        params, state = carry
        sentences, hidden_BxTxM = examples.batch(key, step % num_batches)
        grads = jax.grad(examples.loss)(params, sentences, jax.lax.stop_gradient(hidden_BxTxM))
        changes, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, changes), state), None  # type: ignore[return-value]

    _, hidden_BxTxM = examples.batch(key, jnp.int32(0))
    params = init_probes(
        seed_key(config.seed, "nonterminal-init"),
        config,
        hidden_BxTxM.shape[1],
        hidden_BxTxM.shape[2],
        sum(examples.classes),
    )
    params = _varying_with(hidden_BxTxM, params)
    start = params, _varying_with(hidden_BxTxM, optimizer.init(params))
    (params, _), _ = jax.lax.scan(update, start, jnp.arange(num_steps))
    return params


def _varying_with(array: jax.Array, tree: TreeT) -> TreeT:
    """The same values, derived from an array: shard_map takes constants to be the same for all
    lanes, and a loop's state must vary from the start if it does later."""
    zero = 0 * array.ravel()[0]
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), tree)


def init_probes(
    key: jax.Array, config: NonTerminalConfig, length: int, hidden_size: int, num_outputs: int
) -> Params:
    """Untrained weights of both probes; `num_outputs` counts the symbols of all levels."""
    positions_key, linear_key, mixing_key = jax.random.split(key, 3)
    scale = hidden_size**-0.5
    return {
        "linear": {
            "kernel_MxC": scale * jax.random.normal(linear_key, (hidden_size, num_outputs)),
            "bias_C": jnp.zeros(num_outputs),
        },
        "mixing": {
            "positions_HxKxT": (
                config.width**-0.5
                * jax.random.normal(positions_key, (config.heads, config.width, length))
            ),
            "kernel_HxMxC": (
                (scale / config.heads)
                * jax.random.normal(mixing_key, (config.heads, hidden_size, num_outputs))
            ),
            "bias_C": jnp.zeros(num_outputs),
        },
    }


def both_logits(
    params: Params, hidden_BxTxM: jax.Array, sources_BxTxT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Logits `(B, T, C)` of the linear and of the mixing probe.

    Args:
        params: as from `init_probes`.
        hidden_BxTxM: what both read.
        sources_BxTxT: the positions over which the mixing probe averages for every target, one at
            least; `(B, 1, T)` if they are the same for all.
    """
    linear, mixing = params["linear"], params["mixing"]
    linear_BxTxC = hidden_BxTxM @ linear["kernel_MxC"] + linear["bias_C"][None, None]
    scores_HxTxT = jnp.einsum("hkt,hks->hts", mixing["positions_HxKxT"], mixing["positions_HxKxT"])
    weights_BxHxTxT = jax.nn.softmax(scores_HxTxT[None], axis=-1, where=sources_BxTxT[:, None])
    mixed_BxHxTxM = jnp.einsum("bhts,bsm->bhtm", weights_BxHxTxT, hidden_BxTxM)
    mixing_BxTxC = jnp.einsum("bhtm,hmc->btc", mixed_BxHxTxM, mixing["kernel_HxMxC"])
    return linear_BxTxC, mixing_BxTxC + mixing["bias_C"][None, None]


def split_levels(logits_xC: jax.Array, classes: Sequence[int]) -> list[jax.Array]:
    """The logits of every level, `(..., classes of the level)`."""
    return jnp.split(logits_xC, np.cumsum(classes)[:-1].tolist(), axis=-1)


def _chance(
    sampler: Sampler, classes: Sequence[int], config: NonTerminalConfig, reading: Reading
) -> jax.Array:
    """Share of the commonest symbol of every level among the targets in the evaluation
    sentences."""
    key = seed_key(config.seed, "nonterminal-eval")
    sentences = reading.cut(sampler.sample(key, config.num_eval))
    chances = []
    for level, num_symbols in enumerate(classes):
        is_target_BxT = reading.targets(sentences, level)
        # What is no target is counted first and left out.
        index_BxT = jnp.where(is_target_BxT, sentences.ancestors_BxTxD[..., level] + 1, 0)
        commonest = jnp.bincount(index_BxT.ravel(), length=num_symbols + 1)[1:].max()
        chances.append(commonest / jnp.sum(is_target_BxT))
    return jnp.stack(chances)


def _rows(
    run: RunDirectory, step: int, accuracy_Lx2xD: np.ndarray, chance_D: np.ndarray, first_level: int
) -> pd.DataFrame:
    batch_size = run.record["config"]["training"]["batch_size"]
    rows = []
    for lane, (seed, rate) in enumerate(
        zip(run.manifest["seeds"], run.manifest["learning_rates"], strict=True)
    ):
        where = {
            "step": step,
            "examples": step * batch_size,
            "seed": seed,
            "learning_rate": rate,
        }
        for name, accuracy_D in zip(PROBES, accuracy_Lx2xD[lane], strict=True):
            for level, (accuracy, chance) in enumerate(
                zip(accuracy_D, chance_D, strict=True), first_level
            ):
                rows.append(
                    where | {"probe": name, "level": level, "accuracy": accuracy, "chance": chance}
                )
    return pd.DataFrame(rows)


PROBE = Probe(
    "pcfg.nonterminal",
    NAME,
    "Predict the ancestor non-terminals of every token, level by level, from the frozen hidden"
    " states of a run's checkpoints.",
    NonTerminalConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
