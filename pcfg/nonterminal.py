"""`python -m pcfg.nonterminal RUN`: how well the ancestors of every token can be read off the
frozen hidden states of a run's checkpoints.

Two probes, trained on the same sentences side by side: `linear` reads a token's ancestors off its
own hidden state; `mixing` is the published one (nt_classify.py), in which each of several heads
first averages the hidden states over positions, with weights that depend on the positions alone.
The published code normalises these weights over the targets and trains on padding; here they are
normalised over the sources, and padding is neither. The untrained model (step 0) is the control:
what a probe reads off that, it has learnt by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
from common.base.mesh import over_lanes
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.models import Params
from common.nn.transformer import TokenInputs
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, chosen_steps, opened_probe, probed_run
from common.runs.trajectory import Trajectory
from common.train.losses import label_cross_entropy, masked_mean
from common.train.optim import OptimConfig, make_optimizer
from pcfg.config import StudentConfig, TrainConfig, config_of
from pcfg.sampler import Sampler, Sentences, make_sampler
from pcfg.task import functional_model

NAME = "nonterminals"
TABLE = f"{NAME}.csv"
PROBES = ("linear", "mixing")


@configuration
class NonTerminalConfig:
    """Settings of the probe (paper section 4; published code nt_classify.py)."""

    num_train: PositiveInt = 10_240
    """Sentences that the probe learns from in an epoch."""
    num_eval: PositiveInt = 4096
    """Held-out sentences on which it is judged."""
    epochs: PositiveInt = 4
    """How often it sees the training sentences."""
    batch_size: PositiveInt = 64
    """Sentences a step."""
    learning_rate: PositiveFloat = 1e-2
    """Peak of Adam's rate, after 6% warm-up, before a cosine decay."""
    heads: PositiveInt = 16
    """Of the mixing probe."""
    width: PositiveInt = 256
    """Of a position's vector in each head of the mixing probe."""
    every: NonNegativeInt = 1
    """Probe every so many checkpoints, and always the untrained and the last one; 0: those two
    alone."""
    seed: Seed = 0
    """Of the sentences and of the probe's initial weights."""

    def __post_init__(self) -> None:
        if self.num_train % self.batch_size or self.num_eval % self.batch_size:
            raise ValueError(
                f"num_train = {self.num_train} and num_eval = {self.num_eval} must be multiples of"
                f" batch_size = {self.batch_size}"
            )


def read_accuracy(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    columns = ("step", "seed", "probe", "level", "accuracy", "chance")
    return read_table(run / FOLDER / TABLE, columns, "`python -m pcfg.nonterminal`")


def probe_run(path: Path, config: NonTerminalConfig) -> None:
    """Write `probes/nonterminals.csv` of a finished run; goes on where an interrupted probe
    stopped, and does nothing when all is there.

    Columns: step, examples, seed, learning_rate, probe (linear or mixing), level (0 is the start),
        accuracy over the tokens of held-out sentences,
    and chance (that of always answering with the level's commonest symbol).

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings.
    """
    run = probed_run(path, "pcfg")
    model = config_of(run)
    grammar = model.data.load()
    classes = tuple(len(level) for level in grammar.levels[:-1])
    if max(classes) == 1:
        raise UserError(
            f"{path}: no level of the grammar has more than one symbol, so that there is nothing to"
            " predict"
        )
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        sampler = make_sampler(grammar)
        trajectory = Trajectory(run)
        steps = chosen_steps(trajectory.steps(), config.every)
        measure = over_lanes(
            lambda params: probe_accuracy(
                _hidden(model, sampler, params), sampler, classes, config
            ),
            len(run.manifest["seeds"]),
        )

        def compute(group: Sequence[int]) -> dict[str, np.ndarray]:
            return {"accuracy_Lx2xD": np.asarray(measure(trajectory.restore(group[0])))}

        chance_D = np.asarray(jax.jit(lambda: _chance(sampler, classes, config))())
        tables = [
            _rows(run, model, step, part["accuracy_Lx2xD"], chance_D)
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
) -> jax.Array:
    """Train both probes on the hidden states of one model and judge them; accuracies `(2, D)` in
    the order of `PROBES`.

    Args:
        hidden: tokens `(B, T)` to hidden states `(B, T, M)`.
        sampler: draws the sentences; those of an epoch come again in the next.
        classes: symbols of every level, `(D,)`.
        config: how long and how.
    """
    num_batches = config.num_train // config.batch_size
    optim = OptimConfig((config.learning_rate,), decay="cosine", kind="adam")
    optimizer = make_optimizer(
        optim, config.epochs * num_batches, jnp.float32(config.learning_rate)
    )
    train_key, eval_key = (
        seed_key(config.seed, f"nonterminal-{part}") for part in ("train", "eval")
    )

    def batch(key: jax.Array, i: jax.Array) -> tuple[Sentences, jax.Array]:
        sentences = sampler.sample(key, config.batch_size, i * config.batch_size)
        return sentences, hidden(sentences.tokens_BxT)

    def loss(params: Params, sentences: Sentences, hidden_BxTxM: jax.Array) -> jax.Array:
        logits = both_logits(params, hidden_BxTxM, sentences.tokens_BxT != sampler.vocabulary.pad)
        inside_BxT = (sentences.ancestors_BxTxD[..., 0] >= 0).astype(jnp.float32)
        losses = [
            masked_mean(
                label_cross_entropy(
                    of_level, sentences.ancestors_BxTxD[..., level].clip(0).astype(jnp.int32)
                ),
                inside_BxT,
            )
            for of_probe in logits
            for level, of_level in enumerate(split_levels(of_probe, classes))
        ]
        return jnp.stack(losses).sum()

    def update(carry: tuple[Params, Any], step: jax.Array) -> tuple[tuple[Params, Any], None]:
        params, state = carry
        sentences, hidden_BxTxM = batch(train_key, step % num_batches)
        changes, state = optimizer.update(
            jax.grad(loss)(params, sentences, jax.lax.stop_gradient(hidden_BxTxM)), state
        )
        return (optax.apply_updates(params, changes), state), None  # type: ignore[return-value]

    def correct(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        sentences, hidden_BxTxM = batch(eval_key, i)
        inside_BxT = sentences.ancestors_BxTxD[..., 0] >= 0
        right = [
            jnp.sum(
                (jnp.argmax(of_level, -1) == sentences.ancestors_BxTxD[..., level]) & inside_BxT
            )
            for of_probe in both_logits(
                params, hidden_BxTxM, sentences.tokens_BxT != sampler.vocabulary.pad
            )
            for level, of_level in enumerate(split_levels(of_probe, classes))
        ]
        return jnp.stack(right).reshape(len(PROBES), -1), jnp.sum(inside_BxT)

    length = sampler.longest + 2
    hidden_BxTxM = batch(train_key, jnp.int32(0))[1]
    params = init_probes(
        seed_key(config.seed, "nonterminal-init"),
        config,
        length,
        hidden_BxTxM.shape[-1],
        sum(classes),
    )
    # Derived from the hidden states, not constants, so that shard_map knows that they vary over
    # lanes.
    params = jax.tree.map(
        lambda leaf: leaf + 0 * hidden_BxTxM.ravel()[0].astype(leaf.dtype), params
    )
    start = (
        params,
        jax.tree.map(
            lambda leaf: leaf + (0 * hidden_BxTxM.ravel()[0]).astype(leaf.dtype),
            optimizer.init(params),
        ),
    )
    (params, _), _ = jax.lax.scan(update, start, jnp.arange(config.epochs * num_batches))
    right_2xD, count = jax.tree.map(
        lambda part: jnp.sum(part, axis=0),
        jax.lax.map(correct, jnp.arange(config.num_eval // config.batch_size)),
    )
    return right_2xD / count


def init_probes(
    key: jax.Array, config: NonTerminalConfig, length: int, hidden_size: int, num_outputs: int
) -> Params:
    """Untrained weights of both probes; all levels' classes stand side by side in `num_outputs`."""
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
    params: Params, hidden_BxTxM: jax.Array, sources_BxT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Logits `(B, T, C)` of the linear and of the mixing probe, which averages over the sources
    alone."""
    linear, mixing = params["linear"], params["mixing"]
    linear_BxTxC = hidden_BxTxM @ linear["kernel_MxC"] + linear["bias_C"][None, None]
    scores_HxTxT = jnp.einsum("hkt,hks->hts", mixing["positions_HxKxT"], mixing["positions_HxKxT"])
    weights_BxHxTxT = jax.nn.softmax(
        scores_HxTxT[None], axis=-1, where=sources_BxT[:, None, None, :]
    )
    mixed_BxHxTxM = jnp.einsum("bhts,bsm->bhtm", weights_BxHxTxT, hidden_BxTxM)
    return (
        linear_BxTxC,
        jnp.einsum("bhtm,hmc->btc", mixed_BxHxTxM, mixing["kernel_HxMxC"])
        + mixing["bias_C"][None, None],
    )


def split_levels(logits_xC: jax.Array, classes: Sequence[int]) -> list[jax.Array]:
    """The logits of every level, `(..., classes of the level)`."""
    return jnp.split(logits_xC, np.cumsum(classes)[:-1].tolist(), axis=-1)


def _hidden(
    model: TrainConfig | StudentConfig, sampler: Sampler, params: Params
) -> Callable[[jax.Array], jax.Array]:
    functional = functional_model(model, sampler)

    def hidden(tokens_BxT: jax.Array) -> jax.Array:
        inputs = TokenInputs(tokens_BxT, tokens_BxT != sampler.vocabulary.pad)
        return functional.hidden(params, inputs, functional.num_layers - 1).astype(jnp.float32)

    return hidden


def _chance(sampler: Sampler, classes: Sequence[int], config: NonTerminalConfig) -> jax.Array:
    """Share of the commonest symbol of every level in the evaluation sentences."""
    ancestors_BxTxD = sampler.sample(
        seed_key(config.seed, "nonterminal-eval"), config.num_eval
    ).ancestors_BxTxD
    inside = jnp.sum(ancestors_BxTxD[..., 0] >= 0)
    return (
        jnp.stack(
            [
                jnp.bincount(ancestors_BxTxD[..., level].ravel() + 1, length=count + 1)[1:].max()
                for level, count in enumerate(classes)
            ]
        )
        / inside
    )


def _rows(
    run: RunDirectory,
    model: TrainConfig | StudentConfig,
    step: int,
    accuracy_Lx2xD: np.ndarray,
    chance_D: np.ndarray,
) -> pd.DataFrame:
    rows = []
    for lane, (seed, rate) in enumerate(
        zip(run.manifest["seeds"], run.manifest["learning_rates"], strict=True)
    ):
        where = {
            "step": step,
            "examples": step * model.training.batch_size,
            "seed": seed,
            "learning_rate": rate,
        }
        for name, accuracy_D in zip(PROBES, accuracy_Lx2xD[lane], strict=True):
            for level, (accuracy, chance) in enumerate(zip(accuracy_D, chance_D, strict=True)):
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
