"""What a teacher on text takes from the tokens around a position, besides the figure of its phases:
all but a window hidden, gains after the drop, and kinds of tokens apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from common.judge.phases import PhaseConfig
from common.sequence.windows import BY_TOKEN
from figures import loaders, style
from figures.phases import axis_of_norm, draw_distances, shade_drop
from figures.students import MIN_SEEDS_OF_MEAN, mean_and_margin

LATE_GAINS = "late_gains.csv"
SIZE = 3
"""n of the windows of kinds of tokens."""


@dataclass(frozen=True)
class Neighbours:
    """The figure of distances that that of the phases leaves out, and of late gains."""

    titles: Mapping[str, str]
    """Of the panels of distances, by kind, in the order in which they stand."""
    detector_of: Callable[[Path], PhaseConfig]
    """What finds the drop of an experiment's teachers."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `neighbours`.

        Args:
            home: the folder of an experiment's runs.
            folder: where figures go.
        """
        drawing, panels = style.figure(len(self.titles) + 1)
        columns = ("step", "seed", "kind", "n", "median")
        table = loaders.table_of(home / "teacher" / "probes" / "ngram.csv", *columns)
        for axes, (kind, title) in zip(panels, self.titles.items(), strict=False):
            of_kind = table[table.kind == kind]
            draw_distances(axes, of_kind, pd.Series(), "{n} tokens", highest=None)
            shade_drop(axes, home / "teacher", self.detector_of(home))
            axis_of_norm(axes)
            axes.set_title(title)
        panels[0].legend(loc="upper left", title="all but a window of", ncols=2)
        draw_gains(panels[-1], gains_of(home))
        return style.save(drawing, folder, "neighbours")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        text = (
            "Left: how far the teacher's prediction moves when all but the window around a position"
            " is masked (median over positions, mean and middle half of the seeds), with the token"
            " at the position itself masked in all that is compared, or visible in all of it."
        )
        gains = gains_of(home)
        if gains.empty:
            return f"{text} No teacher has a drop after which something could be gained."
        text += (
            " Right: what part of its final value the median of M_robust(n), token masked, gains"
            " after the drop; every teacher and the mean"
        )
        has_margin = gains.seed.nunique() >= MIN_SEEDS_OF_MEAN
        return f"{text} with its 95% interval." if has_margin else f"{text}."


@dataclass(frozen=True)
class TokenKinds:
    """The figure of kinds of tokens."""

    titles: Mapping[str, str]
    """Of the panels, by kind of distance."""
    words: Mapping[str, str]
    """What kinds of tokens are called in the legend, in order."""
    rule: str
    """Which token is of which kind, for the caption."""
    detector_of: Callable[[Path], PhaseConfig]
    """What finds the drop of an experiment's teachers."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Draw `token_kinds`."""
        drawing, panels = style.figure(len(self.titles))
        table = by_token(home)
        for axes, (kind, title) in zip(panels, self.titles.items(), strict=True):
            of_kind = table[(table.kind == kind) & (table.n == SIZE)]
            ordered = of_kind.assign(
                tokens=pd.Categorical(of_kind.tokens.map(self.words), list(self.words.values()))
            )
            draw_distances(axes, ordered, pd.Series(), "{n}", by="tokens", highest=None)
            shade_drop(axes, home / "teacher", self.detector_of(home))
            axis_of_norm(axes)
            axes.set_title(title)
        panels[0].legend(loc="upper left")
        return style.save(drawing, folder, "token_kinds")

    def caption(self, home: Path) -> str:
        """What the figure shows."""
        counts = by_token(home).groupby("tokens").num_pairs.first()
        told = ", ".join(
            f"{counts[tokens]:,} {words}"
            for tokens, words in self.words.items()
            if tokens in counts
        )
        return (
            f"M_robust({SIZE}) by the kind of the token at the position ({told}); median over"
            f" positions, mean and middle half of the seeds. {self.rule}"
        )


def by_token(home: Path) -> pd.DataFrame:
    """The distances of the teacher's checkpoints by kind of token."""
    columns = ("step", "seed", "kind", "n", "median", "tokens", "num_pairs")
    return loaders.table_of(home / "teacher" / "probes" / BY_TOKEN, *columns)


def gains_of(home: Path) -> pd.DataFrame:
    """What is gained after the drop; no rows where there is none."""
    return loaders.table_of(home / LATE_GAINS, "seed", "n", "gain")


def draw_gains(axes: Axes, gains: pd.DataFrame) -> None:
    """Every teacher's gain for every n, and the mean with Student's 95% interval."""
    axes.set_title("Gained after the drop")
    axes.set_xlabel("tokens in the window")
    axes.set_ylabel("part of the final $M_{robust}(n)$")
    sizes = sorted(gains.n.unique())
    place_of = {n: place for place, n in enumerate(sizes)}
    axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    for _, own in gains.groupby("seed"):
        axes.plot(own.n.map(place_of), own.gain, color=style.GREY, linewidth=0.8, alpha=0.7)
    if gains.empty:
        return
    mean, margin = mean_and_margin(gains, "n", "gain")
    axes.errorbar(
        range(len(sizes)), mean, yerr=margin, fmt="o-", color=style.BLACK, capsize=3, linewidth=2
    )
