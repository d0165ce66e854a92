"""`python -m pcfg.probe RUN`: M_robust and M_close of every checkpoint of a run, as a CSV file
inside the run directory (`common.sequence.windows`)."""

from dataclasses import replace
from pathlib import Path

import jax

from common.base.keys import seed_key
from common.base.mesh import OLDER_EMITTERS, compiler_options
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Params
from common.runs.probing import probed_run
from common.sequence.ngram import Pairs, probe
from common.sequence.windows import NAME, HeldOut, ProbeConfig, probe_windows, spacing_of
from pcfg.config import config_of
from pcfg.sampler import Sampler, make_sampler
from pcfg.task import functional_model


def probe_run(path: Path, config: ProbeConfig) -> None:
    """Write `probes/ngram.csv` of a finished run.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; or no window fits.
    """
    run = probed_run(path, "pcfg")
    trained = config_of(run)
    sampler = make_sampler(trained.data.load())
    functional = functional_model(trained, sampler)
    config = replace(config, spacing=config.spacing or spacing_of(sampler.longest))

    def distances(params: Params, pairs: Pairs) -> jax.Array:
        return probe(
            functional.apply,
            params,
            pairs,
            config.sizes,
            sampler.vocabulary.mask,
            hide_masked=trained.masking.hide_selected,
        )

    probe_windows(run, config, held_out(sampler, config).pairs(config), distances)


def held_out(sampler: Sampler, config: ProbeConfig) -> HeldOut:
    """Sentences of a grammar, the same for every model."""
    key = seed_key(config.seed, "ngram-probe")
    tokens_BxT = jax.jit(
        lambda: sampler.sample(key, config.num_sentences).tokens_BxT,
        compiler_options=compiler_options(OLDER_EMITTERS),
    )()
    vocabulary = sampler.vocabulary
    words_BxT = vocabulary.is_terminal(tokens_BxT)
    return HeldOut(tokens_BxT, words_BxT, vocabulary.pad, sampler.longest)


PROBE = Probe(
    "pcfg.probe",
    NAME,
    "Measure how far every checkpoint of a run predicts from the n tokens around a position"
    " (M_robust, M_close).",
    ProbeConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
