"""What the tokens are called that a model is left with, in figures of masked and of causal
models."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """The words of one experiment."""

    seen: str
    """What the models of the exact plateaus see, for captions."""
    optimum: str
    """Such a model, for a legend."""
    titles: Mapping[str, str]
    """Of the panels of distances, by kind, in the order in which they stand."""
    legend: str
    """Over the numbers of tokens in a legend; may be empty."""
    size: str
    """One of these numbers, with `{n}` in it."""
    distances: str
    """When the teacher's prediction moves so far, for captions."""
    best: str
    """The model whose exact distances stand beside the teacher's, for captions."""
    scored: str
    """The tokens of which accuracy is measured."""
    held_out: str = "held-out sentences"
    """What the loss is measured on, for captions."""
    examples: str = "sentences"
    """What is trained on."""
    highest: float | None = 0.8
    """Where the axes of distances end; None: a little above the curves of each panel."""


MASKED = Context(
    seen="n tokens around a position",
    optimum="best n-gram model",
    titles={
        "robust": "Window masked: $M_{robust}$",
        "close": "All but the window masked: $M_{close}$",
    },
    legend="window of",
    size="{n} tokens",
    distances="when a window around the position is masked, or all but the window",
    best="the best model that learns from such sentences",
    scored="selected tokens",
)
TEXT = Context(
    seen="n tokens around a position",
    optimum="window of n tokens",
    titles={
        "robust_masked": "Token masked: $M_{robust}$",
        "robust_visible": "Token visible: $M_{robust}$",
    },
    legend="window of",
    size="{n} tokens",
    distances=(
        "when the window around a position is masked; the token at the position itself is masked in"
        " all that is compared, or visible in all of it"
    ),
    best="the best model of all",
    scored="selected tokens",
    held_out="validation documents",
    examples="rows",
    highest=None,
)
CAUSAL = Context(
    seen="the last n tokens",
    optimum="best model of the last n tokens",
    titles={
        "close": "The last n tokens alone: close(n)",
        "robust": "n - 1 before the last removed: robust(n)",
    },
    legend="",
    size="n={n}",
    distances=(
        "when it sees the last n tokens alone (close), or when the n - 1 tokens before the last one"
        " are removed (robust)"
    ),
    best="the best model of all",
    scored="predicted tokens",
)
