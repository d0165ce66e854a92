"""`python -m mlm.next_token.probe RUN`: close(n) and robust(n) of every checkpoint of a run
(`common.sequence.prefix_windows`), as a CSV file inside the run directory
(`common.sequence.windows`).

Rows of validation documents are cut off at multiples of the spacing. The prediction from the whole
prefix is compared with those from its last n tokens (close), and without the n - 1 before its last
one (robust).
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import PositiveInt, configuration
from common.base.keys import seed_key
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Params
from common.runs.probing import probed_run
from common.sequence.prefix_windows import Prefixes, prefixes_of, probe
from common.sequence.windows import NAME, Measured, ProbeConfig, probe_windows, spacing_of
from mlm.next_token.config import NAME as EXPERIMENT
from mlm.next_token.config import config_of
from mlm.next_token.model import model_of
from mlm.text import Text, held_out_rows


@configuration
class PrefixProbeConfig(ProbeConfig):
    """Settings of the probe of prefixes."""

    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 5, 7, 11)
    """n of every close(n) and robust(n). All are measured on the same prefixes, of at least as many
    tokens as the largest one."""
    spacing: PositiveInt | None = None
    """Prefixes of a row end at multiples of this number of tokens; None: 30, or a fifth of a row
    where that is less."""
    num_sentences: PositiveInt = 2048
    """Rows of validation documents, drawn as training draws its rows; one that is drawn twice
    counts once."""


def probe_run(path: Path, config: PrefixProbeConfig) -> None:
    """Write `probes/ngram.csv` of a finished run.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; its corpus is another now; or no window fits.
    """
    run = probed_run(path, EXPERIMENT)
    trained = config_of(run)
    text = trained.data.load()
    functional = model_of(trained.model, text.vocabulary.size, text.length)
    config = replace(config, spacing=config.spacing or spacing_of(text.length - 1))

    def distances(params: Params, prefixes: Prefixes) -> jax.Array:
        tokens_PxT, position_P, _ = prefixes
        return probe(functional.apply, params, tokens_PxT, position_P, config.sizes)

    measured = Measured(clusters="documents")
    probe_windows(run, config, held_out(text, config), distances, measured)


def held_out(text: Text, config: PrefixProbeConfig) -> Prefixes:
    """Prefixes of rows of validation documents, the same for every model, with the documents that
    they stand in.

    Args:
        text: whose.
        config: with a spacing.

    Raises:
        UserError: no window fits.
    """
    key = seed_key(config.seed, "ngram-probe")
    tokens_BxT, number_B = held_out_rows(text, key, config.num_sentences)
    is_word_BxT = jnp.asarray(text.is_word_V)[tokens_BxT]
    assert config.spacing is not None
    prefixes = prefixes_of(tokens_BxT, is_word_BxT, config.sizes, config.spacing, by_position=True)
    document_P = text.validation.document_of(
        number_B[prefixes.sentence_P], np.asarray(prefixes.position_P)
    )
    # Models read all but the last token of a row.
    return prefixes._replace(tokens_PxT=prefixes.tokens_PxT[:, :-1], sentence_P=document_P)


PROBE = Probe(
    "mlm.next_token.probe",
    NAME,
    "Measure how far every checkpoint of a run predicts from the last n tokens: close(n), the total"
    " variation between its prediction from the whole prefix and from the last n tokens alone, and"
    " robust(n), from all but the n - 1 before the last. No layer attends to a removed token; all"
    " others, and the first one of a row, keep their places.",
    PrefixProbeConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
