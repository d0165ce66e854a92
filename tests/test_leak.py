"""Whether a transition leaks its support: the test by random sets."""

import itertools
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from common.base.keys import seed_key
from common.judge.transition import DetectorConfig, Transition
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.runs.transitions import transitions
from parity import verdicts
from parity.config import TrainConfig
from parity.data import sample, supports_of
from parity.evidence import Evidence
from parity.leak import (
    ARGMAX,
    AT,
    BEFORE,
    COLUMNS,
    PROBABILITY,
    TABLE,
    LeakConfig,
    disjoint_sets,
    p_value,
    probe_run,
    read_leaks,
    set_means,
    windows_of,
)
from parity.presets import PRESETS

EXPERIMENT = PRESETS["quick"].config


@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 30), st.integers(0, 5))
def test_sets_are_disjoint_from_the_support(d: int, k: int, wanted: int, seed: int) -> None:
    support = tuple(range(d))[: min(k, d)]
    sets_SxK = disjoint_sets(d, support, wanted, seed)
    num_all = math.comb(d - len(support), len(support))
    assert sets_SxK.shape == (min(wanted, num_all), len(support))
    chosen = {tuple(row) for row in sets_SxK.tolist()}
    assert len(chosen) == len(sets_SxK)
    for row in chosen:
        assert row == tuple(sorted(set(row))) and not set(row) & set(support)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_means_of_sets_are_those_of_plain_loops(degree: int) -> None:
    """In float64, monomial by monomial; more of them than are computed at one time."""
    rng = np.random.default_rng(0)
    x_NxI = rng.choice([-1.0, 1.0], (200, 40))
    outputs_NxF = rng.standard_normal((200, 3))
    sets_SxK = np.asarray([np.sort(rng.choice(40, 6, replace=False)) for _ in range(300)])
    found = set_means(jnp.asarray(x_NxI), jnp.asarray(outputs_NxF), sets_SxK, degree)
    for row in (0, 1, 299):
        chis = [
            x_NxI[:, list(members)].prod(axis=1)
            for members in itertools.combinations(sets_SxK[row], degree)
        ]
        expected = np.mean([np.abs(chi @ outputs_NxF) / 200 for chi in chis], axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)


def test_the_support_counts_as_one_of_the_sets() -> None:
    assert p_value(3.0, np.asarray([1.0, 2.0, 2.5])) == 1 / 4
    assert p_value(2.0, np.asarray([1.0, 2.0, 2.5])) == 3 / 4
    assert p_value(0.0, np.asarray([1.0, 2.0])) == 1


@pytest.mark.parametrize(
    ("before", "expected"),
    [(20, [10, 20, 30]), (0, [0, 10, 20]), (40, [20, 30, 40]), (24, [10, 20, 30])],
)
def test_the_control_has_as_many_checkpoints(before: int, expected: list[int]) -> None:
    """None of which is one of the transition."""
    steps = list(range(0, 100, 10))
    early = Transition(start=20, middle=60, end=70, chosen=60, before=10, after=80)
    assert windows_of(steps, early) == {AT: [20, 30, 40, 50, 60, 70], BEFORE: [0, 10]}
    at_once = Transition(start=0, middle=10, end=10, chosen=10, before=0, after=80)
    assert windows_of(steps, at_once) == {AT: [0, 10], BEFORE: [0]}
    transition = Transition(start=50, middle=60, end=70, chosen=60, before=before, after=80)
    assert windows_of(steps, transition) == {AT: [50, 60, 70], BEFORE: expected}


def test_the_table_is_what_numpy_computes(tiny_teacher: Path, tmp_path: Path) -> None:
    """From the weights of one seed, in float64."""
    run = Path(shutil.copytree(tiny_teacher, tmp_path / "run"))
    config = LeakConfig(num_examples=512, num_sets=9, most_degree=2)
    probe_run(run, config)
    table = read_leaks(run)
    assert tuple(table.columns) == COLUMNS
    model = RunDirectory(run).config(TrainConfig)
    (support,) = supports_of(model.data)
    found = transitions(RunDirectory(run), DetectorConfig())
    seeds = RunDirectory(run).manifest["seeds"]
    lane = next(i for i, one in enumerate(found) if isinstance(one, Transition))
    transition = found[lane]
    assert isinstance(transition, Transition)
    key = jax.random.fold_in(seed_key(0, "leak"), seeds[lane])
    x_NxI = np.asarray(sample(key, model.data, supports_of(model.data), 512).inputs, np.float64)
    trajectory = Trajectory(RunDirectory(run))
    within = windows_of(trajectory.steps(), transition)[AT]
    sets = [support, *map(tuple, disjoint_sets(8, support, 9, 0))]
    for output, degree in itertools.product((PROBABILITY, ARGMAX), (1, 2)):
        curves = []
        for step in within:
            values_N = answers(trajectory.restore(step), lane, x_NxI)
            if output == ARGMAX:
                values_N = np.sign(values_N)
            curves.append([mean_absolute(x_NxI, values_N, one, degree) for one in sets])
        largest = smoothed(np.asarray(curves)).max(axis=0)
        (row,) = table[
            (table.seed == seeds[lane])
            & (table.window == AT)
            & (table.output == output)
            & (table.degree == degree)
        ].itertuples()
        assert row.value == pytest.approx(largest[0], rel=1e-4)
        assert row.num_sets == 9
        assert row.p_value == pytest.approx((1 + np.sum(largest[1:] >= largest[0])) / 10)


def answers(params: Any, lane: int, x_NxI: np.ndarray) -> np.ndarray:
    """2p - 1 of an MLP."""
    hidden, output = (
        {name: np.asarray(leaf[lane], np.float64) for name, leaf in params[layer].items()}
        for layer in ("hidden", "output")
    )
    h_NxH = np.maximum(x_NxI @ hidden["kernel"] + hidden["bias"], 0)
    logits_NxC = h_NxH @ output["kernel"] + output["bias"]
    return np.tanh((logits_NxC[:, 1] - logits_NxC[:, 0]) / 2)


def mean_absolute(x_NxI: np.ndarray, values_N: np.ndarray, chosen: Any, degree: int) -> float:
    correlations = [
        abs(np.mean(x_NxI[:, list(members)].prod(axis=1) * values_N))
        for members in itertools.combinations(sorted(chosen), degree)
    ]
    return float(np.mean(correlations))


def smoothed(curves_ExS: np.ndarray) -> np.ndarray:
    """Over three checkpoints, or those that there are."""
    count = len(curves_ExS)
    return np.stack([curves_ExS[max(i - 1, 0) : min(i + 2, count)].mean(0) for i in range(count)])


def test_a_support_without_disjoint_sets_is_refused(tmp_path: Path) -> None:
    from parity import train
    from tests.conftest import TINY_TEACHER

    run = tmp_path / "run"
    short = ("--data.k", "5", "--training.steps", "32", "--run-dir", str(run))
    train.main([*TINY_TEACHER, *short])
    with pytest.raises(UserError, match="of 8 coordinates no 5 are disjoint"):
        probe_run(run, LeakConfig())
    assert not (run / "probes").exists()


class MadeUp(Evidence):
    """Ten seeds, of which a table says what the test found."""

    def run(self, name: str) -> Any:
        return SimpleNamespace(manifest={"seeds": list(range(10))})


def judged(
    folder: Path, at: list[float], before: list[float], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """C on teachers with these p-values; fewer than ten: the others have no transition."""
    rows = [
        (seed, window, output, degree, 0.1, 999, p if output == PROBABILITY and degree == 1 else 1)
        for window, values in ((AT, at), (BEFORE, before))
        for seed, p in enumerate(values)
        for output in (PROBABILITY, ARGMAX)
        for degree in (1, 2)
    ]
    probes = folder / "teacher" / "probes"
    probes.mkdir(parents=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(probes / TABLE, index=False)
    monkeypatch.setattr(verdicts, "spike_measurements", lambda *_: ())
    return verdicts.curriculum_claim(MadeUp(folder, EXPERIMENT))


@pytest.mark.parametrize(
    ("num_leaking", "num_before", "num_found", "holds"),
    [
        (8, 2, 10, True),
        (7, 0, 10, False),
        (10, 3, 10, False),
        (8, 1, 8, True),
        (7, 1, 7, False),  # a teacher without a transition does not leak
        (8, 2, 8, False),  # of those with one, a quarter stands out before
    ],
)
def test_the_support_stands_out_at_the_transition_alone(
    num_leaking: int,
    num_before: int,
    num_found: int,
    holds: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = [0.001] * num_leaking + [0.5] * (num_found - num_leaking)
    before = [0.049] * num_before + [0.05] * (num_found - num_before)
    found = judged(tmp_path, at, before, monkeypatch)
    assert found.holds is holds
    values = {item.name: item.estimate.value for item in found.measurements}
    assert values["p < 0.05 at the transition"] == num_leaking / 10
    assert values["p < 0.05 before it (control)"] == num_before / num_found
    assert values["p < 0.05 at the transition, of the argmax (not judged)"] == 0
    assert values["degree 2, p < 0.05 at the transition (not judged)"] == 0
    assert any("have no transition" in note for note in found.notes) == (num_found < 10)


def test_where_no_set_is_disjoint_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "spike_measurements", lambda *_: ())
    data = replace(EXPERIMENT.teacher.data, d=11)
    experiment = replace(EXPERIMENT, teacher=replace(EXPERIMENT.teacher, data=data))
    found = verdicts.curriculum_claim(MadeUp(tmp_path, experiment))
    assert found.holds is None and "disjoint" in found.notes[0]
