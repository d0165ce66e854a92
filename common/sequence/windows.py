"""The probe of what models take from the n tokens around a position, or before it: distances of
every checkpoint of a run, two of them (`KINDS`) or more, as a CSV file inside the run directory.
Those of masked models are M_robust and M_close (`common.sequence.ngram`); causal ones have others
of these names (`common.sequence.prefix_windows`).

An experiment says which held-out sentences its models are asked about, and what they are; the rest
is the same for all tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import jax
import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import NonNegativeInt, Overrides, PositiveInt, Seed, configuration
from common.base.errors import UserError
from common.base.mesh import over_lanes
from common.base.parts import in_parts
from common.base.reading import read_table
from common.judge.stats import quantiles_by_cluster
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, chosen_steps, opened_probe
from common.runs.trajectory import Trajectory
from common.sequence.ngram import Pairs, pairs_of

NAME = "ngram"
TABLE = f"{NAME}.csv"
BY_TOKEN = f"{NAME}_by_token.csv"
"""The same for each kind of token, where an experiment tells kinds apart."""
KINDS = ("robust", "close")
QUANTILES = (0.25, 0.5, 0.75, 0.9)
ENOUGH_PAIRS = 2000
"""Pairs below which the user is told that there are few."""
_CHUNK = 64  # pairs in memory at one time, or rather in a core's cache


@configuration
class ProbeConfig:
    """Settings of the n-gram probe."""

    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 3, 4, 5, 7)
    """n of every window."""
    spacing: PositiveInt | None = None
    """Positions are this number of tokens apart in a sentence, from the first multiple on (paper:
    30, 60, ..., 420); None: 30, or a fifth of the longest sentence where that is less."""
    num_sentences: PositiveInt = 1024
    """Held-out sentences (paper: 1024)."""
    every: NonNegativeInt = 1
    """Probe every so many checkpoints, and always the untrained and the last one; 0: those two
    alone."""
    seed: Seed = 0
    """Of the sentences."""


@configuration
class WindowConfig:
    """Where and over what windows an experiment's probe looks; see `ProbeConfig`."""

    sizes: tuple[PositiveInt, ...]
    spacing: PositiveInt
    num_sentences: PositiveInt

    @property
    def overrides(self) -> Overrides:
        """The settings of a probe that say so."""
        return {
            "spacing": self.spacing,
            "num_sentences": self.num_sentences,
            "sizes": self.sizes,
        }


@dataclass(frozen=True)
class HeldOut:
    """Sentences that no model has been trained on."""

    tokens_BxT: jax.Array
    words_BxT: jax.Array
    """Which tokens are words: what may be masked."""
    pad_id: int
    longest: int
    """Words of the longest sentence that the data can have; more than those of the longest one
    here, perhaps."""

    def pairs(self, config: ProbeConfig) -> Pairs:
        """The positions in them that are probed, the same for every model.

        Raises:
            UserError: there are none, or no window fits.
        """
        spacing = config.spacing or spacing_of(self.longest)
        positions = range(spacing, self.tokens_BxT.shape[1], spacing)
        if not positions:
            raise UserError(
                f"every {spacing} tokens there is no position in sentences of at most"
                f" {self.longest}; give a smaller --spacing"
            )
        return pairs_of(self.tokens_BxT, self.words_BxT, self.pad_id, positions, config.sizes)


class OfSentences(Protocol):
    """Positions in sentences, P of them: a named tuple of arrays, positions first."""

    @property
    def sentence_P(self) -> np.ndarray:
        """Number of the sentence, or of the document that it is a piece of, for a bootstrap over
        those: positions of one are not independent."""
        ...


PairsT = TypeVar("PairsT", bound=OfSentences)


@dataclass(frozen=True)
class Measured:
    """What a probe of windows measures, and how it is told of."""

    kinds: Sequence[str] = KINDS
    """The distances, K of them."""
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Kinds of tokens, for each of which the table `BY_TOKEN` has rows of its own: which of the
    pairs are of it, `(P,)` bool. Without any there is no such table."""
    clusters: str = "sentences"
    """What the bootstrap draws."""


def probe_windows(
    run: RunDirectory,
    config: ProbeConfig,
    pairs: PairsT,
    distances: Callable[[Params, PairsT], jax.Array],
    measured: Measured = Measured(),
) -> None:
    """Write `probes/ngram.csv` of a finished run; goes on where an interrupted probe stopped, and
    does nothing when all is there.

    Columns: step, examples, seed, learning_rate, kind (robust or close, unless told otherwise), n,
    mean and quantiles over all pairs in total variation, and the 95% interval of the median
    (bootstrap over sentences or other clusters). `BY_TOKEN` also has tokens and num_pairs.

    Args:
        run: as `probed_run` returns it.
        config: what was asked for; nothing is left open.
        pairs: positions in held-out sentences, the same for every model.
        distances: parameters of one model and some of the pairs to the distances of every kind and
            window, `(K, Z, P)` for the Z sizes.
        measured: which distances these are, and of which kinds of tokens.

    Raises:
        UserError: the run is in use, or was probed with other settings.
    """
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        num_pairs = len(pairs.sentence_P)
        if num_pairs < ENOUGH_PAIRS:
            print(
                f"{run.path}: {num_pairs:,} pairs of sentence and position only; for fine medians"
                f" take {ENOUGH_PAIRS:,}, by --num-sentences or --spacing"
            )
        trajectory = Trajectory(run)
        steps = chosen_steps(trajectory.steps(), config.every)
        chunks = in_parts(pairs, _CHUNK)

        def of_lane(params: Params, chunks: PairsT) -> jax.Array:
            return jax.lax.map(lambda chunk: distances(params, chunk), chunks)

        measure = over_lanes(of_lane, len(run.manifest["seeds"]))

        def compute(group: Sequence[int]) -> dict[str, np.ndarray]:
            # N chunks of P pairs each, then P pairs in all; K kinds, Z windows.
            values_LxNxKxZxP = np.asarray(measure(trajectory.restore(group[0]), chunks))
            values_LxKxZxNxP = np.moveaxis(values_LxNxKxZxP, 1, 3)
            values_LxKxZxP = values_LxKxZxNxP.reshape(*values_LxKxZxNxP.shape[:3], -1)
            return {"values_LxKxZxP": values_LxKxZxP[..., :num_pairs]}

        parts = opened.over(steps, compute)
        values_of = {step: part["values_LxKxZxP"] for step, part in zip(steps, parts, strict=True)}
        everything_P = np.ones(num_pairs, bool)
        table = _table(run, config, pairs.sentence_P, values_of, measured.kinds, everything_P)
        _write(opened.folder / TABLE, table)
        of_kinds = [
            _table(run, config, pairs.sentence_P, values_of, measured.kinds, is_of_kind_P).assign(
                tokens=name, num_pairs=int(is_of_kind_P.sum())
            )
            for name, is_of_kind_P in measured.tokens.items()
            if is_of_kind_P.any()
        ]
        if of_kinds:
            _write(opened.folder / BY_TOKEN, pd.concat(of_kinds))
        num_clusters = len(np.unique(pairs.sentence_P))
        opened.summary.update({"num_pairs": num_pairs, f"num_{measured.clusters}": num_clusters})


def read_distances(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    columns = ("step", "seed", "kind", "n", "median")
    return read_table(run / FOLDER / TABLE, columns, "the n-gram probe's command")


def spacing_of(longest: int) -> int:
    """The paper's spacing of positions, or less where the longest sentence, in words, is too short
    for five of them."""
    return min(30, max(1, longest // 5))


def describe(values_P: np.ndarray, sentence_P: np.ndarray, seed: int) -> dict[str, float]:
    """Mean, quantiles, and the median's interval of one probe."""
    low, high = quantiles_by_cluster(values_P, sentence_P, 0.5, seed)
    quantiles = {f"q{100 * q:.0f}": float(np.quantile(values_P, q)) for q in QUANTILES if q != 0.5}
    return {
        "median": float(np.median(values_P)),
        "median_low": low,
        "median_high": high,
        "mean": float(values_P.mean()),
    } | quantiles


def _table(
    run: RunDirectory,
    config: ProbeConfig,
    sentence_P: np.ndarray,
    values_of: Mapping[int, np.ndarray],
    kinds: Sequence[str],
    chosen_P: np.ndarray,
) -> pd.DataFrame:
    """What some of the pairs say of every checkpoint.

    Args:
        run: whose checkpoints.
        config: of the probe.
        sentence_P: of every pair.
        values_of: the distances of all pairs by step, `(L, K, Z, P)`.
        kinds: K names.
        chosen_P: which pairs count, bool.
    """
    batch_size = run.record["config"]["training"]["batch_size"]
    seeds, rates = run.manifest["seeds"], run.manifest["learning_rates"]
    rows: list[dict[str, Any]] = []
    for step, values_LxKxZxP in values_of.items():
        chosen_LxKxZxP = values_LxKxZxP[..., chosen_P]
        for seed, rate, values_KxZxP in zip(seeds, rates, chosen_LxKxZxP, strict=True):
            where = {
                "step": step,
                "examples": step * batch_size,
                "seed": seed,
                "learning_rate": rate,
            }
            for kind, values_ZxP in zip(kinds, values_KxZxP, strict=True):
                for n, values_P in zip(config.sizes, values_ZxP, strict=True):
                    found = describe(values_P, sentence_P[chosen_P], config.seed)
                    rows.append(where | {"kind": kind, "n": n} | found)
    return pd.DataFrame(rows)


def _write(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.6g"))
