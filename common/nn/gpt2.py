"""GPT-2 (Radford et al. 2019): a causal Transformer with its normalisations before the sublayers,
GELU by tanh, and a linear head of its own.

Shapes: B sequences of T tokens out of V; layers of width M = H heads x K; logits over C classes
at P positions of each sequence.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from common.base.config import configuration
from common.nn.blocks import (
    Block,
    TokenInputs,
    TransformerConfig,
    at_positions,
    blocks_flops,
    causal_mask,
    embed,
    embedding,
    layer_norm,
    through,
)
from common.nn.functional import Functional, functional

EPSILON = 1e-5
"""Of GPT-2's normalisations."""


@configuration
class GPT2Config(TransformerConfig):
    """GPT-2: a position sees itself and those before it."""

    @property
    def residual_std(self) -> float:
        """Of the initial weights whose products are added to what a sublayer reads: divided by the
        root of the number of sublayers."""
        return self.init_std / math.sqrt(2 * self.layers)


class GPT2(nnx.Module):
    """Tokens to logits, with learned absolute positions; initialised as GPT-2 is."""

    def __init__(
        self,
        config: GPT2Config,
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
        self.dtype = config.activation_dtype
        self.token = embedding(config, vocabulary, rngs)
        self.position = embedding(config, length, rngs)
        self.blocks = nnx.Dict({str(i): GPT2Block(config, rngs=rngs) for i in range(config.layers)})
        self.norm_last = layer_norm(config, EPSILON, rngs)
        self.head = nnx.Linear(
            config.width,
            num_outputs,
            use_bias=False,
            kernel_init=nnx.initializers.normal(config.init_std),
            dtype=config.activation_dtype,
            rngs=rngs,
        )
        self.drop = nnx.Dropout(config.dropout)

    def __call__(self, inputs: TokenInputs, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits in float32, `(B, P, C)` at the positions asked for, or `(B, T, C)`.

        Here and below, `rngs` has the stream `dropout` while training and is None in evaluation.
        """
        x_BxTxM = self.embed(inputs.tokens_BxT, rngs=rngs)
        return self.read(x_BxTxM, inputs.mask_Bx1x1xT, inputs.at_BxP, rngs=rngs)

    def embed(self, tokens_BxT: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What enters the first block, `(B, T, M)`."""
        x_BxTxM = embed(self.token, self.position, tokens_BxT, self.dtype)
        return self.drop(x_BxTxM, deterministic=rngs is None, rngs=rngs)

    def read(
        self,
        x_BxTxM: jax.Array,
        mask_Bx1x1xT: jax.Array | None = None,
        at_BxP: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Logits of embedded tokens, `(B, P, C)` or `(B, T, C)`."""
        *others, last = (self.blocks[str(i)] for i in range(len(self.blocks)))
        for block in others:
            x_BxTxM = through(block, x_BxTxM, mask_Bx1x1xT, None, rngs)
        return self.logits(through(last, x_BxTxM, mask_Bx1x1xT, at_BxP, rngs))

    def logits(self, x_BxPxM: jax.Array) -> jax.Array:
        """What leaves the last block as logits `(B, P, C)` in float32."""
        return self.head(self.norm_last(x_BxPxM)).astype(jnp.float32)

    def activations(self, inputs: TokenInputs, layer: int) -> jax.Array:
        """What leaves a block at all positions, `(B, T, M)`, in evaluation."""
        x_BxTxM = self.embed(inputs.tokens_BxT)
        for i in range(layer + 1):
            block = self.blocks[str(i)]
            x_BxTxM = through(block, x_BxTxM, inputs.mask_Bx1x1xT, None, None)
        return x_BxTxM


class GPT2Block(Block):
    """Causal attention, then a two-layer network; each reads normalised what its result is added
    to."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs) -> None:
        super().__init__(
            config,
            epsilon=EPSILON,
            residual_std=config.residual_std,
            approximate_gelu=True,
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
            mask_Bx1x1xT: which positions may be attended to; None: all. Those that come later than
                a position are hidden from it in any case.
            at_BxP: the positions asked for; None: all.
            rngs: as everywhere.
        """
        if at_BxP is None:
            source_BxTxM = self.norm_attention(x_BxTxM)
            gathered_BxTxM = self.attend(
                source_BxTxM, source_BxTxM, mask_Bx1x1xT, is_causal=True, rngs=rngs
            )
            return self.add(x_BxTxM, gathered_BxTxM, rngs=rngs)
        mask_Bx1xPxT = causal_mask(at_BxP, x_BxTxM.shape[1], mask_Bx1x1xT)
        return self.of_queries(at_positions(x_BxTxM, at_BxP), x_BxTxM, mask_Bx1xPxT, rngs=rngs)

    def of_queries(
        self,
        queries_BxQxM: jax.Array,
        x_BxTxM: jax.Array,
        mask_Bx1xQxT: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """What leaves the block at queries of whatever place, `(B, Q, M)`; what each of them may
        see is for the caller to say, causality included."""
        gathered_BxQxM = self.attend(
            self.norm_attention(queries_BxQxM),
            self.norm_attention(x_BxTxM),
            mask_Bx1xQxT,
            is_causal=False,
            rngs=rngs,
        )
        return self.add(queries_BxQxM, gathered_BxQxM, rngs=rngs)

    def add(
        self, x_BxQxM: jax.Array, gathered_BxQxM: jax.Array, *, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """The sum of what was read and what was gathered, and the two-layer network's answer to
        it."""
        y_BxQxM = x_BxQxM + gathered_BxQxM
        return y_BxQxM + self.transform(self.norm_mlp(y_BxQxM), rngs)


@functools.cache
def functional_gpt2(
    config: GPT2Config, vocabulary: int, length: int, num_outputs: int
) -> Functional:
    """GPT-2 as pure functions; `apply` takes `TokenInputs` to logits `(B, P, num_outputs)`, or
    `(B, T, num_outputs)`."""
    return functional(
        lambda rngs: GPT2(config, vocabulary, length, num_outputs, rngs=rngs),
        lambda model, inputs, rngs: model(inputs, rngs=rngs),
        lambda model, inputs, layer: model.activations(inputs, layer),
        config.layers,
    )


def gpt2_flops(config: GPT2Config, num_outputs: int, length: int, num_asked: int) -> float:
    """Operations of the products in one forward pass of one sequence; see `blocks_flops`."""
    of_head = 2.0 * num_asked * config.width * num_outputs
    return blocks_flops(config, length, num_asked) + of_head
