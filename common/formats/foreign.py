"""Models of others as ours: BERT, GPT-2 and GPT-NeoX in Hugging Face's folders.

Every tensor of a folder is accounted for: one that the model needs and that is missing, or of
another shape, is refused by name; one that it has no place for is listed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from common.base.errors import UserError
from common.formats.folder import CONFIG, ModelFolder
from common.formats.torch_names import (
    BERT_HEAD,
    CLASSIFIER,
    COPIES,
    DECODER,
    DECODER_BIAS,
    NARROW,
    PLACES,
    TYPES,
    WIDEN,
    WORDS,
    Places,
    architecture_of,
    places_of,
    read,
    their_shape,
)
from common.nn import bert, gpt2, neox
from common.nn.bert import BERTConfig, functional_bert, functional_classifier
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2
from common.nn.neox import NeoXConfig, functional_neox

Kind = Literal["masked", "causal", "classifier", "encoder"]
ForeignConfig = BERTConfig | GPT2Config | NeoXConfig
Tensors = Mapping[str, np.ndarray]

_OLD = {".gamma": ".weight", ".beta": ".bias"}
"""How names end in old files, and what they mean."""
_NO_WEIGHT = re.compile(
    r"\.position_ids$|\.(attn|attention)\.(masked_)?bias$|\.rotary_emb\.inv_freq$"
)
"""Tensors that follow from the configuration, which old files have too."""


@dataclass(frozen=True)
class ForeignModel:
    """A model of others, with its weights."""

    config: ForeignConfig
    vocabulary: int
    """Number of tokens."""
    positions: int
    """The longest sequence that it was made for."""
    functional: Functional
    params: Params
    unused: tuple[str, ...]
    """Tensors of the folder that the model has no place for."""
    kind: Kind
    """masked, causal: it predicts tokens. classifier: classes of sequences. encoder: nothing, and
    its head is untrained."""


def read_model(folder: ModelFolder) -> ForeignModel:
    """A folder's model as ours.

    Raises:
        UserError: its architecture is another, or differs from ours in something; or a tensor is
            missing or of another shape.
    """
    values = _Values(folder)
    reader = _reader_of(folder)
    named = {
        _name_today(name, reader): tensor
        for name, tensor in folder.tensors.items()
        if not _NO_WEIGHT.search(name)
    }
    model = reader.read(values, named)
    untrained = model.functional.init(jax.random.key(0))
    places = places_of(architecture_of(untrained), untrained)
    if model.kind == "encoder":
        places = {name: at for name, at in places.items() if not name.startswith(BERT_HEAD)}
    _check(model.tensors, places, untrained, folder)
    params = read(model.tensors, places, untrained)
    unused = sorted({*model.overruled} | model.tensors.keys() - places.keys() - COPIES.keys())
    return ForeignModel(
        model.config,
        values.size("vocab_size"),
        values.positions,
        model.functional,
        params,
        tuple(unused),
        model.kind,
    )


class _Values:
    """The values of a `config.json`."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder, self.path = folder.path, folder.path / CONFIG
        self.values = folder.config

    def size(self, name: str) -> int:
        """A positive number that must be there."""
        value = self.values.get(name)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{self.path}: {name} = {value!r}; it must be a positive number")
        return value

    def width_and_heads(self, width: str, heads: str) -> tuple[int, int]:
        """Both, by their names."""
        sizes = self.size(width), self.size(heads)
        if sizes[0] % sizes[1]:
            raise UserError(
                f"{self.path}: a width of {sizes[0]} cannot be divided by {sizes[1]} heads"
            )
        return sizes

    def refuse_other(self, name: str, *known: Any) -> None:
        """Refuse a value that our models do not have; one that is not there is the first of
        these."""
        value = self.values.get(name, known[0])
        if value not in known:
            raise UserError(
                f"{self.path}: {name} = {value!r}; what is read here has"
                f" {' or '.join(map(repr, known))}"
            )

    @property
    def positions(self) -> int:
        """The longest sequence, which GPT-2 calls otherwise."""
        is_gpt2 = "n_positions" in self.values
        return self.size("n_positions" if is_gpt2 else "max_position_embeddings")


class _Model(NamedTuple):
    """What a reader makes of a folder."""

    config: ForeignConfig
    kind: Kind
    functional: Functional
    tensors: Tensors
    """With those that a file may leave out."""
    overruled: tuple[str, ...] = ()
    """Tensors of the file in whose place others are used."""


class _Reader(NamedTuple):
    """How the folders of one architecture are read."""

    read: Callable[[_Values, Tensors], _Model]
    prefix: str
    """Of the names in whole models."""
    bare: str
    """What the names of an encoder by itself, which have no prefix, match."""


def _read_bert(values: _Values, tensors: Tensors, token_size: int | None = None) -> _Model:
    width, heads = values.width_and_heads("hidden_size", "num_attention_heads")
    values.refuse_other("intermediate_size", 4 * width)
    values.refuse_other("hidden_act", "gelu")
    values.refuse_other("layer_norm_eps", bert.EPSILON)
    values.refuse_other("position_embedding_type", "absolute", None)
    values.refuse_other("is_decoder", False)
    # Tied or not as the file says, whatever the configuration does.
    is_tied = DECODER not in tensors or np.array_equal(tensors[DECODER], tensors.get(WORDS, 0))
    num_types, num_places = values.size("type_vocab_size"), values.positions
    # One type, or places, that are all zero: our models that have none are exported like that.
    has_types = num_types > 1 or np.any(tensors.get(TYPES, 1))
    has_places = bool(np.any(tensors.get(PLACES, 1)))
    absent = {name for name, is_there in ((TYPES, has_types), (PLACES, has_places)) if not is_there}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in absent}
    config = BERTConfig(
        heads,
        width // heads,
        values.size("num_hidden_layers"),
        token_types=num_types if has_types else None,
        tied=is_tied,
        token_size=token_size,
    )
    length, vocabulary = num_places if has_places else None, values.size("vocab_size")
    if f"{CLASSIFIER}.weight" in tensors:
        num_classes = len(tensors[f"{CLASSIFIER}.weight"])
        functional = functional_classifier(config, vocabulary, length, num_classes)
        return _Model(config, "classifier", functional, tensors)
    functional = functional_bert(config, vocabulary, length)
    if not any(name.startswith(BERT_HEAD) for name in tensors):
        return _Model(config, "encoder", functional, tensors)
    # The head's bias has two names. Where both are in a file and differ, the decoder's is added.
    bias = COPIES[DECODER_BIAS]
    if DECODER_BIAS not in tensors:
        return _Model(config, "masked", functional, tensors)
    of_decoder = tensors[DECODER_BIAS]
    is_other = not np.array_equal(of_decoder, tensors.get(bias, of_decoder))
    overruled = (bias,) if is_other else ()
    return _Model(config, "masked", functional, {**tensors, bias: of_decoder}, overruled)


def _read_bert_hash(values: _Values, tensors: Tensors) -> _Model:
    """BERT with few units for each token, which a linear layer brings to the width. These tensors
    have the names that its makers' code gives them; here they are told apart by their shapes."""
    vocabulary, width = values.size("vocab_size"), values.size("hidden_size")
    size = values.size("projections")
    weights, biases = f"{NARROW}.weight", f"{WIDEN}.bias"
    shapes = {(vocabulary, size): weights, (width, size): f"{WIDEN}.weight", (width,): biases}
    named = {biases: np.zeros(width, np.float32)}
    for name, tensor in tensors.items():
        of_words = name.startswith(WORDS.removesuffix("weight"))
        named[shapes.get(tensor.shape, name) if of_words else name] = tensor
    return _read_bert(values, named, size)


def _read_gpt2(values: _Values, tensors: Tensors) -> _Model:
    width, heads = values.width_and_heads("n_embd", "n_head")
    values.refuse_other("n_inner", None, 4 * width)
    values.refuse_other("activation_function", "gelu_new", "gelu_pytorch_tanh")
    values.refuse_other("layer_norm_epsilon", gpt2.EPSILON)
    values.refuse_other("scale_attn_weights", True)
    config = GPT2Config(heads, width // heads, values.size("n_layer"))
    vocabulary = values.size("vocab_size")
    functional = functional_gpt2(config, vocabulary, values.positions, vocabulary)
    head, words = "lm_head.weight", "transformer.wte.weight"
    # The published models tie their head to the embeddings, and their files have no head.
    if head not in tensors and words in tensors and values.values.get("tie_word_embeddings", True):
        tensors = {**tensors, head: tensors[words]}
    if values.values.get("scale_attn_by_inverse_layer_idx"):
        tensors = {**tensors, **_scaled_queries(tensors, config)}
    return _Model(config, "causal", functional, tensors)


def _scaled_queries(tensors: Tensors, config: GPT2Config) -> dict[str, np.ndarray]:
    """Attention that divides the scores of layer i by i + 1, as Mistral's GPT-2 does: by weights of
    the queries that are so much smaller."""
    scaled = {}
    for layer in range(config.layers):
        for part in ("weight", "bias"):
            name = f"transformer.h.{layer}.attn.c_attn.{part}"
            if name in tensors:
                scaled[name] = np.array(tensors[name])
                scaled[name][..., : config.width] /= layer + 1
    return scaled


def _read_neox(values: _Values, tensors: Tensors) -> _Model:
    width, heads = values.width_and_heads("hidden_size", "num_attention_heads")
    values.refuse_other("intermediate_size", 4 * width)
    values.refuse_other("hidden_act", "gelu")
    values.refuse_other("layer_norm_eps", neox.EPSILON)
    values.refuse_other("attention_bias", True)
    rope = values.values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(
            f"{values.path}: rotary positions of type {rope['rope_type']!r}; what is read here has"
            " the default ones"
        )
    scaling = values.values.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise UserError(f"{values.path}: rope_scaling = {scaling}; what is read here has none")
    rotary = rope.get("partial_rotary_factor", values.values.get("rotary_pct", 0.25))
    if int(rotary * (width // heads)) % 2:
        raise UserError(
            f"{values.path}: {rotary:g} of heads of {width // heads} are rotated, an odd number of"
            " units; they are rotated in pairs"
        )
    config = NeoXConfig(
        heads,
        width // heads,
        values.size("num_hidden_layers"),
        rotary=rotary,
        rotary_base=rope.get("rope_theta", values.values.get("rotary_emb_base", 10_000.0)),
        parallel=values.values.get("use_parallel_residual", True),
    )
    head, words = "embed_out.weight", "gpt_neox.embed_in.weight"
    if head not in tensors and words in tensors and values.values.get("tie_word_embeddings"):
        tensors = {**tensors, head: tensors[words]}
    functional = functional_neox(config, values.size("vocab_size"))
    return _Model(config, "causal", functional, tensors)


_BARE_BERT = r"(embeddings|encoder|pooler)\."
_READERS: Mapping[str, _Reader] = {
    "bert": _Reader(_read_bert, "bert.", _BARE_BERT),
    "bert_hash": _Reader(_read_bert_hash, "bert.", _BARE_BERT),
    "gpt2": _Reader(_read_gpt2, "transformer.", r"(wte|wpe|h|ln_f)\."),
    "gpt_neox": _Reader(_read_neox, "gpt_neox.", r"(embed_in|layers|final_layer_norm)\."),
}
"""By the `model_type` of their configurations."""


def _reader_of(folder: ModelFolder) -> _Reader:
    model_type = str(folder.config.get("model_type"))
    if model_type not in _READERS:
        named = ", ".join(folder.config.get("architectures") or ()) or "no architecture is named"
        raise UserError(
            f"{folder.path} holds a model of type {model_type} ({named}); what is read here:"
            f" {', '.join(_READERS)}"
        )
    return _READERS[model_type]


def _name_today(name: str, reader: _Reader) -> str:
    """A tensor's name in today's whole models."""
    for old, new in _OLD.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return f"{reader.prefix}{name}" if re.match(reader.bare, name) else name


def _check(tensors: Tensors, places: Places, template: Params, folder: ModelFolder) -> None:
    """Raise a UserError unless all that a model needs is there."""
    if missing := sorted(places.keys() - tensors.keys()):
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(
            f"{folder.path} lacks the tensor {missing[0]}{more}, which its {CONFIG} asks for"
        )
    for name, place in places.items():
        expected, found = their_shape(template, place), tensors[name].shape
        if found != expected:
            raise UserError(
                f"{folder.path}: the tensor {name} is of shape {found}; by its {CONFIG} it is of"
                f" {expected}"
            )
