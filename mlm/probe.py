"""`python -m mlm.probe RUN`: M_robust and M_close of every checkpoint of a run, as CSV files inside
the run directory (`common.sequence.windows`).

Each is measured twice (`KINDS`). `masked`: the token at the position itself is masked in all that
are compared, as in the grammar experiment. `visible`: the model sees it all the time, and what
moves its prediction is its neighbours alone. Why both: the published curve of text falls from 0.27
to 0.0025, and `masked` cannot do that, because without the token a language model's prediction
depends on its neighbours for ever; `visible` can, once the model has learnt to copy the token.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import PositiveInt, Seed, configuration
from common.base.keys import seed_key
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Params
from common.runs.probing import probed_run
from common.sequence import windows
from common.sequence.ngram import Pairs, Target, probe
from common.sequence.windows import NAME, HeldOut, Measured, ProbeConfig, probe_windows, spacing_of
from mlm.config import config_of
from mlm.data import NUM_SPECIAL
from mlm.model import model_of
from mlm.text import Text, held_out_rows
from mlm.token_kinds import kinds_of

TARGETS: tuple[Target, ...] = ("masked", "visible")
KINDS = tuple(f"{distance}_{target}" for target in TARGETS for distance in windows.KINDS)
"""The distances, as they are called in the tables: robust_masked, ..., close_visible."""


@configuration
class TextProbeConfig(ProbeConfig):
    """Settings of the probe of text."""

    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 3, 5, 7, 11, 15)
    """n of every window. All are measured at the same positions, around which the largest one
    fits."""
    spacing: PositiveInt | None = None
    """Positions are this number of tokens apart in a row, from the first multiple on; None: 30, or
    a fifth of a row where that is less."""
    num_sentences: PositiveInt = 2048
    """Rows of validation documents, drawn as training draws its rows; one that is drawn twice
    counts once."""
    seed: Seed = 0
    """Of the rows."""


def probe_run(path: Path, config: TextProbeConfig) -> None:
    """Write `probes/ngram.csv` and `probes/ngram_by_token.csv` of a finished run.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; its corpus is another now; or no window fits.
    """
    run = probed_run(path, "mlm")
    trained = config_of(run)
    text = trained.data.load()
    functional = model_of(trained.model, text.vocabulary.size, text.length)
    config = replace(config, spacing=config.spacing or spacing_of(text.length - NUM_SPECIAL))
    pairs = held_out(text, config)

    def distances(params: Params, pairs: Pairs) -> jax.Array:
        of_targets = [
            probe(
                functional.apply,
                params,
                pairs,
                config.sizes,
                text.pieces.ids.mask,
                hide_masked=False,
                target=target,
            )
            for target in TARGETS
        ]
        return jnp.concatenate(of_targets)

    tokens = kinds_of(np.asarray(pairs.tokens_PxT), np.asarray(pairs.position_P), text.pieces)
    probe_windows(run, config, pairs, distances, Measured(KINDS, tokens, "documents"))


def held_out(text: Text, config: TextProbeConfig) -> Pairs:
    """Positions in rows of validation documents, the same for every model, with the documents that
    they stand in.

    Raises:
        UserError: no window fits.
    """
    key = seed_key(config.seed, "ngram-probe")
    tokens_BxT, number_B = held_out_rows(text, key, config.num_sentences)
    words_BxT = jnp.asarray(text.is_word_V[np.asarray(tokens_BxT)])
    of_rows = HeldOut(tokens_BxT, words_BxT, text.frame.pad, text.length - NUM_SPECIAL)
    pairs = of_rows.pairs(config)
    position_P = np.asarray(pairs.position_P)
    document_P = text.validation.document_of(number_B[pairs.sentence_P], position_P)
    return pairs._replace(sentence_P=document_P)


PROBE = Probe(
    "mlm.probe",
    NAME,
    "Measure how far every checkpoint of a run predicts from the n tokens around a position"
    " (M_robust, M_close), with the token at the position masked and with it visible.",
    TextProbeConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
