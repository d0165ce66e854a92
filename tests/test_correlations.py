"""The correlation probe against brute force over the whole cube."""

import itertools
import math
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from common.base.config import from_dict
from common.base.keys import seed_key
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from parity import probe
from parity.config import TrainConfig
from parity.correlations import (
    Correlator,
    floor_of_mean,
    monomials_in_support,
    monomials_off_support,
    noise_floor,
)
from parity.data import sample, supports_of

D, SUPPORT = 8, (1, 3, 6)


def cube(d: int) -> np.ndarray:
    return np.asarray(list(itertools.product([-1.0, 1.0], repeat=d)), np.float32)


def brute_force(x: np.ndarray, f: np.ndarray, coordinates: tuple[int, ...]) -> float:
    total = 0.0
    for row, value in zip(x, f, strict=True):
        total += math.prod(float(row[i]) for i in coordinates) * float(value)
    return total / len(x)


def test_against_brute_force() -> None:
    x = cube(D)
    rng = np.random.default_rng(0)
    outputs = rng.uniform(0, 1, (len(x), 3)).astype(np.float32)
    monomials = [*monomials_in_support(SUPPORT), *monomials_off_support(D, SUPPORT, 5, seed=0)]
    monomials.sort(key=lambda m: m.degree)
    actual = Correlator(jnp.asarray(x), monomials)(jnp.asarray(outputs))
    expected = [[brute_force(x, outputs[:, c], m.coordinates) for c in range(3)] for m in monomials]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_exact_fourier_coefficients() -> None:
    x = cube(D)
    f = 0.25 * x[:, 3] - 0.5 * x[:, 1] * x[:, 6]
    monomials = monomials_in_support(SUPPORT)
    values = dict(
        zip(
            [m.coordinates for m in monomials],
            Correlator(jnp.asarray(x), monomials)(jnp.asarray(f)[:, None])[:, 0],
            strict=True,
        )
    )
    assert values[3,] == pytest.approx(0.25)
    assert values[1, 6] == pytest.approx(-0.5)
    assert values[1, 3, 6] == pytest.approx(0, abs=1e-7)


def test_subsets_of_the_support_are_complete() -> None:
    monomials = monomials_in_support((0, 2, 5, 7, 9, 11))
    assert [sum(m.degree == degree for m in monomials) for degree in range(1, 7)] == [
        6,
        15,
        20,
        15,
        6,
        1,
    ]
    assert all(m.in_support for m in monomials)


def test_sampled_sets_are_distinct_stratified_and_reproducible() -> None:
    monomials = monomials_off_support(30, (0, 5, 10, 15, 20, 25), 20, seed=3)
    support = {0, 5, 10, 15, 20, 25}
    assert len({m.coordinates for m in monomials}) == len(monomials)
    for m in monomials:
        assert len(set(m.coordinates)) == m.degree
        assert len(support & set(m.coordinates)) == m.overlap < m.degree
    strata = {(degree, overlap) for degree in range(1, 7) for overlap in range(degree)}
    assert {(m.degree, m.overlap) for m in monomials} == strata
    assert all(
        sum((m.degree, m.overlap) == s for m in monomials) == 20
        for s in strata
        if math.comb(24, s[0] - s[1]) * math.comb(6, s[1]) >= 20
    )
    assert monomials == monomials_off_support(30, (0, 5, 10, 15, 20, 25), 20, seed=3)


def test_a_small_stratum_is_taken_whole() -> None:
    degree_one = [m for m in monomials_off_support(D, SUPPORT, 100, seed=0) if m.degree == 1]
    assert {m.coordinates[0] for m in degree_one} == set(range(D)) - set(SUPPORT)


def test_noise_floor_is_what_unrelated_functions_read() -> None:
    rng = np.random.default_rng(0)
    n, trials = 4096, 400
    x = rng.choice([-1.0, 1.0], (n, trials))
    f = rng.uniform(-1, 1, n)
    measured = np.abs((x * f[:, None]).mean(0))
    floor = noise_floor(f[:, None])[0]
    assert measured.mean() == pytest.approx(floor, rel=0.1)
    means = measured.reshape(-1, 5).mean(1)
    assert np.mean(means > floor_of_mean(floor, 5)) == pytest.approx(0.05, abs=0.05)


def test_probe_of_a_run_against_brute_force(tiny_teacher: Path, tmp_path: Path) -> None:
    """The tables of a whole trajectory against float64 means over the same examples; more examples
    than the cube has points, odd in number."""
    run = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, run)
    probe.main([str(run), "--num-examples", "999", "--per-stratum", "3"])
    config = from_dict(TrainConfig, RunDirectory(run).record["config"], run)
    (support,) = supports_of(config.data)
    x = np.asarray(sample(seed_key(0, "probe"), config.data, (support,), 999).inputs)
    inside, strata = (
        pd.read_csv(run / "probes" / probe.IN_SUPPORT),
        pd.read_csv(run / "probes" / probe.BY_STRATUM),
    )
    assert sorted(inside.step.unique()) == list(Trajectory(RunDirectory(run)).steps())
    assert set(inside.coordinates) == {
        str(support[0]),
        str(support[1]),
        f"{support[0]} {support[1]}",
    }
    for step in (0, 48, 256):
        params = Trajectory(RunDirectory(run)).restore(step)
        for lane, seed in enumerate((0, 1)):
            hidden = np.maximum(
                x @ params["hidden"]["kernel"][lane].astype(np.float64)
                + params["hidden"]["bias"][lane],
                0,
            )
            logits = (
                hidden @ params["output"]["kernel"][lane].astype(np.float64)
                + params["output"]["bias"][lane]
            )
            p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
            for row in inside[(inside.step == step) & (inside.seed == seed)].itertuples():
                chi = np.prod(x[:, [int(i) for i in str(row.coordinates).split()]], axis=1)
                assert row.with_p == pytest.approx((chi * p).mean(), abs=2e-5)
                assert row.with_2p_minus_1 == pytest.approx((chi * (2 * p - 1)).mean(), abs=2e-5)
            others = [i for i in range(8) if i not in support]
            off = strata[
                (strata.step == step)
                & (strata.seed == seed)
                & (strata.degree == 1)
                & (strata.overlap == 0)
            ]
            assert off["count"].item() == 3  # of the six others, three were drawn
            every = [abs((x[:, i] * (2 * p - 1)).mean()) for i in others]
            assert min(every) - 2e-5 <= off.mean_abs.item() <= max(every) + 2e-5
            assert off.noise_floor.item() == pytest.approx(
                math.sqrt(2 / math.pi) * math.sqrt(((2 * p - 1) ** 2).mean() / 999), rel=1e-3
            )
