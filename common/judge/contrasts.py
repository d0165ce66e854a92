"""The paired comparisons of one claim, judged together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.judge.stats import Estimate, holm, paired_difference, paired_p_value

LEVEL = 0.05
"""Adjusted p values below this decide."""


@dataclass(frozen=True)
class Contrast:
    """One of several comparisons over common seeds."""

    difference: Estimate
    """Mean of the second less the first, with its own 95% interval, not adjusted."""
    p_value: float
    """Two-sided, of the paired test, adjusted for all comparisons by Holm's method."""

    @property
    def is_better(self) -> bool | None:
        """Whether the second is the greater; None: undecided."""
        if self.p_value >= LEVEL:
            return None
        return self.difference.value > 0


def contrasts(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> dict[str, Contrast]:
    """Compare each pair of samples over the same seeds, and adjust for there being several.

    Args:
        pairs: by name, what is compared with, and what is compared.

    Raises:
        ValueError: the samples of a pair differ in length.
    """
    p_values = holm([paired_p_value(base, compared) for base, compared in pairs.values()])
    return {
        name: Contrast(paired_difference(base, compared), p_value)
        for (name, (base, compared)), p_value in zip(pairs.items(), p_values, strict=True)
    }


def beyond_margin(difference: Estimate, margin: float) -> bool | None:
    """Whether a difference is positive by more than a margin (True) or negative by more (False),
    with its whole interval; None: undecided."""
    if difference.low > margin:
        return True
    return False if difference.high < -margin else None


def direction(is_better: bool | None) -> str:
    """A comparison in a word."""
    if is_better is None:
        return "undecided"
    return "better" if is_better else "worse"
