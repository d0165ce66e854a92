"""`python -m parity.probe RUN`: correlations of every checkpoint of a run with monomials, as CSV files inside the run directory."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro
from jax.sharding import PartitionSpec

from common.config import PositiveInt, Seed, configuration, from_dict, parse, validate
from common.errors import UserError, run_command
from common.keys import seed_key
from common.mesh import LANE, lane_mesh, use_all_cores
from common.models import MLPConfig, Params
from common.progress import progress_bar
from common.runs import RunDirectory, locked, write_json, write_text
from common.trajectory import Trajectory
from parity.config import StudentConfig, TrainConfig, apply_model
from parity.correlations import Correlator, Monomial, monomials_in_support, monomials_off_support, noise_floor
from parity.data import sample, supports_of

IN_SUPPORT = "correlations_in_support.csv"
BY_STRATUM = "correlations_by_stratum.csv"
SUMMARY = "correlations.json"
_CHUNK = 1024  # at most so many examples' hidden layers are in memory at one time ...
_SEQUENCE_CHUNK = 64  # ... or of a Transformer's, which has one hidden layer and one row of attention for every coordinate
_TOGETHER = 8  # checkpoints that share one pass over the monomials' values, which are far larger than the caches


@configuration
class ProbeConfig:
    """Settings of the correlation probe."""

    num_examples: PositiveInt = 32_768
    """Examples over which correlations are averaged; the noise floor falls with its square root."""
    per_stratum: PositiveInt = 50
    """Off-support sets sampled for each degree and overlap with the support."""
    seed: Seed = 0
    """Of the examples and of the sampled sets."""


@dataclass(frozen=True)
class ProbeCommand:
    """Arguments of `python -m parity.probe`."""

    run_dir: tyro.conf.Positional[Path]
    """A finished run of parity.train or parity.distill."""
    config: tyro.conf.OmitArgPrefixes[ProbeConfig] = ProbeConfig()


def main(args: list[str]) -> None:
    """Parse and probe."""
    use_all_cores()
    command = parse(ProbeCommand, args, prog="parity.probe", description="Correlate every checkpoint of a run with monomials of its input.")
    probe(command.run_dir, validate(command.config))


def probe(path: Path, config: ProbeConfig) -> None:
    """Write `probes/correlations*` of a finished run; goes on where an interrupted probe stopped, and does nothing when all is there.

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with other settings.
    """
    run = RunDirectory(path)
    if run.record["experiment"] != "parity":
        raise UserError(f"{path} is a run of {run.record['experiment']}, not of parity")
    if not run.finished:
        raise UserError(f"{path} is not finished ({run.state}); run its command again, it goes on from where it stopped")
    with locked(path):
        folder = path / "probes"
        settings = asdict(config)
        if (folder / SUMMARY).exists():
            if json.loads((folder / SUMMARY).read_text())["settings"] != settings:
                raise UserError(f"{folder} holds a probe with other settings; delete {folder / SUMMARY} to probe again")
            print(f"{folder / SUMMARY}: already there, nothing to do")
            return
        parts = folder / "parts"
        _start_parts(parts, settings)
        model = from_dict(TrainConfig if run.record["stage"] == "train" else StudentConfig, run.record["config"], path / "config.json")
        if model.data.depth > 1:
            raise UserError(f"{path} has {model.data.num_classes} labels; the correlation probe reads the probability of one of two")
        (support,) = supports_of(model.data)
        off_support = monomials_off_support(model.data.d, support, config.per_stratum, config.seed)
        monomials = sorted(monomials_in_support(support) + off_support, key=lambda monomial: monomial.degree)
        _probe_checkpoints(Trajectory(run), model, config, monomials, parts)
        _write_tables(run, model, monomials, parts, folder)
        write_json(folder / SUMMARY, {"settings": settings, "support": support, "num_monomials": len(monomials)})
        shutil.rmtree(parts)


def _start_parts(parts: Path, settings: dict[str, int]) -> None:
    """Keep what an interrupted probe with the same settings has computed; discard the rest."""
    marker = parts / "settings.json"
    if not marker.exists() or json.loads(marker.read_text()) != settings:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_json(marker, settings)


def _probe_checkpoints(
    trajectory: Trajectory, model: TrainConfig | StudentConfig, config: ProbeConfig, monomials: list[Monomial], parts: Path
) -> None:
    x_NxD = sample(seed_key(config.seed, "probe"), model.data, supports_of(model.data), config.num_examples).inputs
    correlator = Correlator(x_NxD, monomials)
    forward = _forward(model, len(trajectory.run.manifest["seeds"]))
    steps = trajectory.steps()
    with progress_bar("probe", len(steps), unit="checkpoints", rate_unit="checkpoints") as progress:
        for start in range(0, len(steps), _TOGETHER):
            target, group = _part(parts, start), steps[start : start + _TOGETHER]
            if not target.exists():
                p_NxC = jnp.concatenate([forward(trajectory.restore(step), x_NxD) for step in group], axis=1)
                # 2p - 1 by linearity.
                with_p_AxC = correlator(p_NxC)
                values_2xAxC = np.stack([with_p_AxC, 2 * with_p_AxC - correlator.mean_A[:, None]])
                floors_2xC = np.stack([noise_floor(np.asarray(p_NxC)), noise_floor(np.asarray(2 * p_NxC - 1))])
                temporary = target.with_suffix(".tmp")
                with temporary.open("wb") as file:
                    np.savez(
                        file,
                        values_Tx2xLxA=values_2xAxC.reshape(2, len(monomials), len(group), -1).transpose(2, 0, 3, 1),
                        floors_Tx2xL=floors_2xC.reshape(2, len(group), -1).transpose(1, 0, 2),
                    )
                temporary.replace(target)
            progress(start + len(group))


def _part(parts: Path, start: int) -> Path:
    return parts / f"{start}.npz"


def _forward(model: TrainConfig | StudentConfig, num_lanes: int) -> Callable[[Params, jax.Array], jax.Array]:
    """p(class 1) of every lane, `(N, L)`, with one chunk of hidden activations in memory at a time."""
    limit = _CHUNK if isinstance(model.model, MLPConfig) else _SEQUENCE_CHUNK

    def lane_forward(params: Params, x_NxD: jax.Array) -> jax.Array:
        num_examples, d = x_NxD.shape
        chunk = max(size for size in range(1, limit + 1) if num_examples % size == 0)
        chunks = x_NxD.reshape(-1, chunk, d)
        return jax.lax.map(lambda x_BxD: jax.nn.softmax(apply_model(model, params, x_BxD))[:, 1], chunks).reshape(-1)

    over_lanes = jax.shard_map(
        jax.vmap(lane_forward, (0, None)), mesh=lane_mesh(num_lanes), in_specs=(PartitionSpec(LANE), PartitionSpec()), out_specs=PartitionSpec(LANE)
    )
    return jax.jit(lambda params, x_NxD: over_lanes(params, x_NxD).T)


def _write_tables(run: RunDirectory, model: TrainConfig | StudentConfig, monomials: list[Monomial], parts: Path, folder: Path) -> None:
    in_support, by_stratum = [], []
    steps = Trajectory(run).steps()
    for i, step in enumerate(steps):
        with np.load(_part(parts, i - i % _TOGETHER)) as part:
            values_2xLxA, floors_2xL = part["values_Tx2xLxA"][i % _TOGETHER], part["floors_Tx2xL"][i % _TOGETHER]
        where = {"step": step, "examples": step * model.training.batch_size}
        for table, rows in (
            (in_support, _in_support_rows(values_2xLxA, monomials)),
            (by_stratum, _stratum_rows(values_2xLxA, floors_2xL, monomials)),
        ):
            lane = rows.pop("lane")
            seeds, rates = np.asarray(run.manifest["seeds"])[lane], np.asarray(run.manifest["learning_rates"])[lane]
            table.append(pd.DataFrame(where | {"seed": seeds, "learning_rate": rates} | rows))
    for name, tables in ((IN_SUPPORT, in_support), (BY_STRATUM, by_stratum)):
        write_text(folder / name, pd.concat(tables).to_csv(index=False, float_format="%.6g"))


def _in_support_rows(values_2xLxA: np.ndarray, monomials: list[Monomial]) -> dict[str, Any]:
    """Columns of the table of single subsets of the support, lanes x monomials."""
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


def _stratum_rows(values_2xLxA: np.ndarray, floors_2xL: np.ndarray, monomials: list[Monomial]) -> dict[str, Any]:
    """Columns of the table of strata, strata x lanes: absolute correlations with 2p - 1, their spread, and the noise floors."""
    strata, num_lanes = _strata(monomials), values_2xLxA.shape[1]
    absolute_2xLxA = np.abs(values_2xLxA)
    of_strata = [absolute_2xLxA[:, :, members] for members in strata.values()]
    low, high = np.concatenate([np.quantile(of_one[1], [0.05, 0.95], axis=-1) for of_one in of_strata], axis=1)
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


if __name__ == "__main__":
    run_command(main)
