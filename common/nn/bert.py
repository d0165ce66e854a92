"""BERT (Devlin et al. 2019): a bidirectional Transformer with its normalisations after the
sublayers, exact GELU, and a head for masked prediction, tied to the token embeddings or not.

Shapes: B sequences of T tokens out of V; layers of width M = H heads x K; logits over the
vocabulary at P positions of each sequence.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from common.base.config import PositiveInt, configuration
from common.nn.blocks import (
    Block,
    NarrowEmbed,
    Table,
    TokenInputs,
    TransformerConfig,
    at_positions,
    blocks_flops,
    embed,
    embedding,
    gelu,
    layer_norm,
    linear,
    through,
    vectors_of,
)
from common.nn.functional import Functional, functional

EPSILON = 1e-12
"""Of BERT's normalisations."""


@configuration
class BERTConfig(TransformerConfig):
    """BERT: a position sees all others."""

    token_types: PositiveInt | None = None
    """Kinds of tokens, each with a vector of its own that is added to those of token and place (as
    published: 2, of which a single sentence has the first); None: without them."""
    tied: bool = True
    """Whether the last layer's weights are the token embeddings, as published."""
    token_size: PositiveInt | None = None
    """Units of the vector of each token, which a linear layer brings to the width: a small model of
    a large vocabulary (5 in a BERT of 250,000 parameters by the makers of txtai); None: the
    width."""


class BERTEncoder(nnx.Module):
    """Tokens to vectors, with learned absolute positions; initialised as BERT is."""

    def __init__(
        self, config: BERTConfig, vocabulary: int, length: int | None, *, rngs: nnx.Rngs
    ) -> None:
        """Untrained weights.

        Args:
            config: its shape.
            vocabulary: number of tokens.
            length: the longest sequence; None: places have no vectors, so that a sequence is a bag
                of tokens to it.
            rngs: the stream `params`.
        """
        self.dtype = config.activation_dtype
        if config.token_size is None:
            self.token = embedding(config, vocabulary, rngs)
        else:
            self.token = NarrowEmbed(config, vocabulary, config.token_size, rngs)
        self.position = None if length is None else embedding(config, length, rngs)
        token_type = None
        if config.token_types is not None:
            token_type = embedding(config, config.token_types, rngs)
        self.token_type = token_type
        self.blocks = nnx.Dict({str(i): BERTBlock(config, rngs=rngs) for i in range(config.layers)})
        self.norm_first = layer_norm(config, EPSILON, rngs)
        self.drop = nnx.Dropout(config.dropout)

    def embed(
        self,
        tokens_BxT: jax.Array,
        types_BxT: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """What enters the first block, `(B, T, M)`.

        Here and below, `rngs` has the stream `dropout` while training and is None in evaluation.
        """
        if self.token_type is None:
            x_BxTxM = embed(self.token, self.position, tokens_BxT, self.dtype)
        else:
            types_BxT = jnp.zeros_like(tokens_BxT) if types_BxT is None else types_BxT
            x_BxTxM = embed(self.token, self.position, tokens_BxT, jnp.dtype("float32"))
            x_BxTxM = (x_BxTxM + vectors_of(self.token_type, types_BxT)).astype(self.dtype)
        return self.drop(self.norm_first(x_BxTxM), deterministic=rngs is None, rngs=rngs)

    def encode(
        self,
        x_BxTxM: jax.Array,
        mask_Bx1x1xT: jax.Array | None = None,
        at_BxP: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """What leaves the last block at the positions asked for, `(B, P, M)`, or `(B, T, M)`."""
        *others, last = (self.blocks[str(i)] for i in range(len(self.blocks)))
        for block in others:
            x_BxTxM = through(block, x_BxTxM, mask_Bx1x1xT, None, rngs)
        return through(last, x_BxTxM, mask_Bx1x1xT, at_BxP, rngs)

    def activations(self, inputs: TokenInputs, layer: int) -> jax.Array:
        """What leaves a block at all positions, `(B, T, M)`, in evaluation."""
        x_BxTxM = self.embed(inputs.tokens_BxT, inputs.types_BxT)
        for i in range(layer + 1):
            block = self.blocks[str(i)]
            x_BxTxM = through(block, x_BxTxM, inputs.mask_Bx1x1xT, None, None)
        return x_BxTxM


class BERT(BERTEncoder):
    """Tokens to logits over the tokens."""

    def __init__(
        self, config: BERTConfig, vocabulary: int, length: int | None, *, rngs: nnx.Rngs
    ) -> None:
        """Untrained weights; see `BERTEncoder`."""
        super().__init__(config, vocabulary, length, rngs=rngs)
        self.head = MaskedHead(config, vocabulary, rngs=rngs)
        self.output = None if config.tied else embedding(config, vocabulary, rngs)

    def __call__(self, inputs: TokenInputs, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits in float32, `(B, P, V)` at the positions asked for, or `(B, T, V)`."""
        x_BxTxM = self.embed(inputs.tokens_BxT, inputs.types_BxT, rngs=rngs)
        return self.read(x_BxTxM, inputs.mask_Bx1x1xT, inputs.at_BxP, rngs=rngs)

    def read(
        self,
        x_BxTxM: jax.Array,
        mask_Bx1x1xT: jax.Array | None = None,
        at_BxP: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Logits of embedded tokens, `(B, P, V)` or `(B, T, V)`."""
        y_BxPxM = self.encode(x_BxTxM, mask_Bx1x1xT, at_BxP, rngs=rngs)
        output = self.token if self.output is None else self.output
        return self.head(y_BxPxM, output).astype(jnp.float32)


class BERTClassifier(BERTEncoder):
    """A sequence to logits over C classes, read off its first token by BERT's pooler, a layer with
    tanh, and a linear layer."""

    def __init__(
        self,
        config: BERTConfig,
        vocabulary: int,
        length: int | None,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        """Untrained weights; see `BERTEncoder`."""
        super().__init__(config, vocabulary, length, rngs=rngs)
        self.pooler = linear(config, config.width, config.width, config.init_std, rngs)
        self.classifier = linear(config, config.width, num_classes, config.init_std, rngs)

    def __call__(self, inputs: TokenInputs, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits in float32, `(B, C)`."""
        x_BxTxM = self.embed(inputs.tokens_BxT, inputs.types_BxT, rngs=rngs)
        first_Bx1 = jnp.zeros((len(x_BxTxM), 1), jnp.int32)
        y_Bx1xM = self.encode(x_BxTxM, inputs.mask_Bx1x1xT, first_Bx1, rngs=rngs)
        pooled_BxM = jnp.tanh(self.pooler(y_Bx1xM[:, 0]))
        pooled_BxM = self.drop(pooled_BxM, deterministic=rngs is None, rngs=rngs)
        return self.classifier(pooled_BxM).astype(jnp.float32)


class BERTBlock(Block):
    """Attention to both sides, then a two-layer network; each result is added to what was read, and
    the sum is normalised."""

    def __init__(self, config: BERTConfig, *, rngs: nnx.Rngs) -> None:
        super().__init__(
            config,
            epsilon=EPSILON,
            residual_std=config.init_std,
            approximate_gelu=False,
            rngs=rngs,
        )

    def __call__(
        self,
        x_BxTxM: jax.Array,
        mask_Bx1x1xT: jax.Array | None = None,
        at_BxP: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """What leaves the block, `(B, P, M)` at the positions asked for, or `(B, T, M)`.

        Args:
            x_BxTxM: what enters it.
            mask_Bx1x1xT: which positions may be attended to; None: all.
            at_BxP: the positions asked for; None: all.
            rngs: as everywhere.
        """
        queries_BxPxM = x_BxTxM if at_BxP is None else at_positions(x_BxTxM, at_BxP)
        gathered_BxPxM = self.attend(
            queries_BxPxM, x_BxTxM, mask_Bx1x1xT, is_causal=False, rngs=rngs
        )
        y_BxPxM = self.norm_attention(queries_BxPxM + gathered_BxPxM)
        return self.norm_mlp(y_BxPxM + self.transform(y_BxPxM, rngs))


class MaskedHead(nnx.Module):
    """BERT's head for masked prediction: a layer with GELU and normalisation, then the product with
    a vector for each token, and a bias."""

    def __init__(self, config: BERTConfig, vocabulary: int, *, rngs: nnx.Rngs) -> None:
        self.transform = linear(config, config.width, config.width, config.init_std, rngs)
        self.norm = layer_norm(config, EPSILON, rngs)
        self.bias = nnx.Param(jnp.zeros(vocabulary))

    def __call__(self, x_BxPxM: jax.Array, output: Table) -> jax.Array:
        """`(B, P, M)` to `(B, P, V)`, by the vectors of `output`: the token embeddings, where the
        model ties them."""
        y_BxPxM = self.norm(gelu(self.transform(x_BxPxM), approximate=False))
        kernel_MxV = output.embedding[...].T.astype(y_BxPxM.dtype)
        return y_BxPxM @ kernel_MxV + self.bias[...][None, None]


@functools.cache
def functional_bert(config: BERTConfig, vocabulary: int, length: int | None) -> Functional:
    """BERT as pure functions; `apply` takes `TokenInputs` to logits `(B, P, V)` or `(B, T, V)`. The
    length is that of the longest sequence; without one, it knows no order."""
    return functional(
        lambda rngs: BERT(config, vocabulary, length, rngs=rngs),
        lambda model, inputs, rngs: model(inputs, rngs=rngs),
        lambda model, inputs, layer: model.activations(inputs, layer),
        config.layers,
    )


@functools.cache
def functional_classifier(
    config: BERTConfig, vocabulary: int, length: int | None, num_classes: int
) -> Functional:
    """A classifier as pure functions; `apply` takes `TokenInputs` to logits `(B, C)`."""
    return functional(
        lambda rngs: BERTClassifier(config, vocabulary, length, num_classes, rngs=rngs),
        lambda model, inputs, rngs: model(inputs, rngs=rngs),
        lambda model, inputs, layer: model.activations(inputs, layer),
        config.layers,
    )


def bert_flops(config: BERTConfig, vocabulary: int, length: int, num_asked: int) -> float:
    """Operations of the products in one forward pass of one sequence; see `blocks_flops`."""
    width = config.width
    of_head = 2.0 * num_asked * (width**2 + width * vocabulary)
    return blocks_flops(config, length, num_asked) + of_head
