"""The correlation probe against brute force over the whole cube."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from parity.correlations import Correlator, floor_of_mean, monomials_in_support, monomials_off_support, noise_floor

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
    values = dict(zip([m.coordinates for m in monomials], Correlator(jnp.asarray(x), monomials)(jnp.asarray(f)[:, None])[:, 0], strict=True))
    assert values[3,] == pytest.approx(0.25)
    assert values[1, 6] == pytest.approx(-0.5)
    assert values[1, 3, 6] == pytest.approx(0, abs=1e-7)


def test_subsets_of_the_support_are_complete() -> None:
    monomials = monomials_in_support((0, 2, 5, 7, 9, 11))
    assert [sum(m.degree == degree for m in monomials) for degree in range(1, 7)] == [6, 15, 20, 15, 6, 1]
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
    assert all(sum((m.degree, m.overlap) == s for m in monomials) == 20 for s in strata if math.comb(24, s[0] - s[1]) * math.comb(6, s[1]) >= 20)
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
