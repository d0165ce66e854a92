"""`python -m pcfg.next_token.ceiling RUN`: what the best possible model scores on a run's own
evaluation set, and how it depends on the last n tokens.

probes/ceiling.json    accuracy and loss of the Bayes-optimal prediction (pcfg/prefix.py): on what
                       the run predicts (`ceiling`), and on the boundaries of every level of the
                       same sentences (`levels`, by the level's name in the whole grammar); of the
                       best model that sees the last n tokens only (`plateaus`), and also knows its
                       position in the sentence (`plateaus_with_position`), by n;
probes/ceiling.csv     close(n) and robust(n) of the Bayes-optimal prediction, to which the curves
                       of `pcfg.next_token.probe` must converge: means and quantiles

The best model knows that it is asked only where the run is: at boundaries of a level, and, unless
the end is predicted (--supervised.predicts-end), before the end alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import NonNegativeInt, PositiveInt, configuration
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.runs.files import write_text
from common.runs.probing import OpenProbe, opened_probe, probed_run
from common.sequence.prefix_windows import Prefixes
from pcfg.ceiling import NAME, PLATEAUS, TABLE, distance_table, lengths_of
from pcfg.grammar import Grammar
from pcfg.next_token.config import config_of
from pcfg.next_token.data import eval_sentences
from pcfg.next_token.probe import EXPERIMENT, PrefixProbeConfig, held_out, spacing_for
from pcfg.next_token.task import NextTokens, task_of
from pcfg.ngrams import last_tokens_optimum
from pcfg.posterior import Ceiling
from pcfg.prefix import next_token, next_token_ceiling
from pcfg.prefix_window import BestOfPrefixes


@configuration
class CeilingConfig:
    """Settings of the exact reference."""

    windows: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2, 3, 4, 5)
    """n of the models that see the last n tokens only."""
    num_sentences: PositiveInt = 1024
    """The most sentences of the evaluation set that are scored; close(n) and robust(n) use so
    many."""
    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3, 5, 7)
    """n of every close(n) and robust(n)."""
    spacing: PositiveInt | None = None
    """Of the prefixes in a sentence, as in `pcfg.next_token.probe`."""

    @property
    def probe(self) -> PrefixProbeConfig:
        """The settings of a probe of the same prefixes."""
        return PrefixProbeConfig(self.sizes, self.spacing, self.num_sentences)


def compute(path: Path, config: CeilingConfig) -> None:
    """Write `probes/ceiling.*` of a finished run. An interrupted computation goes on where it
    stopped, window by window; a complete one is left as it is.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or has been done
            with other settings; or no window fits.
    """
    run = probed_run(path, EXPERIMENT)
    trained = config_of(run)
    task, grammar = task_of(trained), trained.data.load()
    config = replace(config, spacing=spacing_for(config.probe, task))
    prefixes = held_out(task, config.probe)
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        # The distances come first: they take most of the time, and are kept when interrupted.
        table = _distances(opened, grammar, task, config, prefixes)
        write_text(opened.folder / TABLE, table.to_csv(index=False, float_format="%.6g"))
        num_sentences = min(config.num_sentences, trained.training.eval_examples)
        by_depth = _ceilings(grammar, task, num_sentences)
        first = trained.data.first_level
        opened.summary.update(
            ceiling=asdict(by_depth[task.depth]),
            levels={str(first + depth): asdict(best) for depth, best in by_depth.items()},
        )
        for name, knows_position in PLATEAUS.items():
            opened.summary[name] = _plateaus(grammar, task, config.windows, knows_position)


def _distances(
    opened: OpenProbe,
    grammar: Grammar,
    task: NextTokens,
    config: CeilingConfig,
    prefixes: Prefixes,
) -> pd.DataFrame:
    """close(n) and robust(n) of the best prediction."""
    # Without BOS, a prefix has as many tokens as the position of its last one says.
    best = BestOfPrefixes(
        grammar,
        np.asarray(prefixes.tokens_PxT)[:, 1:],
        np.asarray(prefixes.position_P),
        task.depth,
        task.config.predicts_end,
    )
    return distance_table(
        opened,
        config.sizes,
        prefixes.sentence_P,
        config.probe.seed,
        lambda n: {"best_2xP": best.distances(n)},
    )


def _ceilings(grammar: Grammar, task: NextTokens, num_sentences: int) -> dict[int, Ceiling]:
    """The best scores on the boundaries of every level but the start's, and on the end where a run
    predicts it, by the level's depth in the sentences' grammar; on the first sentences of the
    evaluation set."""
    sentences = eval_sentences(task.problem, task.sampler, num_sentences)
    tokens_BxT = np.asarray(sentences.tokens_BxT)[:, 1:-1]
    length_B = lengths_of(tokens_BxT, len(grammar.terminals))
    ends_BxTxD = np.asarray(sentences.ends_BxTxD)[:, 1:-1]
    # Every token is a boundary of the last level, its own.
    ends_BxTxD = np.pad(ends_BxTxD, ((0, 0), (0, 0), (0, 1)), constant_values=True)
    found = next_token(grammar, tokens_BxT, length_B)
    with_end = task.config.predicts_end
    return {
        depth: next_token_ceiling(
            found, tokens_BxT, length_B, ends_BxTxD[..., depth], depth, with_end
        )
        for depth in range(1, grammar.depth + 1)
    }


def _plateaus(
    grammar: Grammar, task: NextTokens, windows: Sequence[int], knows_position: bool
) -> dict[str, dict[str, float]]:
    """The best scores of models that see the last n tokens, by n."""
    with_end = task.config.predicts_end
    return {
        str(n): asdict(last_tokens_optimum(grammar, n, task.depth, with_end, knows_position))
        for n in windows
    }


PROBE = Probe(
    "pcfg.next_token.ceiling",
    NAME,
    "Compute what the best possible model scores on a run's evaluation set, exactly: from whole"
    " prefixes, at every level of boundaries, and from the last n tokens alone; and close(n) and"
    " robust(n) of its predictions, beside which those of `pcfg.next_token.probe` are read.",
    CeilingConfig(),
    compute,
)

main = probe_command(PROBE, __name__)
