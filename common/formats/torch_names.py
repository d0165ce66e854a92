"""Parameters under the names and in the layouts of PyTorch models, and back.

Each architecture has one table: where in our parameters a tensor of theirs lies. Writing and
reading are the two directions of it.

M is the width of a model.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import jax
import numpy as np

from common.nn.functional import Params

Architecture = Literal["mlp", "bert", "gpt2", "gpt-neox"]

BERT_POSITIONS = 512
WORDS, PLACES, TYPES = (
    f"bert.embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")
)
NARROW, WIDEN = "bert.embeddings.word_embeddings.narrow", "bert.embeddings.word_embeddings.widen"
"""Of vectors of tokens that a linear layer brings to the width: names of our own."""
BERT_HEAD = "cls.predictions"
CLASSIFIER = "classifier"
DECODER, DECODER_BIAS = (f"{BERT_HEAD}.decoder.{part}" for part in ("weight", "bias"))
COPIES: Mapping[str, str] = {DECODER: WORDS, DECODER_BIAS: f"{BERT_HEAD}.bias"}
"""Tensors of BERT that repeat others, the first one where its head is tied."""


class Place(NamedTuple):
    """Where a tensor of theirs lies in our parameters."""

    path: tuple[str, ...]
    """Of our leaf."""
    is_transposed: bool = False
    """Linear layers are `(in, out)` here and `(out, in)` in PyTorch."""
    third: int | None = None
    """Which third of our leaf's last axis it is; None: all of it."""


Places = dict[str, Place]
"""By their names."""


def to_torch(params: Params) -> dict[str, np.ndarray]:
    """The parameters of any of our models under PyTorch's names and in its layouts."""
    architecture = architecture_of(params)
    params = _with_whole_table(params)
    tensors = written(params, places_of(architecture, params))
    if architecture == "bert":
        tensors = _as_bert_has_them(tensors)
    return tensors


def architecture_of(params: Params) -> Architecture:
    """Which of our models has these parameters, told by the names of its parts."""
    if "blocks" not in params:
        return "mlp"
    if "norm_first" in params:
        return "bert"
    return "gpt2" if "position" in params else "gpt-neox"


def ties_embeddings(params: Params) -> bool | None:
    """Whether the token embeddings are the last layer's weights too, which Hugging Face's
    configuration must say; None: there are none."""
    architecture = architecture_of(params)
    if architecture == "mlp":
        return None
    return architecture == "bert" and "output" not in params


def places_of(architecture: Architecture, params: Params) -> Places:
    """The table of a model.

    Args:
        architecture: which it is.
        params: its parameters, or anything else of their structure.
    """
    if architecture == "mlp":
        return mlp_places()
    if architecture == "bert":
        return bert_places(params)
    blocks = params["blocks"]
    return gpt2_places(blocks) if architecture == "gpt2" else neox_places(blocks)


def mlp_places() -> Places:
    """Of the MLP, which is `torch.nn.Sequential(Linear, ReLU, Linear)`."""
    return linears({"0": ("hidden",), "2": ("output",)})


def bert_places(params: Params) -> Places:
    """Of BERT, as Hugging Face's `BertForMaskedLM` or `BertForSequenceClassification`. Types,
    places and an output of its own are only in the table of a model that has them."""
    embedded = {"token": WORDS, "position": PLACES, "token_type": TYPES, "output": DECODER}
    places = {
        theirs: Place((ours, "embedding")) for ours, theirs in embedded.items() if ours in params
    }
    if "narrow" in params["token"]:
        del places[WORDS]
        places[f"{NARROW}.weight"] = Place(("token", "narrow", "embedding"))
        places |= linears({WIDEN: ("token", "widen")})
    places |= norms({"bert.embeddings.LayerNorm": ("norm_first",)})
    if "head" in params:
        places |= norms({f"{BERT_HEAD}.transform.LayerNorm": ("head", "norm")})
        places |= linears({f"{BERT_HEAD}.transform.dense": ("head", "transform")})
        places[f"{BERT_HEAD}.bias"] = Place(("head", "bias"))
    if "classifier" in params:
        places |= linears({"bert.pooler.dense": ("pooler",), CLASSIFIER: ("classifier",)})
    for i in params["blocks"]:
        theirs, ours = f"bert.encoder.layer.{i}", ("blocks", i)
        places |= norms(
            {
                f"{theirs}.attention.output.LayerNorm": (*ours, "norm_attention"),
                f"{theirs}.output.LayerNorm": (*ours, "norm_mlp"),
            }
        )
        places |= linears(
            {
                f"{theirs}.attention.output.dense": (*ours, "attention_output"),
                f"{theirs}.intermediate.dense": (*ours, "mlp_hidden"),
                f"{theirs}.output.dense": (*ours, "mlp_output"),
            }
        )
        of_all = (*ours, "query_key_value")
        for third, part in enumerate(("query", "key", "value")):
            places |= linears({f"{theirs}.attention.self.{part}": of_all}, third)
    return places


def gpt2_places(blocks: Iterable[str]) -> Places:
    """Of GPT-2, as Hugging Face's `GPT2LMHeadModel` with a head of its own.

    Args:
        blocks: their numbers. Their linear layers keep our layout, which is that of GPT-2's
            `Conv1D`.
    """
    places = {
        "transformer.wte.weight": Place(("token", "embedding")),
        "transformer.wpe.weight": Place(("position", "embedding")),
        "lm_head.weight": Place(("head", "kernel"), is_transposed=True),
    }
    places |= norms({"transformer.ln_f": ("norm_last",)})
    for i in blocks:
        theirs, ours = f"transformer.h.{i}", ("blocks", i)
        places |= norms(
            {
                f"{theirs}.ln_1": (*ours, "norm_attention"),
                f"{theirs}.ln_2": (*ours, "norm_mlp"),
            }
        )
        layers = {
            "attn.c_attn": "query_key_value",
            "attn.c_proj": "attention_output",
            "mlp.c_fc": "mlp_hidden",
            "mlp.c_proj": "mlp_output",
        }
        for name, layer in layers.items():
            places[f"{theirs}.{name}.weight"] = Place((*ours, layer, "kernel"))
            places[f"{theirs}.{name}.bias"] = Place((*ours, layer, "bias"))
    return places


def neox_places(blocks: Iterable[str]) -> Places:
    """Of GPT-NeoX, as Hugging Face's `GPTNeoXForCausalLM` with a head of its own.

    Args:
        blocks: their numbers. Queries, keys and values lie head by head here and there.
    """
    places = {
        "gpt_neox.embed_in.weight": Place(("token", "embedding")),
        "embed_out.weight": Place(("head", "kernel"), is_transposed=True),
    }
    places |= norms({"gpt_neox.final_layer_norm": ("norm_last",)})
    for i in blocks:
        theirs, ours = f"gpt_neox.layers.{i}", ("blocks", i)
        places |= norms(
            {
                f"{theirs}.input_layernorm": (*ours, "norm_attention"),
                f"{theirs}.post_attention_layernorm": (*ours, "norm_mlp"),
            }
        )
        places |= linears(
            {
                f"{theirs}.attention.query_key_value": (*ours, "query_key_value"),
                f"{theirs}.attention.dense": (*ours, "attention_output"),
                f"{theirs}.mlp.dense_h_to_4h": (*ours, "mlp_hidden"),
                f"{theirs}.mlp.dense_4h_to_h": (*ours, "mlp_output"),
            }
        )
    return places


def linears(path_of: Mapping[str, tuple[str, ...]], third: int | None = None) -> Places:
    """Weight and bias of linear layers, by their names there."""
    places = {}
    for name, path in path_of.items():
        places[f"{name}.weight"] = Place((*path, "kernel"), is_transposed=True, third=third)
        places[f"{name}.bias"] = Place((*path, "bias"), third=third)
    return places


def norms(path_of: Mapping[str, tuple[str, ...]]) -> Places:
    """Scale and bias of normalisations, by their names there."""
    places = {}
    for name, path in path_of.items():
        places[f"{name}.weight"] = Place((*path, "scale"))
        places[f"{name}.bias"] = Place((*path, "bias"))
    return places


def written(params: Params, places: Places) -> dict[str, np.ndarray]:
    """Our parameters as tensors of theirs."""
    tensors = {}
    for name, place in places.items():
        tensor = _of_third(leaf_of(params, place.path), place.third)
        tensors[name] = np.ascontiguousarray(tensor.T if place.is_transposed else tensor)
    return tensors


def read(tensors: Mapping[str, np.ndarray], places: Places, template: Params) -> Params:
    """Tensors of theirs as our parameters.

    Args:
        tensors: all that the table names, of the shapes that `their_shape` says.
        places: the table.
        template: parameters of the model; what the table does not name stays as it is there.
    """
    params = jax.tree.map(np.array, template)
    for name, place in places.items():
        tensor = tensors[name]
        target = _of_third(leaf_of(params, place.path), place.third)
        target[...] = tensor.T if place.is_transposed else tensor
    return params


def their_shape(template: Params, place: Place) -> tuple[int, ...]:
    """The shape that a tensor has there.

    Args:
        template: parameters of the model, or their shapes.
        place: of the tensor.
    """
    *leading, last = leaf_of(template, place.path).shape
    shape = (*leading, last if place.third is None else last // 3)
    return shape[::-1] if place.is_transposed else shape


def leaf_of(params: Params, path: Iterable[str]) -> np.ndarray:
    """A leaf of nested parameters."""
    found = params
    for key in path:
        found = found[key]
    return found  # pyright: ignore[reportReturnType]


def _of_third(leaf: np.ndarray, third: int | None) -> np.ndarray:
    if third is None:
        return np.asarray(leaf)
    size = leaf.shape[-1] // 3
    return np.asarray(leaf)[..., third * size : (third + 1) * size]


def _with_whole_table(params: Params) -> Params:
    """Parameters with the table that narrow vectors of tokens and their layer stand for
    (`common.nn.blocks.NarrowEmbed`), which PyTorch's models have."""
    token = params.get("token", {})
    if "narrow" not in token:
        return params
    widen = token["widen"]
    table = np.asarray(token["narrow"]["embedding"]) @ widen["kernel"] + widen["bias"]
    return params | {"token": {"embedding": table}}


def _as_bert_has_them(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors that BERT always has: without types, one that is zero, and without places, as
    many as BERT has that are; and the copies of its head."""
    width = tensors[WORDS].shape[1]
    absent = {
        PLACES: np.zeros((BERT_POSITIONS, width), np.float32),
        TYPES: np.zeros((1, width), np.float32),
    }
    whole = absent | tensors
    if COPIES[DECODER_BIAS] not in tensors:
        return whole
    return {copy: whole[original] for copy, original in COPIES.items()} | whole
