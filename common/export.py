"""`python -m common.export RUN --step N --out FILE`: a checkpoint as safetensors, with PyTorch's parameter names and layouts."""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro
from safetensors.numpy import save_file

from common.config import parse
from common.errors import UserError, run_command
from common.runs import RunDirectory
from common.torch_names import to_torch
from common.trajectory import Trajectory


@dataclass(frozen=True)
class ExportCommand:
    """Arguments of `python -m common.export`."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory."""
    step: int
    """Which checkpoint, in optimiser updates."""
    out: Path
    """The safetensors file to write."""
    seed_index: int = 0
    """Which lane of the run: seeds in order, and within a seed the learning rates of a sweep."""


def main(args: list[str]) -> None:
    """Parse and export."""
    command = parse(ExportCommand, args, prog="common.export", description="Write a checkpoint with PyTorch's parameter names and layouts.")
    run = RunDirectory(command.run_dir)
    num_lanes = len(run.manifest["seeds"])
    if not 0 <= command.seed_index < num_lanes:
        raise UserError(f"--seed-index {command.seed_index}: {command.run_dir} has lanes 0 to {num_lanes - 1}")
    params = Trajectory(run).restore(command.step)
    lane = jax.tree.map(lambda leaf: leaf[command.seed_index], params)
    if not command.out.absolute().parent.is_dir():
        raise UserError(f"{command.out.absolute().parent} does not exist; create it or choose another --out")
    save_file(to_torch(lane), command.out)
    print(command.out)


if __name__ == "__main__":
    run_command(main)
