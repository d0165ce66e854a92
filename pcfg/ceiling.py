"""`python -m pcfg.ceiling RUN`: what the best possible model scores on a run's own evaluation set,
and how it depends on n-grams.

probes/ceiling.json    accuracy and loss of the Bayes-optimal prediction; of the best model that
                       sees an n-gram only (the plateaus), with and without its position in the
                       sentence, which a model of absolute positions knows;
probes/ceiling.csv     M_robust and M_close of the Bayes-optimal prediction, to which the curves of
                       `pcfg.probe` must converge: means and quantiles

The best prediction is that of a model trained on this run's masking. Unless selected tokens were
hidden, such a model cannot know that the tokens it sees are the true ones, not even on the clean
sentences of the probe. Beside the distances of its optimum stand those of one that does know
(`median_known_clean`, `mean_known_clean`); the two are the same where selected tokens were hidden.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.runs.files import write_text
from common.runs.probing import opened_probe, probed_run
from common.sequence.masking import MaskingConfig
from common.sequence.windows import KINDS, ProbeConfig, describe, spacing_of
from pcfg.config import config_of
from pcfg.data import eval_batch
from pcfg.ngrams import window_optimum
from pcfg.posterior import Channel, Selection, ceiling
from pcfg.probe import held_out
from pcfg.sampler import make_sampler
from pcfg.window import window_distances

NAME = "ceiling"
TABLE = f"{NAME}.csv"
PLATEAUS = {"plateaus": False, "plateaus_with_position": True}
"""Entries of the JSON file, and whether their n-gram models know where in the sentence they
look."""


@configuration
class CeilingConfig:
    """Settings of the exact reference."""

    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """n of the models that see an n-gram only."""
    num_sentences: PositiveInt = 1024
    """At most so many sentences of the evaluation set, and as many for M_robust and M_close."""
    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 3, 4, 5, 7)
    """n of every window of M_robust and M_close."""
    spacing: PositiveInt | None = None
    """Positions are this number of tokens apart in a sentence, as in `pcfg.probe`."""

    @property
    def probe(self) -> ProbeConfig:
        """The same as the n-gram probe's settings, which draw the same sentences."""
        return ProbeConfig(self.sizes, self.spacing, self.num_sentences)


def compute(path: Path, config: CeilingConfig) -> None:
    """Write `probes/ceiling.*` of a finished run; goes on where an interrupted computation stopped,
    window by window.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, was scored on BOS
            and EOS too, or has been done with other settings.
    """
    run = probed_run(path, "pcfg")
    model = config_of(run)
    if model.masking.select_special:
        raise UserError(
            f"{path} is scored on BOS and EOS too (--masking.select-special), which the exact"
            " reference of the grammar's words leaves out"
        )
    grammar = model.data.load()
    sampler = make_sampler(grammar)
    config = replace(config, spacing=config.spacing or spacing_of(sampler.longest))
    pairs = held_out(sampler, config.probe).pairs(config.probe)
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        hidden = model.masking.hide_selected
        selection: Selection = "hidden" if hidden else "unknown"
        channel = channel_of(model.masking)
        # From the first terminal on: BOS is no part of the grammar.
        words, targets = (
            np.asarray(pairs.tokens_PxT)[:, 1:],
            [(i, int(position) - 1) for i, position in enumerate(pairs.position_P)],
        )

        def distances(sizes: Sequence[int]) -> dict[str, np.ndarray]:
            compute_with = functools.partial(
                window_distances,
                grammar,
                words,
                lengths_of(words, len(grammar.terminals)),
                targets,
                sizes[0],
                channel,
            )
            best = compute_with(selection)
            return {
                "best_2xP": np.stack(best),
                "known_2xP": np.stack(best if hidden else compute_with("known")),
            }

        # First, because they take nearly all the time, and are kept should this be interrupted.
        rows = []
        for n, part in zip(
            config.sizes, opened.over(config.sizes, distances, unit="windows"), strict=True
        ):
            for kind, values_P, known_P in zip(
                KINDS, part["best_2xP"], part["known_2xP"], strict=True
            ):
                known = {
                    "median_known_clean": float(np.median(known_P)),
                    "mean_known_clean": float(np.mean(known_P)),
                }
                rows.append(
                    {"kind": kind, "n": n}
                    | describe(values_P, pairs.sentence_P, config.probe.seed)
                    | known
                )
        write_text(
            opened.folder / TABLE, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g")
        )

        batch = jax.jit(
            lambda: eval_batch(model.data, sampler, model.masking, model.training.eval_examples)
        )()
        true, seen, selected = (
            np.asarray(leaf)[: config.num_sentences, 1:]
            for leaf in (batch.labels, batch.inputs.tokens_BxL, batch.mask > 0)
        )
        best = ceiling(
            grammar,
            true,
            seen,
            selected,
            lengths_of(true, len(grammar.terminals)),
            channel,
            selection,
        )
        opened.summary.update(ceiling=asdict(best))
        for name, knows_position in PLATEAUS.items():
            opened.summary[name] = {
                str(n): asdict(window_optimum(grammar, n, channel, knows_position, hidden))
                for n in config.windows
            }


def channel_of(masking: MaskingConfig) -> Channel:
    """The corruption that a masking configuration describes."""
    return Channel(masking.fraction, masking.mask_share, masking.random_share)


def lengths_of(tokens_BxT: np.ndarray, num_terminals: int) -> np.ndarray:
    """Terminals of every sentence, `(B,)`."""
    return (tokens_BxT < num_terminals).sum(1)


PROBE = Probe(
    "pcfg.ceiling",
    NAME,
    "Compute what the best possible model scores on a run's evaluation set, exactly, and how it"
    " depends on n-grams.",
    CeilingConfig(),
    compute,
)

main = probe_command(PROBE, __name__)
