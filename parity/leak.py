"""`python -m parity.leak RUN`: does a teacher's transition leak its support? A test for every seed,
as a CSV file inside the run directory.

Untrained weights alone give coordinates off the support a correlation, which differs from
coordinate to coordinate, so that a ratio of means cannot tell a leak from it. Here the support is
ranked among random sets of as many coordinates that are disjoint from it. The statistic of a set is
the largest value, over the checkpoints of the transition, of the moving average of 3 of the mean
absolute correlation with all monomials of a degree in the set. Each seed has examples of its own.

Shapes: N examples of d coordinates; S sets of k coordinates, C monomials of a degree in each; A
different monomials of J coordinates; F functions, one for each checkpoint.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from common.base.config import PositiveInt, Seed, configuration
from common.base.errors import UserError
from common.base.keys import seed_key
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.judge.transition import DetectorConfig, Transition, smooth
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, opened_probe
from common.runs.trajectory import Trajectory
from common.runs.transitions import transitions
from parity.config import StudentConfig, TrainConfig
from parity.correlations import absolute_correlations
from parity.data import sample, supports_of
from parity.probe import lane_probabilities, run_and_model

NAME = "leak"
TABLE = f"{NAME}.csv"
AT, BEFORE = "transition", "before"
"""The windows: the transition, and checkpoints around the one before it, as a control."""
PROBABILITY, ARGMAX = "2p - 1", "argmax"
"""What is correlated: with soft labels a student is shown the one, with hard ones the other."""
SMOOTHING = 3
"""Checkpoints in the moving average."""
COLUMNS = ("seed", "window", "output", "degree", "value", "num_sets", "p_value")


@configuration
class LeakConfig:
    """Settings of the test of a leak."""

    num_examples: PositiveInt = 8192
    """Examples of each seed over which correlations are averaged."""
    num_sets: PositiveInt = 999
    """Random sets disjoint from the support; all, where there are fewer."""
    most_degree: PositiveInt = 5
    """Degrees of monomials from 1 on; no more than coordinates of the support."""
    seed: Seed = 0
    """Of examples and sets."""
    detector: DetectorConfig = DetectorConfig()
    """Finds the transition."""


def probe_run(path: Path, config: LeakConfig) -> None:
    """Write `probes/leak.csv` of a finished run: a row for each seed that has a transition, window,
    output and degree, with the statistic of the support, the number of random sets and the p-value.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; or no set of coordinates is disjoint from the support.
    """
    run, model = run_and_model(path)
    (support,) = supports_of(model.data)
    sets_SxK = disjoint_sets(model.data.d, support, config.num_sets, config.seed)
    if not len(sets_SxK):
        raise UserError(
            f"{path}: of {model.data.d} coordinates no {len(support)} are disjoint from the support"
        )
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        found = transitions(run, config.detector)
        rows: list[dict[str, Any]] = []
        for lane, transition in enumerate(found):
            if isinstance(transition, Transition):
                sets_1SxK = np.concatenate([np.sort([support]), sets_SxK])
                rows += _rows_of(run, model, config, lane, transition, sets_1SxK)
        table = pd.DataFrame(rows, columns=COLUMNS)
        write_text(opened.folder / TABLE, table.to_csv(index=False, float_format="%.6g"))
        opened.summary.update(num_seeds=len(found))


def disjoint_sets(d: int, support: Sequence[int], wanted: int, seed: int) -> np.ndarray:
    """Sets of as many coordinates as the support has, none of them in it, `(S, k)` in increasing
    order: so many different random ones, or all if there are fewer."""
    outside, k = sorted(set(range(d)) - set(support)), len(support)
    if math.comb(len(outside), k) <= wanted:
        return np.asarray(list(itertools.combinations(outside, k)), np.int64).reshape(-1, k)
    rng = np.random.default_rng(seed)
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < wanted:
        chosen.add(tuple(sorted(rng.choice(outside, k, replace=False).tolist())))
    return np.asarray(sorted(chosen), np.int64)


def set_means(
    x_NxI: jax.Array, outputs_NxF: jax.Array, sets_SxK: np.ndarray, degree: int
) -> np.ndarray:
    """The mean absolute correlation of each function with all monomials of a degree in each set,
    `(S, F)` float64."""
    within_CxJ = np.asarray(list(itertools.combinations(range(sets_SxK.shape[1]), degree)))
    of_sets_SxCxJ = sets_SxK[:, within_CxJ]
    members_AxJ, which = np.unique(of_sets_SxCxJ.reshape(-1, degree), axis=0, return_inverse=True)
    absolute_AxF = absolute_correlations(x_NxI, members_AxJ, outputs_NxF)
    return absolute_AxF[which.reshape(of_sets_SxCxJ.shape[:2])].mean(axis=1)


def p_value(statistic: float, of_random_S: np.ndarray) -> float:
    """That of the support among the random sets: the share of all that are at least as large, the
    support among them."""
    return float((1 + np.sum(of_random_S >= statistic)) / (1 + len(of_random_S)))


def windows_of(steps: Sequence[int], transition: Transition) -> dict[str, list[int]]:
    """The checkpoints of the transition, and as many around the one before it; fewer, where there
    are not so many before the transition."""
    within = [step for step in steps if transition.start <= step <= transition.end]
    earlier = [step for step in steps if step < transition.start] or [steps[0]]
    count = min(len(within), len(earlier))
    nearest = int(np.argmin(np.abs(np.asarray(earlier) - transition.before)))
    first = min(max(nearest - count // 2, 0), len(earlier) - count)
    return {AT: within, BEFORE: earlier[first : first + count]}


def _rows_of(
    run: RunDirectory,
    model: TrainConfig | StudentConfig,
    config: LeakConfig,
    lane: int,
    transition: Transition,
    sets_1SxK: np.ndarray,
) -> list[dict[str, Any]]:
    """The rows of one seed; of the sets the first is the support."""
    trajectory, seed = Trajectory(run), run.manifest["seeds"][lane]
    windows = windows_of(trajectory.steps(), transition)
    steps = sorted({step for window in windows.values() for step in window})
    key = jax.random.fold_in(seed_key(config.seed, "leak"), seed)
    x_NxI = sample(key, model.data, supports_of(model.data), config.num_examples).inputs
    forward = jax.jit(lane_probabilities(model))

    def p_of(step: int) -> jax.Array:
        params: Params = jax.tree.map(lambda leaf: leaf[lane], trajectory.restore(step))
        return forward(params, x_NxI)

    p_NxF = jnp.stack([p_of(step) for step in steps], axis=1)
    is_one_NxF = jnp.where(p_NxF > 0.5, 1.0, -1.0)
    outputs_NxF = jnp.concatenate([2 * p_NxF - 1, is_one_NxF], axis=1)
    rows = []
    for degree in range(1, min(config.most_degree, sets_1SxK.shape[1]) + 1):
        means_1SxF = set_means(x_NxI, outputs_NxF, sets_1SxK, degree)
        of_outputs = dict(zip((PROBABILITY, ARGMAX), np.split(means_1SxF, 2, axis=1), strict=True))
        for output, window in itertools.product(of_outputs, windows):
            columns = [steps.index(step) for step in windows[window]]
            of_window_1SxF = of_outputs[output][:, columns]
            largest_1S = np.asarray(
                [smooth(curve_F, SMOOTHING).max() for curve_F in of_window_1SxF]
            )
            where = {"seed": seed, "window": window, "output": output, "degree": degree}
            found = {
                "value": largest_1S[0],
                "num_sets": len(largest_1S) - 1,
                "p_value": p_value(largest_1S[0], largest_1S[1:]),
            }
            rows.append(where | found)
    return rows


def read_leaks(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    return read_table(run / FOLDER / TABLE, COLUMNS, f"`python -m {PROBE.module}`")


PROBE = Probe(
    "parity.leak",
    NAME,
    "Test for every seed of a run whether its transition leaks the support.",
    LeakConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
