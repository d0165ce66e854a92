"""`python -m parity.probe RUN`: correlations of every checkpoint of a run with monomials, as CSV
files inside the run directory."""

from collections.abc import Callable, Sequence
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
from common.base.mesh import over_lanes
from common.base.parts import in_parts, part_size
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Params
from common.nn.mlp import MLPConfig
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, opened_probe, probed_run
from common.runs.trajectory import Trajectory
from parity.config import StudentConfig, TrainConfig
from parity.correlations import (
    Correlator,
    Monomial,
    monomials_in_support,
    monomials_off_support,
    noise_floor,
)
from parity.data import sample, supports_of
from parity.task import apply_model

IN_SUPPORT = "correlations_in_support.csv"
BY_STRATUM = "correlations_by_stratum.csv"
NAME = "correlations"
_CHUNK = 128
"""Examples whose hidden layer is in memory at one time, so that it stays in a core's cache."""
_SEQUENCE_CHUNK = 64
"""The same for a Transformer, which has a hidden state for each coordinate."""
_TOGETHER = 8
"""Checkpoints that share a pass over the monomials' values, which are larger than the caches."""


@configuration
class ProbeConfig:
    """Settings of the correlation probe."""

    num_examples: PositiveInt = 32_768
    """Examples over which correlations are averaged; the noise floor falls with its square root."""
    per_stratum: PositiveInt = 50
    """Off-support sets sampled for each degree and overlap with the support."""
    seed: Seed = 0
    """Seed of the examples and of the sampled sets."""


def probe(path: Path, config: ProbeConfig) -> None:
    """Write `probes/correlations*` of a finished run. An interrupted probe goes on where it
    stopped; a complete one is left as it is.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings.
    """
    run, model = run_and_model(path)
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        (support,) = supports_of(model.data)
        off_support = monomials_off_support(model.data.d, support, config.per_stratum, config.seed)
        monomials = sorted(
            monomials_in_support(support) + off_support, key=lambda monomial: monomial.degree
        )
        compute = _correlations(Trajectory(run), model, config, monomials)
        parts = opened.over(Trajectory(run).steps(), compute, _TOGETHER)
        _write_tables(run, model, monomials, parts, opened.folder)
        opened.summary.update(support=support, num_monomials=len(monomials))


def run_and_model(path: Path) -> tuple[RunDirectory, TrainConfig | StudentConfig]:
    """A finished run on two labels, whose correlations can be probed; raises as `probe` does."""
    run = probed_run(path, "parity")
    model = run.config(TrainConfig if run.record["stage"] == "train" else StudentConfig)
    if model.data.depth > 1:
        raise UserError(
            f"{path} has {model.data.num_classes} labels; the correlation probe reads the"
            " probability of one of two"
        )
    return run, model


def read_strata(run: Path) -> pd.DataFrame:
    """The table of a probed run by stratum."""
    columns = ("seed", "step", "degree", "overlap", "mean_abs", "noise_floor")
    return read_table(run / FOLDER / BY_STRATUM, columns, "`python -m parity.probe`")


def _correlations(
    trajectory: Trajectory,
    model: TrainConfig | StudentConfig,
    config: ProbeConfig,
    monomials: list[Monomial],
) -> Callable[[Sequence[int]], dict[str, np.ndarray]]:
    x_NxI = sample(
        seed_key(config.seed, "probe"), model.data, supports_of(model.data), config.num_examples
    ).inputs
    correlator = Correlator(x_NxI, monomials)
    forward = _forward(model, len(trajectory.run.manifest["seeds"]))

    def compute(steps: Sequence[int]) -> dict[str, np.ndarray]:
        p_NxF = jnp.concatenate(
            [forward(trajectory.restore(step), x_NxI).T for step in steps], axis=1
        )
        # The correlations with 2p - 1, by linearity.
        with_p_AxF = correlator(p_NxF)
        values_2xAxF = np.stack([with_p_AxF, 2 * with_p_AxF - correlator.mean_A[:, None]])
        floors_2xF = np.stack(
            [noise_floor(np.asarray(p_NxF)), noise_floor(np.asarray(2 * p_NxF - 1))]
        )
        return {
            "values_Ex2xLxA": (
                values_2xAxF.reshape(2, len(monomials), len(steps), -1).transpose(2, 0, 3, 1)
            ),
            "floors_Ex2xL": floors_2xF.reshape(2, len(steps), -1).transpose(1, 0, 2),
        }

    return compute


def _forward(
    model: TrainConfig | StudentConfig, num_lanes: int
) -> Callable[[Params, jax.Array], jax.Array]:
    """A function of the lanes' parameters and N inputs to p(class 1) of every lane, `(L, N)`."""
    return over_lanes(lane_probabilities(model), num_lanes)


def lane_probabilities(
    model: TrainConfig | StudentConfig,
) -> Callable[[Params, jax.Array], jax.Array]:
    """A function of one lane's parameters and N inputs to p(class 1), `(N,)`, that has one chunk of
    hidden activations in memory at a time."""
    limit = _CHUNK if isinstance(model.model, MLPConfig) else _SEQUENCE_CHUNK

    def lane_forward(params: Params, x_NxI: jax.Array) -> jax.Array:
        chunks = in_parts(x_NxI, part_size(len(x_NxI), limit))
        p_of_parts = jax.lax.map(
            lambda x_BxI: jax.nn.softmax(apply_model(model, params, x_BxI))[:, 1], chunks
        )
        return p_of_parts.reshape(-1)[: len(x_NxI)]

    return lane_forward


def _write_tables(
    run: RunDirectory,
    model: TrainConfig | StudentConfig,
    monomials: list[Monomial],
    parts: list[dict[str, np.ndarray]],
    folder: Path,
) -> None:
    in_support, by_stratum = [], []
    steps = Trajectory(run).steps()
    values_Ex2xLxA = np.concatenate([part["values_Ex2xLxA"] for part in parts])
    floors_Ex2xL = np.concatenate([part["floors_Ex2xL"] for part in parts])
    for step, values_2xLxA, floors_2xL in zip(steps, values_Ex2xLxA, floors_Ex2xL, strict=True):
        where = {"step": step, "examples": step * model.training.batch_size}
        for table, rows in (
            (in_support, _in_support_rows(values_2xLxA, monomials)),
            (by_stratum, _stratum_rows(values_2xLxA, floors_2xL, monomials)),
        ):
            lane = rows.pop("lane")
            seeds = np.asarray(run.manifest["seeds"])[lane]
            rates = np.asarray(run.manifest["learning_rates"])[lane]
            table.append(pd.DataFrame(where | {"seed": seeds, "learning_rate": rates} | rows))
    for name, tables in ((IN_SUPPORT, in_support), (BY_STRATUM, by_stratum)):
        write_text(folder / name, pd.concat(tables).to_csv(index=False, float_format="%.6g"))


def _in_support_rows(values_2xLxA: np.ndarray, monomials: list[Monomial]) -> dict[str, Any]:
    """Columns of the table of the support's subsets; a row for each lane and monomial."""
    inside = [i for i, monomial in enumerate(monomials) if monomial.in_support]
    num_lanes = values_2xLxA.shape[1]
    with_p, with_2p_minus_1 = values_2xLxA[:, :, inside].reshape(2, -1)
    return {
        "lane": np.repeat(np.arange(num_lanes), len(inside)),
        "degree": [monomials[i].degree for i in inside] * num_lanes,
        "coordinates": [" ".join(map(str, monomials[i].coordinates)) for i in inside] * num_lanes,
        "with_p": with_p,
        "with_2p_minus_1": with_2p_minus_1,
    }


def _stratum_rows(
    values_2xLxA: np.ndarray, floors_2xL: np.ndarray, monomials: list[Monomial]
) -> dict[str, Any]:
    """Columns of the table of strata; a row for each stratum and lane: absolute correlations with
    2p - 1, their spread, and the noise floors."""
    strata, num_lanes = _strata(monomials), values_2xLxA.shape[1]
    absolute_2xLxA = np.abs(values_2xLxA)
    of_strata = [absolute_2xLxA[:, :, members] for members in strata.values()]
    low, high = np.concatenate(
        [np.quantile(of_one[1], [0.05, 0.95], axis=-1) for of_one in of_strata], axis=1
    )
    return {
        "lane": np.tile(np.arange(num_lanes), len(strata)),
        "degree": np.repeat([degree for degree, _ in strata], num_lanes),
        "overlap": np.repeat([overlap for _, overlap in strata], num_lanes),
        "count": np.repeat([len(members) for members in strata.values()], num_lanes),
        "mean_abs": np.concatenate([of_one[1].mean(-1) for of_one in of_strata]),
        "low": low,
        "high": high,
        "max": np.concatenate([of_one[1].max(-1) for of_one in of_strata]),
        "mean_abs_p": np.concatenate([of_one[0].mean(-1) for of_one in of_strata]),
        "noise_floor_p": np.tile(floors_2xL[0], len(strata)),
        "noise_floor": np.tile(floors_2xL[1], len(strata)),
    }


def _strata(monomials: list[Monomial]) -> dict[tuple[int, int], list[int]]:
    strata: dict[tuple[int, int], list[int]] = {}
    for i, monomial in enumerate(monomials):
        strata.setdefault((monomial.degree, monomial.overlap), []).append(i)
    return strata


PROBE = Probe(
    "parity.probe",
    NAME,
    "Correlate every checkpoint of a run with monomials of its input.",
    ProbeConfig(),
    probe,
)

main = probe_command(PROBE, __name__)
