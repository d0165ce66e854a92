"""The models of text: BERT, and references that see less of a row than it does.

A bag of words is BERT without places. A window is BERT on the n tokens
around each position that it is asked about, and on nothing else: they are cut out of the masked
row, so that however many layers there are, none sees what lies outside.

Shapes: B rows of T tokens; P positions of each are asked about, with N tokens in the window around
each.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.nn.bert import BERT, BERTConfig, bert_flops, functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, functional
from common.sequence.ngram import window


@configuration
class TextModel(BERTConfig):
    """BERT over the word pieces of text."""

    positions: PositiveInt | None = None
    """Learned positions (BERT's: 512); None: as many as a row has tokens."""
    ordered: bool = True
    """Whether it knows where a token stands; False: a row is a bag of words to it."""
    window: PositiveInt | None = None
    """Of a row, a prediction sees so many tokens around its own position, and nothing else; None:
    all of it."""

    def __post_init__(self) -> None:
        if self.window is not None and self.positions is not None:
            raise ValueError(
                f"model.window = {self.window}: it has so many positions; leave out model.positions"
            )
        if not self.ordered and (self.window or self.positions):
            raise ValueError(
                "model.ordered = False: a bag of words has no positions; leave out model.window and"
                " model.positions"
            )

    @property
    def is_of_one_length(self) -> bool:
        """Whether it can read rows of the length alone that it was trained on."""
        return self.ordered and self.positions is None and self.window is None


def model_of(config: TextModel, vocabulary: int, length: int) -> Functional:
    """A model of rows of text; `apply` takes `TokenInputs` to logits `(B, P, V)`.

    Raises:
        UserError: rows have more tokens than it has positions.
    """
    if config.window is not None:
        return functional_window(config, vocabulary, config.window)
    if not config.ordered:
        return functional_bert(config, vocabulary, None)
    if config.positions is not None and config.positions < length:
        raise UserError(
            f"--model.positions {config.positions}: rows have {length} tokens, [CLS] and [SEP]"
            " among them (--data.length); give at least as many, or None"
        )
    return functional_bert(config, vocabulary, config.positions or length)


def model_flops(config: TextModel, vocabulary: int, length: int, num_asked: int) -> float:
    """Operations of the products in one forward pass of one row."""
    if config.window is None:
        return bert_flops(config, vocabulary, length, num_asked)
    return num_asked * bert_flops(config, vocabulary, config.window, 1)


@functools.cache
def functional_window(config: BERTConfig, vocabulary: int, n: int) -> Functional:
    """BERT on windows of n tokens; `apply` takes rows to logits `(B, P, V)`."""
    own = -window(n)[0]

    def logits(model: BERT, rows: TokenInputs, rngs: nnx.Rngs | None) -> jax.Array:
        windows = windows_of(rows, n)
        num_windows = len(windows.tokens_BxT)
        at_own = jnp.full((num_windows, 1), own)
        logits_BPx1xV = model(windows._replace(at_BxP=at_own), rngs=rngs)
        return logits_BPx1xV.reshape(len(rows.tokens_BxT), -1, vocabulary)

    def activations(model: BERT, rows: TokenInputs, layer: int) -> jax.Array:
        hidden_BPxNxM = model.activations(windows_of(rows._replace(at_BxP=None), n), layer)
        return hidden_BPxNxM[:, own].reshape(*rows.tokens_BxT.shape, -1)

    return functional(
        lambda rngs: BERT(config, vocabulary, n, rngs=rngs), logits, activations, config.layers
    )


def windows_of(rows: TokenInputs, n: int) -> TokenInputs:
    """The n tokens around every position that is asked about, each window as a row of its own
    `(B * P, N)`. Where a window reaches beyond its row, nothing is to be seen."""
    tokens_BxT, length = rows.tokens_BxT, rows.tokens_BxT.shape[1]
    at_BxP = rows.at_BxP
    if at_BxP is None:
        at_BxP = jnp.broadcast_to(jnp.arange(length), tokens_BxT.shape)
    first, last = window(n)
    offset_N = jnp.arange(first, last + 1)
    place_BxPxN = at_BxP[..., None] + offset_N[None, None]
    is_inside_BxPxN = (place_BxPxN >= 0) & (place_BxPxN < length)
    place_BxPN = jnp.clip(place_BxPxN, 0, length - 1).reshape(len(tokens_BxT), -1)

    def at_places(values_BxT: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values_BxT, place_BxPN, axis=1).reshape(-1, n)

    visible_BPxN = is_inside_BxPxN.reshape(-1, n)
    if rows.visible_BxT is not None:
        visible_BPxN &= at_places(rows.visible_BxT)
    # A position sees itself: of nothing at all attention would have no mean.
    visible_BPxN |= (offset_N == 0)[None]
    types_BPxN = None if rows.types_BxT is None else at_places(rows.types_BxT)
    return TokenInputs(at_places(tokens_BxT), visible_BPxN, types_BxT=types_BPxN)
