"""What GPT-2 and BERT have in common: their sizes, what they read, and the parts of a block.

Shapes: B sequences of T tokens; layers of width M = H heads x K; logits are asked for at P
positions of each sequence, and Q positions attend to T.
"""

import math
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from common.base.config import PositiveFloat, PositiveInt, configuration
from common.base.size import Size
from common.nn import on_cpu
from common.nn.attention import gather_in_slices

FEW_ROWS = 64
"""Tables of no more rows are read by a product on an accelerator."""
INIT_STD = 0.02
"""Of a Transformer's weights in GPT-2 and BERT."""


class TokenInputs(NamedTuple):
    """Sequences of tokens."""

    tokens_BxT: jax.Array
    visible_BxT: jax.Array | None = None
    """Which of them may be attended to (padding may not); None: all."""
    at_BxP: jax.Array | None = None
    """The positions of each sequence whose logits are wanted, in any order; None: all. The last
    block and the output layer are computed for those alone."""
    types_BxT: jax.Array | None = None
    """The type of each token, where a model has types; None: all are of the first."""

    @property
    def mask_Bx1x1xT(self) -> jax.Array | None:
        """What is visible, for attention."""
        return None if self.visible_BxT is None else self.visible_BxT[:, None, None, :]


@configuration
class TransformerConfig:
    """What GPT-2 and BERT can be varied in."""

    heads: PositiveInt
    """Attention heads of a layer: the width is heads x head_size."""
    head_size: PositiveInt = 8
    """Width of a head."""
    layers: PositiveInt = 2
    """Blocks of attention and a two-layer network of 4 x width hidden units."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; parameters and logits are float32. auto: bfloat16 on accelerators, float32 on
    CPUs."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the embedding, of the attention and of what is added by each sublayer that is set to
    zero while training (as published: 0.1).

    Never in evaluation nor in a teacher, where the published runs left it on by mistake.
    """
    init_std: PositiveFloat = INIT_STD
    """Standard deviation of the initial weights. The published one is meant for widths of 768 and
    more; a narrow model leaves its plateau late from it."""
    remat: Literal["blocks"] | None = None
    """blocks: keep what enters each block and compute what is within it again in the backward pass,
    for long sequences and large batches: a third more work, and a fraction of the memory. None:
    keep all."""

    @property
    def size(self) -> Size:
        """What is varied from model to model."""
        return Size("heads", self.heads)

    @property
    def width(self) -> int:
        """Hidden size."""
        return self.heads * self.head_size

    @property
    def activation_dtype(self) -> Any:
        """What `dtype` means on this machine."""
        if self.dtype == "auto":
            return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        return jnp.dtype(self.dtype)


class Linear(nnx.Linear):
    """A linear layer with a bias, fast on a CPU too."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        if out_sharding is not None or not on_cpu.is_meant(inputs):
            return super().__call__(inputs, out_sharding)
        assert self.bias is not None
        return on_cpu.linear(inputs, self.kernel[...], self.bias[...])


class LayerNorm(nnx.LayerNorm):
    """A normalisation over the width with scale and bias, fast on a CPU too."""

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        if mask is not None or not on_cpu.is_meant(x):
            return super().__call__(x, mask=mask)
        assert self.scale is not None
        assert self.bias is not None
        return on_cpu.layer_norm(x, self.scale[...], self.bias[...], self.epsilon)


class Block(nnx.Module):
    """The parts of a block: attention and a two-layer network. An architecture says where it
    normalises and who sees whom."""

    def __init__(
        self,
        config: TransformerConfig,
        *,
        epsilon: float,
        residual_std: float,
        approximate_gelu: bool,
        rngs: nnx.Rngs,
    ) -> None:
        """Untrained weights, whose keys are drawn in this order.

        Args:
            config: its shape.
            epsilon: of its normalisations.
            residual_std: standard deviation of the initial weights whose products are added to what
                a sublayer reads.
            approximate_gelu: by tanh.
            rngs: the stream `params`.
        """
        width = config.width
        self.config, self.approximate_gelu = config, approximate_gelu
        self.norm_attention = layer_norm(config, epsilon, rngs)
        self.query_key_value = linear(config, width, 3 * width, config.init_std, rngs)
        self.attention_output = linear(config, width, width, residual_std, rngs)
        self.norm_mlp = layer_norm(config, epsilon, rngs)
        self.mlp_hidden = linear(config, width, 4 * width, config.init_std, rngs)
        self.mlp_output = linear(config, 4 * width, width, residual_std, rngs)
        self.drop = nnx.Dropout(config.dropout)

    def attend(
        self,
        reader_BxQxM: jax.Array,
        source_BxTxM: jax.Array,
        mask_Bx1xQxT: jax.Array | None,
        *,
        is_causal: bool,
        rngs: nnx.Rngs | None,
        at_BxQ: jax.Array | None = None,
    ) -> jax.Array:
        """What each reader gathers from the positions that it sees, `(B, Q, M)`.

        Args:
            reader_BxQxM: who asks.
            source_BxTxM: who may be asked.
            mask_Bx1xQxT: by whom; a dimension of one is that of all.
            is_causal: the readers are all positions, and see none that come later than they do.
            rngs: as everywhere the stream `dropout` in training, None in evaluation.
            at_BxQ: where the readers stand; None: each in its place, as the sources do.
        """
        q_BxQxHxK, k_BxTxHxK, v_BxTxHxK = (
            self.project(y, i) for i, y in enumerate((reader_BxQxM, source_BxTxM, source_BxTxM))
        )
        q_BxQxHxK, k_BxTxHxK = self.placed(q_BxQxHxK, at_BxQ), self.placed(k_BxTxHxK, None)
        drop = (self.drop, rngs) if rngs is not None and self.config.dropout else None
        y_BxQxHxK = gather_in_slices(q_BxQxHxK, k_BxTxHxK, v_BxTxHxK, mask_Bx1xQxT, is_causal, drop)
        return self.drop(
            self.attention_output(y_BxQxHxK.reshape(*y_BxQxHxK.shape[:2], -1)),
            deterministic=rngs is None,
            rngs=rngs,
        )

    def project(self, x_BxTxM: jax.Array, part: int) -> jax.Array:
        """Queries, keys or values (part 0, 1 or 2), `(B, T, H, K)`.

        Three products, because on a CPU the gradient of slices of a common one takes longer than
        the products.
        """
        kernel_MxM, bias_M = (leaf.astype(x_BxTxM.dtype) for leaf in self.weights_of(part))
        if on_cpu.is_meant(x_BxTxM):
            y_BxTxM = on_cpu.linear(x_BxTxM, kernel_MxM, bias_M)
        else:
            y_BxTxM = x_BxTxM @ kernel_MxM + bias_M[None, None]
        return y_BxTxM.reshape(*x_BxTxM.shape[:2], self.config.heads, self.config.head_size)

    def weights_of(self, part: int) -> tuple[jax.Array, jax.Array]:
        """Kernel `(M, M)` and bias `(M,)` of queries, keys or values."""
        columns = slice(part * self.config.width, (part + 1) * self.config.width)
        kernel, bias = self.query_key_value.kernel, self.query_key_value.bias
        assert bias is not None
        return kernel[:, columns], bias[columns]

    def placed(self, y_BxQxHxK: jax.Array, at_BxQ: jax.Array | None) -> jax.Array:
        """Queries or keys with the mark of their places (None: each in its own), where attention
        itself knows places. Learned ones are in the embeddings."""
        del at_BxQ
        return y_BxQxHxK

    def transform(self, x_BxQxM: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The two-layer network at every position."""
        hidden_BxQx4M = gelu(self.mlp_hidden(x_BxQxM), approximate=self.approximate_gelu)
        return self.drop(self.mlp_output(hidden_BxQx4M), deterministic=rngs is None, rngs=rngs)


def through(
    block: Any,
    x_BxTxM: jax.Array,
    mask_Bx1x1xT: jax.Array | None,
    at_BxP: jax.Array | None,
    rngs: nnx.Rngs | None,
) -> jax.Array:
    """What leaves a `Block` of either architecture, `(B, P, M)` or `(B, T, M)`; see
    `TransformerConfig.remat`."""
    if block.config.remat is None:
        return block(x_BxTxM, mask_Bx1x1xT, at_BxP, rngs=rngs)
    again = nnx.remat(lambda block, x, mask, at, rngs: block(x, mask, at, rngs=rngs))
    return again(block, x_BxTxM, mask_Bx1x1xT, at_BxP, rngs)


def gelu(x: jax.Array, *, approximate: bool) -> jax.Array:
    """The activation of both architectures.

    Args:
        x: of any shape.
        approximate: by tanh.
    """
    if on_cpu.is_meant(x) and not approximate:
        return on_cpu.gelu(x)
    return nnx.gelu(x, approximate=approximate)


def causal_mask(at_BxP: jax.Array, length: int, mask_Bx1x1xT: jax.Array | None) -> jax.Array:
    """What positions see that are asked for, `(B, 1, P, T)`: themselves and what comes before.

    Args:
        at_BxP: the positions.
        length: T.
        mask_Bx1x1xT: what may be seen at all; None: everything.
    """
    mask_Bx1xPxT = jnp.arange(length)[None, None, None] <= at_BxP[:, None, :, None]
    return mask_Bx1xPxT if mask_Bx1x1xT is None else mask_Bx1xPxT & mask_Bx1x1xT


def at_positions(x_BxTxM: jax.Array, at_BxP: jax.Array) -> jax.Array:
    """Some positions of each sequence, `(B, P, M)`."""
    return jnp.take_along_axis(x_BxTxM, at_BxP[:, :, None], axis=1)


def embedding(config: TransformerConfig, num_rows: int, rngs: nnx.Rngs) -> nnx.Embed:
    """A vector for each token, or for each position, in float32: see `embed`."""
    return nnx.Embed(
        num_rows,
        config.width,
        embedding_init=nnx.initializers.normal(config.init_std),
        dtype=jnp.float32,
        rngs=rngs,
    )


class NarrowEmbed(nnx.Module):
    """A vector of few units for each token, which a linear layer brings to the width; in float32.

    The product begins with the variance of a table of the whole width.
    """

    def __init__(self, config: TransformerConfig, num_rows: int, size: int, rngs: nnx.Rngs) -> None:
        self.narrow = nnx.Embed(
            num_rows,
            size,
            embedding_init=nnx.initializers.normal(config.init_std),
            dtype=jnp.float32,
            rngs=rngs,
        )
        self.widen = Linear(
            size,
            config.width,
            kernel_init=nnx.initializers.normal(1 / math.sqrt(size)),
            dtype=jnp.float32,
            rngs=rngs,
        )
        self.num_embeddings = num_rows

    @property
    def embedding(self) -> jax.Array:
        """The table that it stands for, `(V, M)`."""
        return self.widen(self.narrow.embedding[...])

    def __call__(self, tokens_BxT: jax.Array) -> jax.Array:
        """The vector of each token, `(B, T, M)`."""
        return self.widen(self.narrow(tokens_BxT))


Table = nnx.Embed | NarrowEmbed
"""Gives each token its vector."""


def embed(
    token: Table,
    position: nnx.Embed | None,
    tokens_BxT: jax.Array,
    dtype: jnp.dtype,
    first: int | jax.Array = 0,
) -> jax.Array:
    """The sum of the vectors of each token and its place, counted from `first`, `(B, T, M)` in
    `dtype`. Where places have none, it is the token's alone.

    It is taken in float32, because the gradient of a vector is a sum over all of its occurrences:
    in bfloat16 that of two tokens in 3200 places was off by a fifth (measured on a GPU).
    """
    vectors_BxTxM = vectors_of(token, tokens_BxT)
    if position is None:
        return vectors_BxTxM.astype(dtype)
    places_T = first + jnp.arange(tokens_BxT.shape[1])
    return (vectors_BxTxM + position(places_T)[None]).astype(dtype)


def vectors_of(token: Table, tokens_BxT: jax.Array) -> jax.Array:
    """The vector of each token, `(B, T, M)` in float32.

    The gradient of a look-up adds vectors to rows one after the other. An accelerator does so in no
    fixed order, and slowly where many tokens share few rows; there a product takes its place.
    """
    if jax.default_backend() == "cpu" or token.num_embeddings > FEW_ROWS:
        return token(tokens_BxT)
    return by_product(token, tokens_BxT)


def by_product(token: Table, tokens_BxT: jax.Array) -> jax.Array:
    """The same vectors, to the bit, as a product with a one for each token."""
    is_token_BxTxV = jax.nn.one_hot(tokens_BxT, token.num_embeddings, dtype=jnp.float32)
    return jnp.matmul(is_token_BxTxV, token.embedding[...], precision="highest")


def linear(
    config: TransformerConfig, fan_in: int, fan_out: int, std: float, rngs: nnx.Rngs
) -> Linear:
    """A linear layer with a bias, which begins at zero."""
    return Linear(
        fan_in,
        fan_out,
        kernel_init=nnx.initializers.normal(std),
        dtype=config.activation_dtype,
        rngs=rngs,
    )


def layer_norm(config: TransformerConfig, epsilon: float, rngs: nnx.Rngs) -> LayerNorm:
    """A normalisation over the width, with scale and bias.

    It takes the slow variance, because that of E[x^2] - E[x]^2 loses digits, and the published
    models' weights are to give their logits.
    """
    return LayerNorm(
        config.width,
        epsilon=epsilon,
        dtype=config.activation_dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


def blocks_flops(config: TransformerConfig, length: int, num_asked: int) -> float:
    """Operations of the products of all blocks in one forward pass of one sequence, a
    multiplication and an addition counted as two.

    Args:
        config: the model.
        length: positions.
        num_asked: those whose logits are wanted, for which alone the last block is computed.
    """
    width, num_others = config.width, config.layers - 1
    # All positions have keys and values in the last block too.
    weights_of_last = 2 * length * width**2 + 10 * num_asked * width**2
    weights = num_others * 12 * length * width**2 + weights_of_last
    attention = (num_others * length + num_asked) * length * width
    return 2.0 * weights + 4.0 * attention
