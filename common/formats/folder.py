"""A model's folder as Hugging Face's libraries write it: `config.json`, and tensors in safetensors
files. Pickles (`pytorch_model.bin`) are never read: to open one runs the code in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from common.base.errors import UserError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
WEIGHTS_FILES = "*.safetensors"
"""All files of weights, by a pattern."""
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
AGAIN = "get it again from where it is from"


@dataclass(frozen=True)
class ModelFolder:
    """What lies in a folder."""

    path: Path
    config: Mapping[str, Any]
    """Of `config.json`."""
    tensors: Mapping[str, np.ndarray]
    """All of them, in float32, whatever they are in the files."""


def open_folder(path: Path) -> ModelFolder:
    """Read a model's folder.

    Raises:
        UserError: it is no such folder; or a file of it is missing or damaged, or is a pickle; the
            message names it.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder; give the folder of a model, with {CONFIG} in it")
    config = _object(path / CONFIG)
    return ModelFolder(path, config, _tensors_of(path))


def _object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; a model's folder has it, written by `save_pretrained`"
        ) from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path} is damaged ({error}); {AGAIN}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object; {AGAIN}")
    return values


def has_weights(path: Path) -> bool:
    """Whether a folder has weights that can be read."""
    return (path / WEIGHTS).is_file() or (path / INDEX).is_file()


def has_pickle(path: Path) -> bool:
    """Whether a folder has weights as a pickle."""
    return any((path / name).is_file() for name in PICKLES)


def conversion(path: Path) -> str:
    """What to do about weights that are a pickle, to be read after the folder's name."""
    return (
        "has its weights as a pickle, which is not opened here, because to open one runs the code"
        " in it; make a safetensors file of it, where you trust it:\n"
        f'  weights = torch.load("{path / PICKLES[0]}", weights_only=True)\n'
        f"  safetensors.torch.save_file({{name: w.clone() for name, w in weights.items()}},"
        f' "{path / WEIGHTS}")'
    )


def _tensors_of(path: Path) -> dict[str, np.ndarray]:
    if (path / WEIGHTS).is_file():
        return _read(path / WEIGHTS)
    if (path / INDEX).is_file():
        return _sharded(path)
    if has_pickle(path):
        raise UserError(f"{path} {conversion(path)}")
    raise UserError(f"{path} has no weights: neither {WEIGHTS} nor {INDEX}")


def _sharded(path: Path) -> dict[str, np.ndarray]:
    """The tensors of several files, which the index names."""
    file_of = _object(path / INDEX).get("weight_map")
    if not isinstance(file_of, dict):
        raise UserError(f"{path / INDEX} says of no tensor where it is (weight_map)")
    shards = sorted(set(file_of.values()))
    if missing := [name for name in shards if not (path / name).is_file()]:
        raise UserError(
            f"{path} lacks {', '.join(missing)}, which {INDEX} names; get the whole folder"
        )
    tensors: dict[str, np.ndarray] = {}
    for name in shards:
        tensors |= _read(path / name)
    if absent := sorted(file_of.keys() - tensors.keys()):
        raise UserError(
            f"{path}: none of its files has the tensor {absent[0]}, which {INDEX} names"
        )
    return tensors


def _read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one file. JAX reads them, because numpy has no bfloat16."""
    try:
        with safe_open(path, "flax") as file:
            names = list(file.keys())
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut off ({error}); {AGAIN}") from None
