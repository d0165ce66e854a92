"""What is trained on, and what is not: no sentence of the second is one of the first."""

from dataclasses import dataclass

import numpy as np

from common.base.errors import UserError
from mlm.relay.families import heads_of, normal_form
from mlm.relay.labelled import Labelled


@dataclass(frozen=True)
class Splits:
    """Labelled sentences in splits."""

    train: Labelled
    evaluation: Labelled
    test: Labelled | None
    counts: dict[str, int]
    """Sentences of each, and those that were removed from training."""


def split_apart(
    train: Labelled,
    evaluation: Labelled | None,
    test: Labelled | None,
    held_out: float,
    seed: int,
) -> Splits:
    """Sentences in splits that have none in common.

    What is given stays together; sentences that are also in another split are removed from
    training. Without an evaluation set, whole sentences of the training set are drawn to be one,
    and all that are phrases of them are removed with them.

    Args:
        train: what may be trained on.
        evaluation: what is not; None: to be drawn.
        test: further sentences that are not.
        held_out: share of the whole sentences that are drawn.
        seed: of the draw.

    Raises:
        UserError: nothing is left of a split.
    """
    removed = {}
    normal_N = _normal_forms(train)
    for name, part in (("evaluation", evaluation), ("test", test)):
        if part is not None:
            is_in_N = np.isin(normal_N, _normal_forms(part))
            removed[f"also in {name}"] = int(is_in_N.sum())
            train, normal_N = train.where(~is_in_N), normal_N[~is_in_N]
    if evaluation is None:
        head_N = heads_of(normal_N.tolist())
        is_drawn_N = np.isin(head_N, _drawn(np.unique(head_N), held_out, seed))
        is_head_N = head_N == np.arange(len(head_N))
        removed["phrases of evaluation"] = int((is_drawn_N & ~is_head_N).sum())
        train, evaluation = train.where(~is_drawn_N), train.where(is_drawn_N & is_head_N)
    if not len(train) or not len(evaluation):
        missing = "evaluation" if len(train) else "training"
        raise UserError(
            f"no sentence is left for {missing}: give more sentences, another --data.held-out, or"
            " an --data.evaluation that is no copy of --data.train"
        )
    sizes = {"train": len(train), "evaluation": len(evaluation)}
    if test is not None:
        sizes["test"] = len(test)
    return Splits(train, evaluation, test, sizes | removed)


def _normal_forms(part: Labelled) -> np.ndarray:
    return np.asarray([normal_form(text) for text in part.text_N.tolist()], dtype=object)


def _drawn(heads_H: np.ndarray, held_out: float, seed: int) -> np.ndarray:
    """Some of the whole sentences, the same on every machine."""
    count = round(held_out * len(heads_H))
    return np.random.default_rng(seed).permutation(heads_H)[:count]
