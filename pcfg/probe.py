"""`python -m pcfg.probe RUN`: M_robust and M_close of every checkpoint of a run, as a CSV file
inside the run directory."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import (
    NonNegativeInt,
    PositiveInt,
    Seed,
    configuration,
)
from common.base.errors import UserError
from common.base.keys import seed_key
from common.base.mesh import over_lanes
from common.base.parts import in_parts
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.judge.stats import quantiles_by_cluster
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, chosen_steps, opened_probe, probed_run
from common.runs.trajectory import Trajectory
from common.sequence.ngram import Pairs, pairs_of, probe
from pcfg.config import StudentConfig, TrainConfig, config_of
from pcfg.sampler import Sampler, make_sampler
from pcfg.task import functional_model

NAME = "ngram"
TABLE = f"{NAME}.csv"
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


def probe_run(path: Path, config: ProbeConfig) -> None:
    """Write `probes/ngram.csv` of a finished run; goes on where an interrupted probe stopped, and
    does nothing when all is there.

    Columns: step, examples, seed, learning_rate, kind (robust or close), n, mean and quantiles over
        all pairs in total variation, and the 95%
    interval of the median (bootstrap over sentences).

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; or no window fits.
    """
    run = probed_run(path, "pcfg")
    model = config_of(run)
    sampler = make_sampler(model.data.load())
    config = replace(config, spacing=config.spacing or spacing_of(sampler.longest))
    pairs = probe_pairs(sampler, config)
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        measure = over_lanes(_measure(model, sampler, config.sizes), len(run.manifest["seeds"]))
        trajectory = Trajectory(run)
        steps = chosen_steps(trajectory.steps(), config.every)
        chunks = in_parts(
            (pairs.tokens_PxT, pairs.words_PxT, pairs.visible_PxT, pairs.position_P), _CHUNK
        )
        if (num_pairs := len(pairs.sentence_P)) < ENOUGH_PAIRS:
            print(
                f"{path}: {num_pairs:,} pairs of sentence and position only; for fine medians take"
                f" {ENOUGH_PAIRS:,}, by --num-sentences or --spacing"
            )

        def compute(group: Sequence[int]) -> dict[str, np.ndarray]:
            values_LxCx2xNxP = np.asarray(measure(trajectory.restore(group[0]), chunks))
            values_Lx2xNxP = np.moveaxis(values_LxCx2xNxP, 1, 3).reshape(
                values_LxCx2xNxP.shape[0], 2, len(config.sizes), -1
            )
            return {"values_Lx2xNxP": values_Lx2xNxP[..., :num_pairs]}

        tables = [
            _rows(run, model, step, config, pairs, part["values_Lx2xNxP"])
            for step, part in zip(steps, opened.over(steps, compute), strict=True)
        ]
        write_text(
            opened.folder / TABLE, pd.concat(tables).to_csv(index=False, float_format="%.6g")
        )
        opened.summary.update(num_pairs=num_pairs, num_sentences=len(np.unique(pairs.sentence_P)))


def read_distances(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    return read_table(
        run / FOLDER / TABLE, ("step", "seed", "kind", "n", "median"), "`python -m pcfg.probe`"
    )


def spacing_of(longest: int) -> int:
    """The paper's spacing of positions, or less where the longest sentence, in words, is too short
    for five of them."""
    return min(30, max(1, longest // 5))


def probe_pairs(sampler: Sampler, config: ProbeConfig) -> Pairs:
    """Positions in held-out sentences, the same for every model."""
    vocabulary, spacing = sampler.vocabulary, config.spacing or spacing_of(sampler.longest)
    tokens_BxT = sampler.sample(
        seed_key(config.seed, "ngram-probe"), config.num_sentences
    ).tokens_BxT
    positions = range(spacing, tokens_BxT.shape[1], spacing)
    if not positions:
        raise UserError(
            f"every {spacing} tokens there is no position in sentences of at most"
            f" {sampler.longest}; give a smaller --spacing"
        )
    return pairs_of(
        tokens_BxT, vocabulary.is_terminal(tokens_BxT), vocabulary.pad, positions, config.sizes
    )


def _measure(
    model: TrainConfig | StudentConfig, sampler: Sampler, sizes: Sequence[int]
) -> Callable[..., jax.Array]:
    functional = functional_model(model, sampler)

    def of_lane(params: Params, chunks: tuple[jax.Array, ...]) -> jax.Array:
        def of_chunk(chunk: tuple[jax.Array, ...]) -> jax.Array:
            tokens_PxT, words_PxT, visible_PxT, position_P = chunk
            pairs = Pairs(tokens_PxT, words_PxT, visible_PxT, position_P, np.zeros(0))
            return probe(
                functional.apply,
                params,
                pairs,
                sizes,
                sampler.vocabulary.mask,
                hide_masked=model.masking.hide_selected,
            )

        return jax.lax.map(of_chunk, chunks)

    return of_lane


def _rows(
    run: RunDirectory,
    model: TrainConfig | StudentConfig,
    step: int,
    config: ProbeConfig,
    pairs: Pairs,
    values_Lx2xNxP: np.ndarray,
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for lane, (seed, rate) in enumerate(
        zip(run.manifest["seeds"], run.manifest["learning_rates"], strict=True)
    ):
        where = {
            "step": step,
            "examples": step * model.training.batch_size,
            "seed": seed,
            "learning_rate": rate,
        }
        for kind, values_NxP in zip(KINDS, values_Lx2xNxP[lane], strict=True):
            for n, values_P in zip(config.sizes, values_NxP, strict=True):
                rows.append(
                    where
                    | {"kind": kind, "n": n}
                    | describe(values_P, pairs.sentence_P, config.seed)
                )
    return pd.DataFrame(rows)


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


PROBE = Probe(
    "pcfg.probe",
    NAME,
    "Measure how far every checkpoint of a run predicts from the n tokens around a position"
    " (M_robust, M_close).",
    ProbeConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
