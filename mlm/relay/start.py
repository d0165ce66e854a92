"""Weights that a classifier begins with in place of random ones: those of a run of this laboratory,
or of a model of others."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.formats.fetch import folder_of
from common.formats.folder import CONFIG, open_folder
from common.formats.foreign import read_model
from common.nn.functional import Params
from common.runs.directory import finished_run
from common.runs.files import file_hash
from common.runs.trajectory import Trajectory
from mlm.loaded import their_ids, weights_hash
from mlm.relay.model import HEADS
from mlm.vocabulary import ids_of


@configuration
class StartConfig:
    """Where the weights of a model come from."""

    model: str | None = None
    """A run of python -m mlm.train, or a BERT as transformers saves it: its folder, or hub:NAME.
    None: weights are random."""
    step: PositiveInt | None = None
    """Of a run: which checkpoint; None: the last. Of several seeds the first is taken."""


class Start(NamedTuple):
    """Weights as they are now."""

    path: Path
    step: int | None
    """Of a run; None: the path is a folder of transformers'."""
    hash: str


def start_of(config: StartConfig) -> Start | None:
    """The weights that are asked for; None: random ones.

    Raises:
        UserError: they are not there, or are of no finished run.
    """
    if config.model is None:
        return None
    path = folder_of(config.model)
    if (path / "manifest.json").is_file():
        run = finished_run(path)
        step = Trajectory(run).steps()[-1] if config.step is None else config.step
        saved = run.manifest["checkpoints"]
        if str(step) not in saved:
            raise UserError(f"--start.step {step}: {path} has no such checkpoint")
        return Start(path, step, saved[str(step)])
    if config.step is not None:
        raise UserError(f"--start.step: {path} is no run, and has one set of weights")
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} is neither a run nor a folder of transformers with {CONFIG}")
    return Start(path, None, weights_hash(path))


def refuse_other_tokenizer(start: Start, tokenizer: Path) -> None:
    """Raise a UserError unless weights are of a model with this tokeniser, where they tell."""
    if start.step is None:
        theirs = their_ids(start.path)
        is_other = theirs is not None and theirs != ids_of(tokenizer)
    else:
        is_other = finished_run(start.path).record.get("tokenizer") != file_hash(tokenizer)
    if is_other:
        raise UserError(
            f"{start.path} was trained with another tokeniser than {tokenizer}, so that the same"
            " ids are other word pieces; give its own as --data.tokenizer"
        )


@functools.lru_cache(maxsize=1)
def weights_of(start: Start) -> Params:
    """All of them, as numpy arrays."""
    if start.step is None:
        return read_model(open_folder(start.path)).params
    restored = Trajectory(finished_run(start.path)).restore(start.step)
    return jax.tree.map(lambda leaf: leaf[0], restored)


def body_of(weights: Params, model: Mapping[str, Any], start: Start) -> Params:
    """Those that a classifier takes over: all but heads.

    Args:
        weights: all.
        model: parameters of the classifier, or their shapes.
        start: where they are from, for the message.

    Raises:
        UserError: they are of a model of another shape.
    """
    body = {name: weights[name] for name in model if name in weights}
    shapes = jax.tree.map(lambda leaf: leaf.shape, body)
    wanted = {name: jax.tree.map(lambda leaf: leaf.shape, model[name]) for name in body}
    missing = sorted(model.keys() - body.keys() - HEADS)
    if missing or shapes != wanted:
        what = f"it has no {missing[0]}" if missing else f"its token vectors are {size_of(weights)}"
        raise UserError(
            f"{start.path} is a model of another shape than --model.* says ({what}, here"
            f" {size_of(model)}); give both the same --model.layers, --model.heads,"
            " --model.head-size, --model.token-size, --model.token-types and --model.positions"
        )
    return body


def size_of(weights: Mapping[str, Any]) -> str:
    """The shape of the token vectors, in words."""
    (table, *_) = jax.tree.leaves(weights["token"])
    return " x ".join(map(str, table.shape))
