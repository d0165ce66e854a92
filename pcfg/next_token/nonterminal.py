"""`python -m pcfg.next_token.nonterminal RUN`: how well the symbol that has just ended can be read
off the frozen hidden states of a run's checkpoints.

Level by level, two probes (pcfg/nonterminal.py) are trained and judged at the tokens at which a
node of that level ends, on the hidden state of the last block there, which has seen that token and
all before it. The mixing probe averages over the positions up to there. Levels have their names in
the whole grammar.

The start's node ends with the sentence. Without the end (--supervised.predicts-end) a model has no
position for the last token of the longest sentences, which is left out then. Where all sentences
are of that length, the start's level has empty cells.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.blocks import TokenInputs
from common.nn.functional import Params
from common.runs.probing import probed_run
from pcfg.next_token.config import config_of
from pcfg.next_token.probe import EXPERIMENT
from pcfg.next_token.task import functional_model, length_of, task_of
from pcfg.nonterminal import NAME, NonTerminalConfig, Reading, probe_nonterminals


def probe_run(path: Path, config: NonTerminalConfig) -> None:
    """Write `probes/nonterminals.csv` of a finished run, with the columns of the masked probe
    (`pcfg.nonterminal.probe_run`); the level is that of the whole grammar, and chance is the share
    of a level's commonest symbol among the nodes that end.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings.
    """
    run = probed_run(path, EXPERIMENT)
    trained = config_of(run)
    sampler = task_of(trained).sampler
    functional = functional_model(trained, sampler)

    def hidden(params: Params, tokens_BxT: jax.Array) -> jax.Array:
        # Padding comes last, so that no token sees it.
        last = functional.num_layers - 1
        return functional.hidden(params, TokenInputs(tokens_BxT), last).astype(jnp.float32)

    length = length_of(trained.supervised, sampler)
    reading = Reading(at_ends=True, is_causal=True, length=length)
    grammar, first_level = trained.data.load(), trained.data.first_level
    probe_nonterminals(run, config, grammar, hidden, reading, first_level)


PROBE = Probe(
    "pcfg.next_token.nonterminal",
    NAME,
    "Predict the non-terminal that has just ended, level by level, from the frozen hidden states of"
    " a run's checkpoints at its last token.",
    NonTerminalConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
