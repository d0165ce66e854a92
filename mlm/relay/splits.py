"""What is trained on, and what is not: no sentence of the second is one of the first, or has one of
the first as a phrase.
"""

from dataclasses import dataclass

import numpy as np

from common.base.errors import UserError
from mlm.relay.families import heads_of, normal_form, phrases
from mlm.relay.labelled import Labelled


@dataclass(frozen=True)
class Splits:
    """Labelled sentences in splits."""

    train: Labelled
    validation: Labelled
    """What runs are evaluated on while they train, and rates and checkpoints are chosen by."""
    evaluation: Labelled
    """What is asked at the end alone."""
    test: Labelled | None
    counts: dict[str, int]
    """Sentences of each, and those that were removed from training."""


@dataclass(frozen=True)
class Shares:
    """Of the whole sentences of a training set, those that are drawn for something else."""

    validation: float
    evaluation: float


def split_apart(
    train: Labelled, evaluation: Labelled | None, test: Labelled | None, shares: Shares, seed: int
) -> Splits:
    """Sentences in splits that have none in common.

    What is given stays together; sentences that are also in another split are removed from
    training. Whole sentences of the training set are drawn for validation, and where there is no
    evaluation set for that too; of what is left, all phrases of them are removed.

    Args:
        train: what may be trained on.
        evaluation: what is not; None: to be drawn.
        test: further sentences that are not.
        shares: of the whole sentences.
        seed: of the draw.

    Raises:
        UserError: nothing is left of a split.
    """
    removed = {}
    for name, part in (("evaluation", evaluation), ("test", test)):
        if part is not None:
            is_in_N = _are_in(train, set(_normal_forms(part)))
            removed[f"also in {name}"] = int(is_in_N.sum())
            train = train.where(~is_in_N)
    normal = _normal_forms(train)
    heads_H = np.unique(heads_of(normal)) if normal else np.zeros(0, np.int64)
    order_H = np.random.default_rng(seed).permutation(heads_H)
    num_validation = round(shares.validation * len(heads_H))
    num_drawn = num_validation
    if evaluation is None:
        num_drawn += round(shares.evaluation * len(heads_H))
        evaluation = _at(train, order_H[num_validation:num_drawn])
    validation = _at(train, order_H[:num_validation])
    drawn = order_H[:num_drawn].tolist()
    kept_away = {phrase for head in drawn for phrase in phrases(normal[head].split(" "))}
    is_phrase_N = _are_in(train, kept_away)
    removed["phrases of those"] = int(is_phrase_N.sum()) - len(drawn)
    train = train.where(~is_phrase_N)
    sizes = {
        "train": len(train),
        "validation": len(validation),
        "evaluation": len(evaluation),
    }
    for name, size in sizes.items():
        if not size:
            raise UserError(
                f"no sentence is left for {name}: give more sentences, other shares"
                " (--data.validation, --data.held-out), or an --data.evaluation that is no copy of"
                " --data.train"
            )
    if test is not None:
        sizes["test"] = len(test)
    return Splits(train, validation, evaluation, test, sizes | removed)


def _normal_forms(part: Labelled) -> list[str]:
    return [normal_form(text) for text in part.text_N.tolist()]


def _are_in(part: Labelled, texts: set[str]) -> np.ndarray:
    """Which sentences are among some texts, `(N,)`."""
    return np.asarray([text in texts for text in _normal_forms(part)], bool)


def _at(part: Labelled, number_H: np.ndarray) -> Labelled:
    """The sentences of these numbers, in their order."""
    is_drawn_N = np.zeros(len(part), bool)
    is_drawn_N[number_H] = True
    return part.where(is_drawn_N)
