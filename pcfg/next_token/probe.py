"""`python -m pcfg.next_token.probe RUN`: close(n) and robust(n) of every checkpoint of a run
(`common.sequence.prefix_windows`), as a CSV file inside the run directory
(`common.sequence.windows`).

Held-out sentences are cut off where the next token is one that the run predicts, or EOS where it
predicts that. The prediction from the whole prefix is compared with those from its last n tokens
(close), and without the n - 1 before its last one (robust). All token ids count.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import jax
from pydantic import Field

from common.base.config import PositiveInt, configuration
from common.base.keys import seed_key
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Params
from common.runs.probing import probed_run
from common.sequence.prefix_windows import Prefixes, prefixes_of, probe
from common.sequence.windows import NAME, ProbeConfig, probe_windows, spacing_of
from pcfg.next_token.config import config_of
from pcfg.next_token.data import is_every_token, supervised
from pcfg.next_token.task import NextTokens, functional_model, length_of, task_of

EXPERIMENT = "pcfg.next_token"


@configuration
class PrefixProbeConfig(ProbeConfig):
    """Settings of the probe of prefixes."""

    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 5, 7)
    """n of every close(n) and robust(n). All are measured on the same prefixes, of at least as many
    tokens as the largest one."""
    spacing: PositiveInt | None = None
    """Prefixes of a sentence end at multiples of this number of tokens; None: 30, or a fifth of the
    longest sentence where that is less. Of a run on boundaries (--supervised.level): before every
    so many of the predicted tokens; None: before each."""


def probe_run(path: Path, config: PrefixProbeConfig) -> None:
    """Write `probes/ngram.csv` of a finished run.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; or no window fits.
    """
    run = probed_run(path, EXPERIMENT)
    trained = config_of(run)
    task = task_of(trained)
    functional = functional_model(trained, task.sampler)
    config = replace(config, spacing=spacing_for(config, task))

    def distances(params: Params, prefixes: Prefixes) -> jax.Array:
        tokens_PxT, position_P, _ = prefixes
        return probe(functional.apply, params, tokens_PxT, position_P, config.sizes)

    probe_windows(run, config, held_out(task, config), distances)


def spacing_for(config: PrefixProbeConfig, task: NextTokens) -> int:
    """The spacing of prefixes in sentences of a task, also where it is left open."""
    if config.spacing is not None:
        return config.spacing
    if is_every_token(task.depth, task.sampler):
        return spacing_of(task.sampler.longest)
    return 1


def held_out(task: NextTokens, config: PrefixProbeConfig) -> Prefixes:
    """Prefixes of a grammar's sentences, the same for every model.

    Raises:
        UserError: no window fits.
    """
    key = seed_key(config.seed, "ngram-probe")
    sentences = task.sampler.sample(key, config.num_sentences)
    asked_BxT = supervised(task.config, task.depth, task.sampler, sentences)
    prefixes = prefixes_of(
        sentences.tokens_BxT,
        asked_BxT,
        config.sizes,
        spacing_for(config, task),
        by_position=is_every_token(task.depth, task.sampler),
    )
    # Models have no positions for what they never read.
    length = length_of(task.config, task.sampler)
    return prefixes._replace(tokens_PxT=prefixes.tokens_PxT[:, :length])


PROBE = Probe(
    "pcfg.next_token.probe",
    NAME,
    "Measure how far every checkpoint of a run predicts from the last n tokens: close(n), the total"
    " variation between its prediction from the whole prefix and from the last n tokens alone, and"
    " robust(n), from all but the n - 1 before the last. No layer attends to a removed token; all"
    " others, and BOS, keep their places.",
    PrefixProbeConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
