"""One Transformer: GPT-2 as it stands, BERT if bidirectional and post-norm with its own head."""

import functools
import math
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from common.base.config import PositiveFloat, PositiveInt, configuration
from common.base.size import Size
from common.nn.attention import gather_in_slices
from common.nn.models import Functional, functional

INIT_STD = 0.02
"""Of a Transformer's weights in GPT-2 and BERT."""
LAYER_NORM_EPSILON = {"pre": 1e-5, "post": 1e-12}
"""GPT-2's and BERT's."""
FEW_TOKENS = 4
"""A vocabulary is small if a batch has so many times as many sequences: then most (token, position)
pairs occur in several of them."""


class TokenInputs(NamedTuple):
    """Sequences of tokens."""

    tokens_BxL: jax.Array
    visible_BxL: jax.Array | None = None
    """Which of them may be attended to (padding may not); None: all."""
    at_B: jax.Array | None = None
    """The one position of each sequence whose logits are wanted; None: all."""

    @property
    def mask_Bx1x1xL(self) -> jax.Array | None:
        """The same for attention."""
        return None if self.visible_BxL is None else self.visible_BxL[:, None, None, :]


@configuration
class TransformerConfig:
    """A Transformer: GPT-2 as it stands, BERT if bidirectional and post-norm."""

    heads: PositiveInt
    """Attention heads of a layer: the width is heads x head_size."""
    head_size: PositiveInt = 8
    """Width of a head."""
    layers: PositiveInt = 2
    """Blocks of attention and a two-layer network of 4 x width hidden units."""
    causal: bool = True
    """A position sees itself and those before it (GPT-2), or all of them (BERT)."""
    norm: Literal["pre", "post"] = "pre"
    """pre: the input of every sublayer is normalised, and the last output (GPT-2). post: the
    embedding, and every sublayer's sum (BERT)."""
    gelu: Literal["tanh", "exact"] = "tanh"
    """tanh: GPT-2's approximation of GELU. exact: BERT's."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; parameters and logits are float32. auto: bfloat16 on accelerators, float32 on
    CPUs."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the embedding, of the attention and of what is added by each sublayer that is set to
    zero while training (GPT-2: 0.1).

    Never in evaluation nor in a teacher, where the published runs left it on by mistake.
    """
    head: Literal["linear", "bert"] = "linear"
    """linear: a matrix to the logits (GPT-2, untied). bert: a layer with GELU and normalisation,
    then the token embeddings, and a bias."""
    init_std: PositiveFloat = INIT_STD
    """Standard deviation of the initial weights. GPT-2's is meant for widths of 768 and more; a
    narrow model leaves its plateau late from it."""

    @property
    def size(self) -> Size:
        """What is varied from model to model."""
        return Size("heads", self.heads)

    @property
    def width(self) -> int:
        """Hidden size."""
        return self.heads * self.head_size

    @property
    def residual_std(self) -> float:
        """Of the initial weights whose products are added to what a sublayer reads: GPT-2 divides
        by the number of sublayers, BERT does not."""
        return self.init_std / math.sqrt(2 * self.layers) if self.norm == "pre" else self.init_std

    @property
    def activation_dtype(self) -> Any:
        """What `dtype` means on this machine."""
        if self.dtype == "auto":
            return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        return jnp.dtype(self.dtype)


class Transformer(nnx.Module):
    """Tokens to logits, with learned absolute positions; initialised as GPT-2 is, or BERT.

    Shapes: B sequences of L tokens out of V; N layers of width M = H heads x K; C logits.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocabulary: int,
        length: int,
        num_outputs: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        """Untrained weights.

        Args:
            config: its shape.
            vocabulary: number of tokens.
            length: the longest sequence.
            num_outputs: logits a position.
            rngs: the stream `params`.
        """
        dtype, normal = config.activation_dtype, nnx.initializers.normal(config.init_std)
        self.token = nnx.Embed(
            vocabulary, config.width, embedding_init=normal, dtype=dtype, rngs=rngs
        )
        self.position = nnx.Embed(
            length, config.width, embedding_init=normal, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.Dict({str(i): Block(config, rngs=rngs) for i in range(config.layers)})
        self.norm_first = _layer_norm(config, rngs) if config.norm == "post" else None
        self.norm_last = _layer_norm(config, rngs) if config.norm == "pre" else None
        if config.head == "bert":
            assert num_outputs == vocabulary, (
                "a head tied to the token embeddings has one logit a token"
            )
            self.head = TiedHead(config, vocabulary, rngs=rngs)
        else:
            self.head = nnx.Linear(
                config.width,
                num_outputs,
                use_bias=False,
                kernel_init=normal,
                dtype=dtype,
                rngs=rngs,
            )
        self.drop = nnx.Dropout(config.dropout)

    def __call__(
        self, inputs: TokenInputs, *, last_only: bool = False, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits `(B, L, C)` in float32; `(B, C)` at the positions `inputs.at_B`, or with
        `last_only` the last one, without what others need.

        Here and below, `rngs` has the stream `dropout` while training and is None in evaluation.
        """
        is_one_block, drops = len(self.blocks) == 1, self.drop.rate > 0 and rngs is not None
        if (
            last_only
            and is_one_block
            and not drops
            and FEW_TOKENS * self.token.num_embeddings <= len(inputs.tokens_BxL)
        ):
            return self.last_of_one_block(inputs)
        x_BxLxM = self.embed(inputs.tokens_BxL, rngs=rngs)
        logits_BxQxC = self.read(
            x_BxLxM, inputs.mask_Bx1x1xL, at_B=inputs.at_B, last_only=last_only, rngs=rngs
        )
        return logits_BxQxC[:, -1] if last_only or inputs.at_B is not None else logits_BxQxC

    def last_of_one_block(self, inputs: TokenInputs) -> jax.Array:
        """Logits `(B, C)` of the last position of a model of one block, from far fewer keys and
        values than there are tokens in the batch.

        What a position shows to the others depends on its token and its place alone. So the V x L
        pairs of these, S of them, are attended to, once for all: the last positions of the B
        sequences are the queries of one sequence, and a mask tells which pairs occur in whose.
        """
        tokens_BxL = inputs.tokens_BxL
        vocabulary, length = self.token.num_embeddings, tokens_BxL.shape[1]
        pairs_VxL = jnp.broadcast_to(jnp.arange(vocabulary)[:, None], (vocabulary, length))
        x_VxLxM = self.embed(pairs_VxL)
        occurs_BxVxL = tokens_BxL[:, None] == pairs_VxL[None]
        if inputs.visible_BxL is not None:
            occurs_BxVxL &= inputs.visible_BxL[:, None]
        queries_1xBxM = x_VxLxM[:, -1][tokens_BxL[:, -1]][None]
        mask_1x1xBxS = occurs_BxVxL.reshape(1, 1, -1, vocabulary * length)
        return self.logits(
            self.blocks["0"](
                x_VxLxM.reshape(1, vocabulary * length, -1),
                mask_1x1xBxS,
                queries_BxQxM=queries_1xBxM,
            )
        )[0]

    def embed(self, tokens_BxL: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What enters the first block, `(B, L, M)`."""
        x_BxLxM = self.token(tokens_BxL) + self.position(jnp.arange(tokens_BxL.shape[1]))[None]
        if self.norm_first is not None:
            x_BxLxM = self.norm_first(x_BxLxM)
        return self.drop(x_BxLxM, deterministic=rngs is None, rngs=rngs)

    def activations(self, inputs: TokenInputs, layer: int) -> jax.Array:
        """What leaves a block, `(B, L, M)`, in evaluation."""
        x_BxLxM = self.embed(inputs.tokens_BxL)
        for i in range(layer + 1):
            x_BxLxM = self.blocks[str(i)](x_BxLxM, inputs.mask_Bx1x1xL)
        return x_BxLxM

    def read(
        self,
        x_BxLxM: jax.Array,
        mask_Bx1x1xL: jax.Array | None = None,
        *,
        at_B: jax.Array | None = None,
        last_only: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Logits `(B, L, C)` of embedded tokens; of one position of each sequence `(B, 1, C)`."""
        *others, last = (self.blocks[str(i)] for i in range(len(self.blocks)))
        for block in others:
            x_BxLxM = block(x_BxLxM, mask_Bx1x1xL, rngs=rngs)
        queries_Bx1xM = (
            x_BxLxM[:, -1:]
            if last_only
            else None
            if at_B is None
            else jnp.take_along_axis(x_BxLxM, at_B[:, None, None], axis=1)
        )
        if at_B is not None and last.config.causal:  # a block lets lone queries see all
            before_Bx1x1xL = (jnp.arange(x_BxLxM.shape[1])[None] <= at_B[:, None])[:, None, None]
            mask_Bx1x1xL = before_Bx1x1xL if mask_Bx1x1xL is None else mask_Bx1x1xL & before_Bx1x1xL
        return self.logits(last(x_BxLxM, mask_Bx1x1xL, queries_BxQxM=queries_Bx1xM, rngs=rngs))

    def logits(self, x_BxQxM: jax.Array) -> jax.Array:
        """What leaves the last block as logits `(B, Q, C)` in float32."""
        if self.norm_last is not None:
            x_BxQxM = self.norm_last(x_BxQxM)
        logits_BxQxC = (
            self.head(x_BxQxM, self.token)
            if isinstance(self.head, TiedHead)
            else self.head(x_BxQxM)
        )
        return logits_BxQxC.astype(jnp.float32)


class TiedHead(nnx.Module):
    """BERT's head for masked prediction: a layer with GELU and normalisation, then the product with
    the token embeddings, and a bias."""

    def __init__(self, config: TransformerConfig, vocabulary: int, *, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal(config.init_std)
        self.config = config
        self.transform = nnx.Linear(
            config.width, config.width, kernel_init=normal, dtype=config.activation_dtype, rngs=rngs
        )
        self.norm = _layer_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(vocabulary))

    def __call__(self, x_BxLxM: jax.Array, token: nnx.Embed) -> jax.Array:
        """`(B, L, M)` to `(B, L, V)`."""
        y_BxLxM = self.norm(
            nnx.gelu(self.transform(x_BxLxM), approximate=self.config.gelu == "tanh")
        )
        return token.attend(y_BxLxM) + self.bias[...][None, None]


class Block(nnx.Module):
    """Attention, then a two-layer network, each added to what it reads."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        def linear(fan_in: int, fan_out: int, std: float = config.init_std) -> nnx.Linear:
            return nnx.Linear(
                fan_in,
                fan_out,
                kernel_init=nnx.initializers.normal(std),
                dtype=config.activation_dtype,
                rngs=rngs,
            )

        width = config.width
        self.config = config
        self.norm_attention = _layer_norm(config, rngs)
        self.query_key_value = linear(width, 3 * width)
        self.attention_output = linear(width, width, config.residual_std)
        self.norm_mlp = _layer_norm(config, rngs)
        self.mlp_hidden = linear(width, 4 * width)
        self.mlp_output = linear(4 * width, width, config.residual_std)
        self.drop = nnx.Dropout(config.dropout)

    def __call__(
        self,
        x_BxLxM: jax.Array,
        mask_Bx1xQxL: jax.Array | None = None,
        *,
        queries_BxQxM: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """`(B, L, M)` to the same.

        Args:
            x_BxLxM: what may be attended to.
            mask_Bx1xQxL: and by whom; a dimension of one is that of all.
            queries_BxQxM: in place of all positions, those alone that are wanted, each of which may
                see all others; the result is `(B, Q, M)`.
            rngs: as everywhere.
        """
        is_pre, is_causal = self.config.norm == "pre", self.config.causal and queries_BxQxM is None
        source_BxLxM = self.norm_attention(x_BxLxM) if is_pre else x_BxLxM
        if queries_BxQxM is None:
            queries_BxQxM, reader_BxQxM = x_BxLxM, source_BxLxM
        else:
            reader_BxQxM = self.norm_attention(queries_BxQxM) if is_pre else queries_BxQxM
        y_BxQxM = queries_BxQxM + self.attend(
            reader_BxQxM, source_BxLxM, mask_Bx1xQxL, is_causal, rngs
        )
        if is_pre:
            return y_BxQxM + self.transform(self.norm_mlp(y_BxQxM), rngs)
        y_BxQxM = self.norm_attention(y_BxQxM)
        return self.norm_mlp(y_BxQxM + self.transform(y_BxQxM, rngs))

    def attend(
        self,
        reader_BxQxM: jax.Array,
        source_BxLxM: jax.Array,
        mask_Bx1xQxL: jax.Array | None,
        is_causal: bool,
        rngs: nnx.Rngs | None,
    ) -> jax.Array:
        """What each reader gathers from the positions that it sees."""
        q_BxQxHxK, k_BxLxHxK, v_BxLxHxK = (
            self.project(y, i) for i, y in enumerate((reader_BxQxM, source_BxLxM, source_BxLxM))
        )
        drop = (self.drop, rngs) if rngs is not None and self.config.dropout else None
        y_BxQxHxK = gather_in_slices(q_BxQxHxK, k_BxLxHxK, v_BxLxHxK, mask_Bx1xQxL, is_causal, drop)
        return self.drop(
            self.attention_output(y_BxQxHxK.reshape(*y_BxQxHxK.shape[:2], -1)),
            deterministic=rngs is None,
            rngs=rngs,
        )

    def project(self, x_BxLxM: jax.Array, part: int) -> jax.Array:
        """Queries, keys or values (part 0, 1 or 2), `(B, L, H, K)`.

        Three products, because on a CPU the gradient of slices of a common one takes longer than
        the products.
        """
        columns = slice(part * self.config.width, (part + 1) * self.config.width)
        kernel, bias = self.query_key_value.kernel, self.query_key_value.bias
        assert bias is not None
        kernel_MxM, bias_M = (
            kernel[:, columns].astype(x_BxLxM.dtype),
            bias[columns].astype(x_BxLxM.dtype),
        )
        y_BxLxM = x_BxLxM @ kernel_MxM + bias_M[None, None]
        return y_BxLxM.reshape(*x_BxLxM.shape[:2], self.config.heads, self.config.head_size)

    def transform(self, x_BxQxM: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The two-layer network at every position."""
        y_BxQxM = self.mlp_output(
            nnx.gelu(self.mlp_hidden(x_BxQxM), approximate=self.config.gelu == "tanh")
        )
        return self.drop(y_BxQxM, deterministic=rngs is None, rngs=rngs)


def _layer_norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The slow variance, because that of E[x^2] - E[x]^2 loses digits, and GPT-2's weights are to
    # give GPT-2's logits.
    return nnx.LayerNorm(
        config.width,
        epsilon=LAYER_NORM_EPSILON[config.norm],
        dtype=config.activation_dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


@functools.cache
def functional_transformer(
    config: TransformerConfig,
    vocabulary: int,
    length: int,
    num_outputs: int,
    *,
    last_only: bool = False,
) -> Functional:
    """The Transformer as pure functions; `apply` takes tokens `(B, L)`, or `TokenInputs`, to `(B,
    L, num_outputs)`.

    With `last_only`, or `TokenInputs.at_B`, to `(B, num_outputs)`.
    """
    return functional(
        lambda rngs: Transformer(config, vocabulary, length, num_outputs, rngs=rngs),
        lambda model, inputs, rngs: model(_with_mask(inputs), last_only=last_only, rngs=rngs),
        lambda model, inputs, layer: model.activations(_with_mask(inputs), layer),
        config.layers,
    )


def _with_mask(inputs: jax.Array | TokenInputs) -> TokenInputs:
    return inputs if isinstance(inputs, TokenInputs) else TokenInputs(inputs)
