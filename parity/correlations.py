"""Correlations of a model's output with monomials of its input: which easy features does a
checkpoint leak? (paper section 3, "correlation probe")

For a set A of coordinates the correlation is |mean_x chi_A(x) p(x)| with chi_A(x) = prod_{i in A}
x_i and p the probability of class 1. As p lies in [0, 1], it is at most 1/2 for a non-empty A; with
2p - 1 in place of p it is at most 1. All subsets of the support are measured. Other sets are
sampled, stratified by degree, 1 to k, and by the number of coordinates that they share with the
support.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

_AT_A_TIME = 2048
"""Monomials whose values at all inputs are in memory together."""


@dataclass(frozen=True)
class Monomial:
    """A set of coordinates, in increasing order, and how many of them lie in the support."""

    coordinates: tuple[int, ...]
    overlap: int

    @property
    def degree(self) -> int:
        """Number of coordinates."""
        return len(self.coordinates)

    @property
    def in_support(self) -> bool:
        """Whether all coordinates lie in the support."""
        return self.overlap == self.degree


def monomials_in_support(support: tuple[int, ...]) -> list[Monomial]:
    """All 2^k - 1 non-empty subsets of the support, by degree."""
    degrees = range(1, len(support) + 1)
    return [
        Monomial(subset, len(subset))
        for degree in degrees
        for subset in itertools.combinations(sorted(support), degree)
    ]


def monomials_off_support(
    d: int, support: tuple[int, ...], per_stratum: int, seed: int
) -> list[Monomial]:
    """Sets of degree 1..k that do not lie inside the support, for each degree and each overlap: all
    of them, or `per_stratum` different random ones if there are more."""
    rng = np.random.default_rng(seed)
    inside, outside = sorted(support), sorted(set(range(d)) - set(support))
    found = []
    for degree in range(1, len(support) + 1):
        for overlap in range(degree):
            stratum = _stratum(inside, outside, overlap, degree - overlap, per_stratum, rng)
            found += [Monomial(chosen, overlap) for chosen in stratum]
    return found


def _stratum(
    inside: list[int],
    outside: list[int],
    overlap: int,
    rest: int,
    wanted: int,
    rng: np.random.Generator,
) -> list[tuple[int, ...]]:
    size = math.comb(len(inside), overlap) * math.comb(len(outside), rest)
    if size <= wanted:
        pairs = itertools.product(
            itertools.combinations(inside, overlap), itertools.combinations(outside, rest)
        )
        return [tuple(sorted((*a, *b))) for a, b in pairs]
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < wanted:
        a = rng.choice(inside, overlap, replace=False)
        b = rng.choice(outside, rest, replace=False)
        chosen.add(tuple(sorted(int(i) for i in (*a, *b))))
    return sorted(chosen)


class Correlator:
    """Correlations with a fixed list of monomials over a fixed set of inputs. The monomials' values
    are computed once."""

    def __init__(self, x_NxI: jax.Array, monomials: Sequence[Monomial]) -> None:
        groups = itertools.groupby(monomials, key=lambda monomial: monomial.degree)
        members = [jnp.asarray([monomial.coordinates for monomial in group]) for _, group in groups]
        self.chi_NxA = jnp.concatenate(
            [_monomial_values(x_NxI, members_AxJ) for members_AxJ in members], axis=1
        )
        self.mean_A = np.asarray(jnp.mean(self.chi_NxA, axis=0), np.float64)
        """Correlations with the constant 1 on these inputs."""

    def __call__(self, outputs_NxF: jax.Array) -> np.ndarray:
        """mean_x chi_A(x) f(x), signed, for every monomial A and each of F functions f, given by
        their values at the inputs; `(A, F)` float64."""
        return np.asarray(_mean_products(self.chi_NxA, outputs_NxF), np.float64)


def absolute_correlations(
    x_NxI: jax.Array, members_AxJ: np.ndarray, outputs_NxF: jax.Array
) -> np.ndarray:
    """|mean_x chi_A(x) f(x)| of many monomials of one degree, `(A, F)` float64.

    Args:
        x_NxI: examples, of -1 and 1.
        members_AxJ: the coordinates of each monomial.
        outputs_NxF: the functions' values.
    """
    num_inputs, parts = x_NxI.shape[1], []
    is_negative_NxI = (x_NxI < 0).astype(jnp.float32)
    for first in range(0, len(members_AxJ), _AT_A_TIME):
        part_AxJ = members_AxJ[first : first + _AT_A_TIME]
        is_member_AxI = np.zeros((len(part_AxJ), num_inputs), np.float32)
        np.put_along_axis(is_member_AxI, part_AxJ, 1, axis=1)
        parts.append(np.asarray(_parity_products(is_negative_NxI, is_member_AxI, outputs_NxF)))
    return np.abs(np.concatenate(parts).astype(np.float64))


def noise_floor(outputs_NxF: np.ndarray) -> np.ndarray:
    """Expected |mean_x chi_A(x) f(x)| over N examples of a function whose true correlation is zero:
    sqrt(2/pi) rms(f) / sqrt(N); `(F,)`."""
    mean_square_F = np.mean(np.square(outputs_NxF, dtype=np.float64), axis=0)
    return np.sqrt(2 / np.pi) * np.sqrt(mean_square_F / len(outputs_NxF))


def floor_of_mean(floor: float, count: int, quantile_z: float = 1.645) -> float:
    """Upper 95% limit of the mean of `count` absolute correlations whose true value is zero:
    independent half-normal numbers with mean `floor`."""
    return floor * (1 + quantile_z * math.sqrt((math.pi / 2 - 1) / count))


@jax.jit
def _monomial_values(x_NxI: jax.Array, members_AxJ: jax.Array) -> jax.Array:
    return jnp.prod(x_NxI[:, members_AxJ], axis=-1)


@jax.jit
def _parity_products(
    is_negative_NxI: jax.Array, is_member_AxI: jax.Array, outputs_NxF: jax.Array
) -> jax.Array:
    """mean_x chi_A(x) f(x) `(A, F)`: a monomial is -1 where an odd number of its factors are, which
    a product of matrices counts."""
    count_NxA = jnp.einsum("ni,ai->na", is_negative_NxI, is_member_AxI, precision="highest")
    chi_NxA = 1 - 2 * jnp.mod(count_NxA, 2)
    return _mean_products(chi_NxA, outputs_NxF)


@jax.jit
def _mean_products(chi_NxA: jax.Array, outputs_NxF: jax.Array) -> jax.Array:
    return jnp.einsum("na,nf->af", chi_NxA, outputs_NxF, precision="highest") / chi_NxA.shape[0]
