"""`python -m mlm.unigram RUN`: the loss of a model that knows nothing but how frequent every word
is, on the same rows and masks as the run's, as a JSON file inside the run directory.

Frequencies are those of the training documents, by the weights of their sources.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from common.base.config import PositiveFloat, configuration
from common.base.reading import read_object
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.runs.probing import FOLDER, opened_probe, probed_run
from mlm.config import config_of
from mlm.corpus import Split
from mlm.task import task_of
from mlm.text import Text

NAME = "unigram"
_CHUNK = 2**22
"""Tokens that are counted at one time."""


@configuration
class UnigramConfig:
    """Settings of the loss of frequencies."""

    added: PositiveFloat = 1.0
    """To the count of every word, so that none has the probability zero (Laplace)."""


def probe_run(path: Path, config: UnigramConfig) -> None:
    """Write `probes/unigram.json` of a finished run.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; or its corpus has changed.
    """
    run = probed_run(path, "mlm")
    trained = config_of(run)
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        task = task_of(trained.data, trained.masking)
        batch = task.evaluation(task.data(), trained.training.eval_examples)
        labels_N = np.asarray(batch.labels)[np.asarray(batch.mask) > 0]
        log_p_V = np.log(frequencies(task.text, config.added))
        opened.summary.update(
            loss=float(-np.mean(log_p_V[labels_N])),
            accuracy=float(np.mean(labels_N == np.argmax(log_p_V))),
            num_labels=len(labels_N),
        )


def frequencies(text: Text, added: float) -> np.ndarray:
    """The probability of every word where nothing else is known, `(V,)`; next to
    nothing for what is never to be predicted.

    Args:
        text: whose training documents are counted.
        added: to every count.
    """
    counts_V = weighted_counts(text.corpus.split("train"), text.vocabulary.size) + added
    counts_V = np.where(text.is_word_V, counts_V, np.finfo(float).tiny)
    return counts_V / counts_V.sum()


def weighted_counts(split: Split, size: int) -> np.ndarray:
    """How often every id occurs in a split, times the weights of the sources, `(V,)`."""
    counts_V = np.zeros(size)
    for shard in split.shards:
        for first in range(0, len(shard.tokens), _CHUNK):
            part_N = shard.tokens[first : first + _CHUNK]
            counts_V += shard.weight * np.bincount(part_N, minlength=size)
    return counts_V


def unigram_loss(run: Path) -> float:
    """That of a probed run, nats."""
    path = run / FOLDER / f"{NAME}.json"
    return float(read_object(path, ("loss",), "python -m mlm.unigram")["loss"])


PROBE = Probe(
    "mlm.unigram",
    NAME,
    "Compute the loss of the frequencies of words on the rows that a run is evaluated on.",
    UnigramConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
