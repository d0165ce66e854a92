"""`python -m pcfg.ceiling RUN`: what the best possible model scores on a run's own evaluation set,
and how it depends on n-grams.

probes/ceiling.json    accuracy and loss of the Bayes-optimal prediction; of the best model that
                       sees an n-gram only (the plateaus), with and without its position in the
                       sentence, which a model of absolute positions knows;
probes/ceiling.csv     M_robust and M_close of the Bayes-optimal prediction, to which the curves of
                       `pcfg.probe` must converge: means and quantiles

The best prediction is that of a model trained on this run's masking. Such a model cannot know that
the tokens it sees are the true ones, not even on the clean sentences of the probe, unless its
masking hides the selected tokens. The columns `median_known_clean` and `mean_known_clean` hold the
distances of a model that does know; with hidden tokens they equal the others.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import jax
import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.base.mesh import OLDER_EMITTERS, compiler_options
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.runs.files import write_text
from common.runs.probing import OpenProbe, opened_probe, probed_run
from common.sequence.masking import MaskingConfig
from common.sequence.ngram import Pairs
from common.sequence.windows import KINDS, ProbeConfig, describe, spacing_of
from pcfg.config import StudentConfig, TrainConfig, config_of
from pcfg.data import eval_batch
from pcfg.grammar import Grammar
from pcfg.ngrams import window_optimum
from pcfg.posterior import Ceiling, Channel, Selection, ceiling
from pcfg.probe import held_out
from pcfg.sampler import make_sampler
from pcfg.window import window_distances

NAME = "ceiling"
TABLE = f"{NAME}.csv"
PLATEAUS = {"plateaus": False, "plateaus_with_position": True}
"""Entries of the JSON file, and whether their n-gram models know their position in the
sentence."""


@configuration
class CeilingConfig:
    """Settings of the exact reference."""

    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """n of the models that see an n-gram only."""
    num_sentences: PositiveInt = 1024
    """The most sentences of the evaluation set that are scored; M_robust and M_close use so
    many."""
    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 3, 4, 5, 7)
    """n of every window of M_robust and M_close."""
    spacing: PositiveInt | None = None
    """Tokens from one probed position of a sentence to the next, as in `pcfg.probe`."""

    @property
    def probe(self) -> ProbeConfig:
        """The settings of an n-gram probe on the same sentences."""
        return ProbeConfig(self.sizes, self.spacing, self.num_sentences)


def compute(path: Path, config: CeilingConfig) -> None:
    """Write `probes/ceiling.*` of a finished run. An interrupted computation goes on where it
    stopped, window by window; a complete one is left as it is.

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
        # The distances come first: they take nearly all the time, and are kept when interrupted.
        table = _distances(opened, grammar, model.masking, config, pairs)
        write_text(opened.folder / TABLE, table.to_csv(index=False, float_format="%.6g"))
        opened.summary.update(ceiling=asdict(_ceiling(model, grammar, config.num_sentences)))
        for name, knows_position in PLATEAUS.items():
            opened.summary[name] = _plateaus(grammar, model.masking, config.windows, knows_position)


def distance_table(
    opened: OpenProbe,
    sizes: Sequence[int],
    sentence_P: np.ndarray,
    seed: int,
    compute: Callable[[int], Mapping[str, np.ndarray]],
    further: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """The distances of the best prediction: one row for each window and kind. What an interrupted
    probe has computed is not computed again.

    Args:
        opened: where that is kept.
        sizes: n of every window.
        sentence_P: the sentence of every position.
        seed: of the bootstrap over sentences.
        compute: n to the distances of every kind by name: `best_2xP`, and perhaps those of other
            predictions.
        further: of these, whose median and mean are columns: the columns' name by theirs.
    """
    parts = opened.over(sizes, lambda group: compute(group[0]), unit="windows")
    rows = []
    for n, part in zip(sizes, parts, strict=True):
        for i, kind in enumerate(KINDS):
            row = {"kind": kind, "n": n} | describe(part["best_2xP"][i], sentence_P, seed)
            for key, name in further.items():
                row[f"median_{name}"] = float(np.median(part[key][i]))
                row[f"mean_{name}"] = float(np.mean(part[key][i]))
            rows.append(row)
    return pd.DataFrame(rows)


def _distances(
    opened: OpenProbe,
    grammar: Grammar,
    masking: MaskingConfig,
    config: CeilingConfig,
    pairs: Pairs,
) -> pd.DataFrame:
    """M_robust and M_close of the best prediction."""
    # From the first terminal on: BOS is no part of the grammar.
    words_PxT = np.asarray(pairs.tokens_PxT)[:, 1:]
    targets = list(enumerate((np.asarray(pairs.position_P) - 1).tolist()))

    def compute_window(n: int) -> dict[str, np.ndarray]:
        best = functools.partial(
            window_distances,
            grammar,
            words_PxT,
            lengths_of(words_PxT, len(grammar.terminals)),
            targets,
            n,
            channel_of(masking),
        )
        best_2xP = np.stack(best(selection_of(masking)))
        known_2xP = best_2xP if masking.hide_selected else np.stack(best("known"))
        return {"best_2xP": best_2xP, "known_2xP": known_2xP}

    return distance_table(
        opened,
        config.sizes,
        pairs.sentence_P,
        config.probe.seed,
        compute_window,
        further={"known_2xP": "known_clean"},
    )


def _ceiling(model: TrainConfig | StudentConfig, grammar: Grammar, num_sentences: int) -> Ceiling:
    """The best scores on the first sentences of the run's evaluation set."""
    sampler = make_sampler(grammar)
    batch = jax.jit(
        lambda: eval_batch(model.data, sampler, model.masking, model.training.eval_examples),
        compiler_options=compiler_options(OLDER_EMITTERS),
    )()
    leaves = batch.labels, batch.inputs.tokens_BxT, batch.mask > 0
    true_BxT, seen_BxT, selected_BxT = (np.asarray(leaf)[:num_sentences, 1:] for leaf in leaves)
    return ceiling(
        grammar,
        true_BxT,
        seen_BxT,
        selected_BxT,
        lengths_of(true_BxT, len(grammar.terminals)),
        channel_of(model.masking),
        selection_of(model.masking),
    )


def _plateaus(
    grammar: Grammar, masking: MaskingConfig, windows: Sequence[int], knows_position: bool
) -> dict[str, dict[str, float | None]]:
    """The best scores of models that see an n-gram, by n."""
    channel, hidden = channel_of(masking), masking.hide_selected
    return {
        str(n): asdict(window_optimum(grammar, n, channel, knows_position, hidden)) for n in windows
    }


def selection_of(masking: MaskingConfig) -> Selection:
    """What a model trained on a masking is told about the positions around a target."""
    return "hidden" if masking.hide_selected else "unknown"


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
