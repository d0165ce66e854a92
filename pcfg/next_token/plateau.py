"""How long a teacher's loss stays near the optimum of a model that sees the last n tokens only.

The optimum of n is that of `pcfg.ngrams.last_tokens_optimum`. Near it is a loss that differs from
it by less than a fifth of the gap to the next optimum, of more tokens. How long is counted in the
logarithm of the step, as a share of that of the run's last one.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from common.judge.transition import smooth
from common.sequence.teacher_claims import SMOOTHING

NEAR = 0.2
"""Of the gap to the next optimum: a loss that is nearer than this to an optimum lies on it."""
LONG = 0.1
"""Of the logarithm of the run: a loss that lies on an optimum for so long has its plateau there."""


class Optimum(NamedTuple):
    """The best loss of a model of the last n tokens, nats."""

    n: int
    loss: float
    tolerance: float
    """A loss nearer than this lies on it."""


class Stretch(NamedTuple):
    """The longest time for which a loss lies on an optimum without a break."""

    first_step: int | None
    """None: it never does."""
    last_step: int | None
    share: float
    """ln(last_step / first_step) / ln(last step of the run)."""


def optima_of(losses: Mapping[int, float]) -> list[Optimum]:
    """Every optimum that has a next one, by rising n; the losses are by n."""
    sizes = sorted(losses)
    return [
        Optimum(n, losses[n], NEAR * (losses[n] - losses[following]))
        for n, following in itertools.pairwise(sizes)
    ]


def stretch(
    steps: Sequence[int], losses: Sequence[float], optimum: Optimum, until: int | None
) -> Stretch:
    """The longest run of evaluations whose smoothed loss lies on an optimum.

    Args:
        steps: of all evaluations, increasing.
        losses: at those steps; of step 0, which has no logarithm, it is not read.
        optimum: what the loss is compared with.
        until: the last step that counts; None: that of the run.
    """
    positive = [i for i, step in enumerate(steps) if step > 0]
    step_E = np.asarray([steps[i] for i in positive])
    loss_E = smooth([losses[i] for i in positive], SMOOTHING)
    lies_on_E = np.abs(loss_E - optimum.loss) < optimum.tolerance
    if until is not None:
        lies_on_E &= step_E <= until
    found = Stretch(None, None, 0.0)
    first = None
    for step, lies_on in zip(step_E.tolist(), lies_on_E, strict=True):
        if not lies_on:
            first = None
            continue
        first = step if first is None else first
        share = float(np.log(step / first) / np.log(step_E[-1]))
        if found.first_step is None or share > found.share:
            found = Stretch(first, step, share)
    return found
