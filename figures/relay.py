"""Accuracy of the links of a relay by their size, beside the published ones."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.judge.stats import proportion
from figures import loaders, style

SIZES = "sizes.csv"
PUBLISHED_SIZES = {"L4_H256": 11e6, "L2_H128": 4.4e6, "femto": 250e3, "femto_direct": 250e3}
"""Parameters of the published models, by the series of `targets.csv`."""
PUBLISHED_SENTENCES = 872


class Look(NamedTuple):
    """How an arm of the last link is drawn."""

    color: str
    label: str


ARMS = {
    "labels": Look(style.BLUE, "labels"),
    "one-hop": Look(style.ORANGE, "one hop"),
    "relay": Look(style.GREEN, "relay"),
    "half": Look(style.RED, "relay, half of the gain"),
    "unaligned": Look(style.GREY, "unaligned teacher"),
    "random": Look(style.PURPLE, "relay, random start"),
}
CHAIN = ("large", "upper", "mid")
"""The links above the last; the second is not in every chain."""


class Relay:
    """The figure `relay`."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Left the chain by size, right the arms of the last link."""
        sizes = loaders.table_of(home / SIZES, "link", "arm", "parameters", "seed", "evaluation")
        # The published accuracies are of test sentences.
        of_chain = "test" if "test" in sizes else "evaluation"
        drawing, (left, right) = style.figure(2)
        draw_chain(left, sizes.assign(accuracy=sizes[of_chain]))
        draw_arms(right, sizes.assign(accuracy=sizes.evaluation))
        return style.save(drawing, folder, "relay")

    def caption(self, home: Path) -> str:
        """What is drawn."""
        sizes = loaders.table_of(home / SIZES, "link", "arm", "seed")
        num_seeds = sizes[sizes["link"] == "small"].seed.nunique()
        return (
            "Left: accuracy of the links of the chain by their number of parameters, on the test"
            " sentences where there are any, else on held-out ones; the last link"
            f" ({num_seeds} seeds, each a point) under the relay, one hop and labels. Diamonds:"
            f" published, one seed on the {PUBLISHED_SENTENCES} sentences of SST-2's development"
            " set, with binomial 95% intervals. Right: every arm of the last link on held-out"
            " sentences; points are seeds, bars their mean."
        )


def draw_chain(axes: Axes, sizes: pd.DataFrame) -> None:
    """The links by size."""
    for arm in ("relay", "one-hop", "labels"):
        last = sizes[(sizes.link == "small") & (sizes.arm == arm)]
        above = [sizes[sizes.link == link] for link in CHAIN if link in set(sizes.link)]
        links = above if arm == "relay" else []
        points = [(part.parameters.iloc[0], part.accuracy) for part in (*links, last)]
        look = ARMS[arm]
        for parameters, accuracy in points:
            axes.plot([parameters] * len(accuracy), accuracy, "o", color=look.color, alpha=0.4)
        means = [accuracy.mean() for _, accuracy in points]
        places = [parameters for parameters, _ in points]
        axes.plot(places, means, "_-", markersize=14, color=look.color, label=look.label)
    published = loaders.targets("relay_sst2", "accuracy")
    for is_direct, color in ((False, style.GREEN), (True, style.BLUE)):
        own = published[published.series.str.endswith("direct") == is_direct]
        places = [PUBLISHED_SIZES[series] for series in own.series]
        kind = "labels" if is_direct else "relay"
        style.diamonds(axes, places, own.y, color, f"published, {kind}")
        for place, accuracy in zip(places, own.y, strict=True):
            found = proportion(round(accuracy * PUBLISHED_SENTENCES), PUBLISHED_SENTENCES)
            axes.plot([place] * 2, [found.low, found.high], color=color, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("accuracy")
    axes.set_title("The chain")
    axes.legend()


def draw_arms(axes: Axes, sizes: pd.DataFrame) -> None:
    """The last link under each arm."""
    last = sizes[sizes.link == "small"]
    for place, (arm, look) in enumerate(ARMS.items()):
        accuracy = last[last.arm == arm].accuracy
        spread = np.linspace(-0.15, 0.15, len(accuracy)) if len(accuracy) > 1 else [0.0]
        axes.plot(place + np.asarray(spread), accuracy, "o", color=look.color, alpha=0.6)
        axes.plot([place - 0.3, place + 0.3], [accuracy.mean()] * 2, color=look.color)
    labels = [look.label.replace(", ", ",\n") for look in ARMS.values()]
    axes.set_xticks(range(len(ARMS)), labels, rotation=30, ha="right")
    axes.set_ylabel("accuracy")
    axes.set_title("The last link")
