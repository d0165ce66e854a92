"""Claims about the teachers of a token experiment (B1 to B3), judged from run files by criteria
fixed beforehand: the phases of their loss, and the windows that they predict from.

Reads metrics and the tables of the windows' probe (`common.sequence.windows`); loads no model.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.judge.stats import median_over_seeds, proportion
from common.judge.transition import NoTransition, Transition, smooth
from common.judge.verdict import Claim, Measurement, Verdict, most
from common.runs.directory import RunDirectory
from common.sequence.students import TEACHER
from common.sequence.windows import read_distances

SMOOTHING = 3
"""Points of a moving average: curves of single seeds are jagged."""
MOST = 7 / 8
"""Of the teachers: so many decide a claim about all of them, where it says so."""
CLOSE_TO_C1 = 0.2
"""How far the steepest fall may lie from C1, as a part of C1."""
Phases = Sequence[Transition | NoTransition]
"""Of every teacher."""
CLAIMS = {
    "B1": Claim(
        "A teacher's loss has three phases",
        "The detector finds a plateau, a drop and a tail in the validation loss of every teacher"
        " seed, with C1 inside the drop. (C1 is the drop's middle, which lies inside it by"
        " construction; how far it is from marks that the detector does not look at stands beside"
        " it.)",
    ),
    "B2": Claim(
        "The teacher passes through a 3-gram stage",
        "For every teacher seed the median of M_robust(3) peaks within the drop, and ends at no"
        " more than a fifth of its peak.",
    ),
    "B3": Claim(
        "The teacher is done with short windows first",
        "For every teacher seed the step from which the median of M_close(n) stays below half its"
        " peak rises with n, over n = 3 and all longer windows; those that do not get there by the"
        " end of training count as last, and at least two must get there.",
    ),
}
STEEPEST_AT_C1 = Claim(
    "A teacher's loss has three phases and falls fastest at C1",
    "In at least 7/8 of the teachers (seeds) the detector finds a plateau, a drop and a tail in the"
    " validation loss, and the steepest fall of the loss, over the logarithm of the step after a"
    " moving average of 3 evaluations, comes within 20% of C1, in steps.",
)
"""Of experiments that judge more of the phases than B1 does."""


def phases_claim(
    home: Path,
    phases: Phases,
    further: Sequence[Measurement] = (),
) -> Verdict:
    """B1: plateau, drop, tail.

    Args:
        home: the folder of an experiment's runs.
        phases: of every teacher.
        further: what else was measured of the plateaus, and is not judged.
    """
    inside = [
        isinstance(phase, Transition) and phase.start <= phase.chosen <= phase.end
        for phase in phases
    ]
    share = proportion(sum(inside), len(phases))
    marks = {
        "the steepest fall of the loss": steepest_falls(home),
        "the peak of M_robust(3)": [peak_of(curve).step for curve in distance_curves(home)],
    }
    measurements = (
        Measurement("teachers with three phases", share),
        *phase_measurements(phases, marks),
        *further,
    )
    return Verdict("B1", share.value == 1, measurements, why_no_phases(home, phases))


def steepest_claim(
    claim: str,
    home: Path,
    phases: Phases,
    marks: Mapping[str, Sequence[int]],
    further: Sequence[Measurement] = (),
) -> Verdict:
    """`STEEPEST_AT_C1`: three phases, and C1 at the steepest fall.

    Args:
        claim: what the experiment calls it.
        home: the folder of an experiment's runs.
        phases: of every teacher.
        marks: by name, further steps of every teacher, of which nothing is judged.
        further: what else was measured of the plateaus, and is not judged.
    """
    falls = steepest_falls(home)
    at_c1 = [
        isinstance(phase, Transition) and abs(fall - phase.chosen) <= CLOSE_TO_C1 * phase.chosen
        for phase, fall in zip(phases, falls, strict=True)
    ]
    found = sum(isinstance(phase, Transition) for phase in phases)
    measurements = (
        Measurement(
            "teachers with three phases that fall fastest at C1",
            proportion(sum(at_c1), len(phases)),
        ),
        Measurement("with three phases (not judged)", proportion(found, len(phases))),
        *phase_measurements(phases, {"the steepest fall of the loss": falls, **marks}),
        *further,
    )
    return Verdict(claim, most(at_c1, MOST), measurements, why_no_phases(home, phases))


def phase_measurements(phases: Phases, marks: Mapping[str, Sequence[int]]) -> list[Measurement]:
    """Where the phases of those teachers lie that have them, and how far C1 is from other marks;
    none of it is judged.

    Args:
        phases: of every teacher.
        marks: by name, a step of every teacher.
    """
    found = [phase for phase in phases if isinstance(phase, Transition)]
    measurements = []
    for name in ("start", "chosen", "end"):
        steps = [float(getattr(phase, name)) for phase in found]
        title = {"start": "end of the plateau", "chosen": "C1", "end": "end of the drop"}[name]
        measurements.append(Measurement(f"{title} (not judged)", median_over_seeds(steps), "steps"))
    for name, steps in marks.items():
        after = [
            float(phase.chosen - mark)
            for phase, mark in zip(phases, steps, strict=True)
            if isinstance(phase, Transition)
        ]
        measurements.append(
            Measurement(f"C1 less {name} (not judged)", median_over_seeds(after), "steps")
        )
    return measurements


def above(home: Path, phases: Phases, least: float) -> list[float]:
    """How far each teacher's loss at the end of its plateau lies above the least that some model
    can reach, nats; those without a plateau have none.

    The loss is of a sample; the least may be of all sentences.
    """
    loss_of = {row["step"]: row["eval_loss"] for row in RunDirectory(home / TEACHER).metrics()}
    return [
        loss_of[phase.start][lane] - least
        for lane, phase in enumerate(phases)
        if isinstance(phase, Transition)
    ]


def why_no_phases(home: Path, phases: Phases) -> tuple[str, ...]:
    """For every teacher without three phases, the reason."""
    seeds = RunDirectory(home / TEACHER).manifest["seeds"]
    return tuple(
        f"seed {seed}: {phase.reason}"
        for seed, phase in zip(seeds, phases, strict=True)
        if isinstance(phase, NoTransition)
    )


def steepest_falls(home: Path) -> list[int]:
    """The step at which each teacher's smoothed loss falls fastest over the logarithm of the
    step."""
    records = [record for record in RunDirectory(home / TEACHER).metrics() if record["step"] > 0]
    steps = np.asarray([record["step"] for record in records])
    falls = (
        np.gradient(smooth(loss_E, SMOOTHING), np.log(steps))
        for loss_E in zip(*(record["eval_loss"] for record in records), strict=True)
    )
    return [int(steps[np.argmin(slope_E)]) for slope_E in falls]


class Peak(NamedTuple):
    """The highest point of a probe's curve."""

    step: int
    height: float
    ratio: float
    """To the end of the curve; inf where that is zero."""


def distance_curves(home: Path, kind: str = "robust", n: int = 3) -> list[pd.Series]:
    """The median of a distance, M_robust(3) unless told otherwise, by step, for every teacher."""
    table = read_distances(home / TEACHER)
    table = table[(table.kind == kind) & (table.n == n)]
    return [
        table[table.seed == seed].set_index("step")["median"]
        for seed in RunDirectory(home / TEACHER).manifest["seeds"]
    ]


def peak_of(curve: pd.Series, smoothing: int = 1) -> Peak:
    """The peak of a curve by step, after a moving average of so many points."""
    smoothed = smooth(curve.to_numpy(), smoothing)
    peak = int(smoothed.argmax())
    return Peak(
        int(curve.index[peak]),
        float(smoothed[peak]),
        float(smoothed[peak] / smoothed[-1]) if smoothed[-1] > 0 else math.inf,
    )


def trigram_claim(home: Path, phases: Phases) -> Verdict:
    """B2: M_robust(3) rises and falls."""
    curves = distance_curves(home)
    raw, smoothed = ([peak_of(curve, width) for curve in curves] for width in (1, SMOOTHING))

    def within(peaks: Sequence[Peak]) -> int:
        return sum(
            isinstance(phase, Transition) and phase.start <= peak.step <= phase.end
            for peak, phase in zip(peaks, phases, strict=True)
        )

    holds = within(raw) == len(phases) and min(peak.ratio for peak in raw) >= 5
    measurements = (
        Measurement("peak within the drop", proportion(within(raw), len(phases))),
        Measurement(
            "peak of the median of M_robust(3), total variation (not judged)",
            median_over_seeds([peak.height for peak in raw]),
        ),
        Measurement("peak / end", median_over_seeds([peak.ratio for peak in raw])),
        Measurement(
            "smoothed peak within the drop (not judged)", proportion(within(smoothed), len(phases))
        ),
        Measurement(
            "smoothed peak (not judged)", median_over_seeds([peak.height for peak in smoothed])
        ),
        Measurement(
            "smoothed peak / end (not judged)", median_over_seeds([peak.ratio for peak in smoothed])
        ),
    )
    return Verdict("B2", holds, measurements)


def closing_claim(home: Path) -> Verdict:
    """B3: M_close falls first for short windows."""
    table = read_distances(home / TEACHER)
    table = table[(table.kind == "close") & (table.n >= 3)]
    steps_SxZ = (
        table.groupby(["seed", "n"])
        .apply(lambda curve: closing_step(curve["step"].tolist(), curve["median"].tolist()))
        .unstack("n")
    )
    in_order = [shortest_first(steps.tolist()) for _, steps in steps_SxZ.iterrows()]
    measurements = [
        Measurement(
            "teachers in which short windows come first", proportion(sum(in_order), len(in_order))
        )
    ]
    measurements += [
        Measurement(
            f"below half its peak for good, n={n}", median_over_seeds(steps.tolist()), "steps"
        )
        for n, steps in steps_SxZ.items()
    ]
    return Verdict("B3", all(in_order), tuple(measurements))


def shortest_first(steps: Sequence[float]) -> bool:
    """Whether steps, ordered by n, rise strictly; those that never come (inf) may only be at the
    end, and at least two must come."""
    come = [step for step in steps if math.isfinite(step)]
    return (
        len(come) >= 2
        and list(steps[: len(come)]) == come
        and all(earlier < later for earlier, later in itertools.pairwise(come))
    )


def closing_step(steps: Sequence[int], values: Sequence[float]) -> float:
    """The first step from which a curve stays below half its peak; inf if it ends above."""
    curve = np.asarray(values, np.float64)
    above = np.flatnonzero(curve >= curve.max() / 2)
    return float(steps[above[-1] + 1]) if above[-1] + 1 < len(steps) else math.inf
