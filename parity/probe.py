"""`python -m parity.probe RUN`: correlations of every checkpoint of a run with monomials, as CSV files inside the run directory."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

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
from common.models import Params
from common.progress import progress_bar
from common.runs import RunDirectory, locked, write_json, write_text
from common.trajectory import Trajectory
from parity.config import StudentConfig, TrainConfig, apply_model
from parity.correlations import Correlator, Monomial, monomials_in_support, monomials_off_support, noise_floor
from parity.data import sample, support_of

IN_SUPPORT = "correlations_in_support.csv"
BY_STRATUM = "correlations_by_stratum.csv"
SUMMARY = "correlations.json"
_CHUNK = 1024  # examples whose hidden layer is in memory at one time


@configuration
class ProbeConfig:
    """Settings of the correlation probe."""

    num_examples: PositiveInt = 32_768
    """Examples over which correlations are averaged; the noise floor falls with its square root. A multiple of 1024."""
    per_stratum: PositiveInt = 50
    """Off-support sets sampled for each degree and overlap with the support."""
    seed: Seed = 0
    """Of the examples and of the sampled sets."""

    def __post_init__(self) -> None:
        if self.num_examples % _CHUNK:
            raise ValueError(f"num_examples = {self.num_examples} must be a multiple of {_CHUNK}")


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
        support = support_of(model.data)
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
    x_NxD = sample(seed_key(config.seed, "probe"), model.data, support_of(model.data), config.num_examples).inputs
    correlator = Correlator(x_NxD, monomials)
    forward = _forward(model, len(trajectory.run.manifest["seeds"]))
    steps = trajectory.steps()
    with progress_bar("probe", len(steps), unit="checkpoints", rate_unit="checkpoints") as progress:
        for done, step in enumerate(steps):
            target = parts / f"{step}.npz"
            if not target.exists():
                p_NxL = forward(trajectory.restore(step), x_NxD)
                outputs_NxC = jnp.concatenate([p_NxL, 2 * p_NxL - 1], axis=1)
                temporary = target.with_suffix(".tmp")
                with temporary.open("wb") as file:
                    np.savez(file, correlations_AxC=correlator(outputs_NxC), floor_C=noise_floor(np.asarray(outputs_NxC)))
                temporary.replace(target)
            progress(done + 1)


def _forward(model: TrainConfig | StudentConfig, num_lanes: int) -> Callable[[Params, jax.Array], jax.Array]:
    """p(class 1) of every lane, `(N, L)`, with one chunk of hidden activations in memory at a time."""

    def lane_forward(params: Params, x_NxD: jax.Array) -> jax.Array:
        chunks = x_NxD.reshape(-1, _CHUNK, x_NxD.shape[1])
        return jax.lax.map(lambda x_BxD: jax.nn.softmax(apply_model(model, params, x_BxD))[:, 1], chunks).reshape(-1)

    over_lanes = jax.shard_map(
        jax.vmap(lane_forward, (0, None)), mesh=lane_mesh(num_lanes), in_specs=(PartitionSpec(LANE), PartitionSpec()), out_specs=PartitionSpec(LANE)
    )
    return jax.jit(lambda params, x_NxD: over_lanes(params, x_NxD).T)


def _write_tables(run: RunDirectory, model: TrainConfig | StudentConfig, monomials: list[Monomial], parts: Path, folder: Path) -> None:
    in_support, by_stratum = [], []
    for step in Trajectory(run).steps():
        with np.load(parts / f"{step}.npz") as part:
            correlations_AxC, floor_C = part["correlations_AxC"], part["floor_C"]
        num_lanes = len(floor_C) // 2
        where = {"step": step, "examples": step * model.training.batch_size}
        for lane in range(num_lanes):
            who = where | {"seed": run.manifest["seeds"][lane], "learning_rate": run.manifest["learning_rates"][lane]}
            values_p_A, values_A = correlations_AxC[:, lane], correlations_AxC[:, num_lanes + lane]
            floors = {"noise_floor_p": floor_C[lane], "noise_floor": floor_C[num_lanes + lane]}
            in_support += [
                who | {"degree": m.degree, "coordinates": " ".join(map(str, m.coordinates)), "with_p": values_p_A[i], "with_2p_minus_1": values_A[i]}
                for i, m in enumerate(monomials)
                if m.in_support
            ]
            for (degree, overlap), members in _strata(monomials).items():
                absolute = np.abs(values_A[members])
                low, high = np.quantile(absolute, [0.05, 0.95])
                spread = {
                    "mean_abs": absolute.mean(),
                    "low": low,
                    "high": high,
                    "max": absolute.max(),
                    "mean_abs_p": np.abs(values_p_A[members]).mean(),
                }
                by_stratum.append(who | {"degree": degree, "overlap": overlap, "count": len(members)} | spread | floors)
    for name, rows in ((IN_SUPPORT, in_support), (BY_STRATUM, by_stratum)):
        write_text(folder / name, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def _strata(monomials: list[Monomial]) -> dict[tuple[int, int], list[int]]:
    strata: dict[tuple[int, int], list[int]] = {}
    for i, monomial in enumerate(monomials):
        strata.setdefault((monomial.degree, monomial.overlap), []).append(i)
    return strata


if __name__ == "__main__":
    run_command(main)
