"""Weights that a classifier begins with in place of random ones: those of a run of this laboratory,
or of a model of others."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from common.base.config import PositiveInt, configuration, to_dict
from common.base.errors import UserError
from common.formats.fetch import folder_of
from common.formats.folder import CONFIG, open_folder
from common.formats.foreign import read_model
from common.nn.functional import Params
from common.runs.directory import finished_run
from common.runs.files import file_hash
from common.runs.trajectory import Trajectory
from mlm.loaded import their_ids, weights_hash
from mlm.relay.model import HEADS, ClassifierModel
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


class Encoder(NamedTuple):
    """A trained encoder, perhaps with a head."""

    shape: dict[str, Any]
    """What a classifier must have in common with it, by the names of its configuration."""
    params: Params


@functools.lru_cache(maxsize=1)
def encoder_of(start: Start) -> Encoder:
    """The model that weights are of, as numpy arrays."""
    if start.step is None:
        model = read_model(open_folder(start.path))
        return Encoder(_shape_of(to_dict(model.config)), model.params)
    run = finished_run(start.path)
    restored = Trajectory(run).restore(start.step)
    params = jax.tree.map(lambda leaf: leaf[0], restored)
    return Encoder(_shape_of(run.record["config"]["model"]), params)


def body_of(encoder: Encoder, config: ClassifierModel, model: Params, start: Start) -> Params:
    """What a classifier takes over of an encoder: all but heads.

    Args:
        encoder: whose.
        config: of the classifier.
        model: its parameters, or their shapes.
        start: where the encoder is from, for the message.

    Raises:
        UserError: it is a model of another shape.
    """
    ours = _shape_of(to_dict(config))
    different = [name for name, value in encoder.shape.items() if value != ours[name]]
    if different:
        told = ", ".join(f"--model.{_dashed(name)} {encoder.shape[name]}" for name in different)
        raise UserError(f"{start.path} is a model of another shape; it has {told}")
    body = {name: part for name, part in model.items() if name not in HEADS}
    for name, part in body.items():
        theirs, own = (_shapes(encoder.params.get(name)), _shapes(part))
        if theirs != own:
            raise UserError(
                f"{start.path} has other {PARTS.get(name, name)} than this classifier"
                f" ({_first(theirs)}, here {_first(own)}); give --model.positions and"
                " --data.tokenizer as it has them"
            )
    return {name: encoder.params[name] for name in body}


PARTS = {"token": "vectors of tokens", "position": "vectors of places"}
_SHAPE = ("heads", "head_size", "layers", "token_types", "token_size")


def _shape_of(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: model.get(name) for name in _SHAPE}


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _shapes(part: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, part)


def _first(shapes: Any) -> str:
    leaves = jax.tree.leaves(shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return " x ".join(map(str, leaves[0])) if leaves else "none"
