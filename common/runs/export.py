"""`python -m common.export RUN --step N --out PATH`: a checkpoint as safetensors, with PyTorch's
parameter names and layouts, by itself or in a folder that Hugging Face's `transformers` opens.

The file's own metadata say where it comes from (experiment, stage, the hash of the run, step, seed,
learning rate), and of a Transformer whether its token embeddings are tied to its last layer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro
from safetensors.numpy import save

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.formats.folder import TOKENIZER
from common.formats.hub import Checkpoint, files_of
from common.formats.torch_names import ties_embeddings, to_torch
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.files import check_replaceable, file_hash, write_bytes, write_folder
from common.runs.trajectory import Trajectory


@dataclass(frozen=True)
class ExportCommand:
    """Arguments of `python -m common.export`."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory."""
    step: int
    """Which checkpoint, in optimiser updates."""
    out: Path
    """The safetensors file to write, or the folder."""
    format: Literal["safetensors", "hf"] = "safetensors"
    """hf: a folder with the weights, `config.json`, a card and the tokeniser, for
    `AutoModelForMaskedLM.from_pretrained` or `AutoModelForCausalLM.from_pretrained`."""
    seed_index: int = 0
    """Which lane of the run: seeds in order, and within a seed the learning rates of a sweep."""
    overwrite: bool = False
    """Replace the file if it is there. A folder is never replaced."""


def main(args: list[str]) -> None:
    """Parse and export."""
    command = parse(
        ExportCommand,
        args,
        prog="common.export",
        description="Write a checkpoint with PyTorch's parameter names and layouts.",
    )
    run = RunDirectory(command.run_dir)
    num_lanes = len(run.manifest["seeds"])
    if not 0 <= command.seed_index < num_lanes:
        raise UserError(
            f"--seed-index {command.seed_index}: {command.run_dir} has lanes 0 to {num_lanes - 1}"
        )
    check_target(command)
    params = jax.tree.map(
        lambda leaf: leaf[command.seed_index], Trajectory(run).restore(command.step)
    )
    known = metadata(run, params, command.step, command.seed_index)
    if command.format == "hf":
        model = run.record["config"]["model"]
        labels = run.record.get("labels")
        files = files_of(Checkpoint(params, model, known, tokenizer_of(run), labels))
        check_target(command)  # again: reading takes a while
        write_folder(command.out, files)
    else:
        data = save(to_torch(params), known)
        check_target(command)
        write_bytes(command.out, data)
    print(command.out)


def tokenizer_of(run: RunDirectory) -> bytes | None:
    """The tokeniser of a run on text, which lies in its corpus or apart; None: the run has none.

    Raises:
        UserError: it is not there any more, or another one is.
    """
    wanted = run.record.get("tokenizer")
    if wanted is None:
        return None
    data = run.record["config"]["data"]
    path = Path(data["tokenizer"] if "tokenizer" in data else data["corpus"])
    path = path / TOKENIZER if path.is_dir() else path
    if not path.is_file() or file_hash(path) != wanted:
        raise UserError(
            f"{path} is not the tokeniser that {run.path} was trained with ({wanted[:12]}); put it"
            " back as it was"
        )
    return path.read_bytes()


def check_target(command: ExportCommand) -> None:
    """Refuse a file or folder that cannot be written, or is there already.

    Raises:
        UserError: it lies in no folder; or it is a folder, or there and not to be overwritten.
    """
    out = command.out
    if not out.absolute().parent.is_dir():
        raise UserError(
            f"{out.absolute().parent} does not exist; create it or choose another --out"
        )
    if command.format == "hf":
        if out.exists():
            raise UserError(f"{out} is there already; choose another --out for the folder")
        return
    check_replaceable(out)
    if out.exists() and not command.overwrite:
        raise UserError(f"{out} is there already; choose another --out, or give --overwrite")


def metadata(run: RunDirectory, params: Params, step: int, lane: int) -> dict[str, str]:
    """What a file says of itself; `format` and `tie_word_embeddings` are Hugging Face's names."""
    known = {
        "format": "pt",
        "experiment": run.record["experiment"],
        "stage": run.record["stage"],
        "run": run.hash,
        "step": str(step),
        "seed": str(run.manifest["seeds"][lane]),
        "learning_rate": repr(run.manifest["learning_rates"][lane]),
    }
    ties = ties_embeddings(params)
    return known if ties is None else known | {"tie_word_embeddings": str(ties).lower()}


if __name__ == "__main__":
    run_command(main)
