"""GPT-NeoX (Black et al. 2022), the architecture of Pythia (Biderman et al. 2023): a causal
Transformer with rotary positions (Su et al. 2021), exact GELU, attention and the two-layer network
side by side, and a linear head of its own.

Shapes: B sequences of T tokens out of V; layers of width M = H heads x K, of which R are rotated;
logits at P positions of each sequence.
"""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from common.base.config import PositiveFloat, configuration
from common.nn.blocks import (
    Block,
    TokenInputs,
    TransformerConfig,
    at_positions,
    blocks_flops,
    causal_mask,
    embedding,
    layer_norm,
    through,
    vectors_of,
)
from common.nn.functional import Functional, functional

EPSILON = 1e-5
"""Of GPT-NeoX's normalisations."""


@configuration
class NeoXConfig(TransformerConfig):
    """GPT-NeoX: a position sees itself and those before it."""

    rotary: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Part of each head that is rotated by an angle for each place."""
    rotary_base: PositiveFloat = 10_000.0
    """The slowest angle is about its inverse."""
    parallel: bool = True
    """Whether the two-layer network reads what attention reads; False: what comes of that."""

    def __post_init__(self) -> None:
        if self.num_rotated % 2 or self.num_rotated == 0:
            raise ValueError(
                f"model.rotary = {self.rotary:g} of heads of {self.head_size} are"
                f" {self.num_rotated} units; they are rotated in pairs"
            )

    @property
    def num_rotated(self) -> int:
        """R."""
        return int(self.head_size * self.rotary)


class NeoX(nnx.Module):
    """Tokens to logits; sequences may be of any length."""

    def __init__(self, config: NeoXConfig, vocabulary: int, *, rngs: nnx.Rngs) -> None:
        """Untrained weights.

        Args:
            config: its shape.
            vocabulary: number of tokens.
            rngs: the stream `params`.
        """
        self.dtype = config.activation_dtype
        self.token = embedding(config, vocabulary, rngs)
        self.blocks = nnx.Dict({str(i): NeoXBlock(config, rngs=rngs) for i in range(config.layers)})
        self.norm_last = layer_norm(config, EPSILON, rngs)
        self.head = nnx.Linear(
            config.width,
            vocabulary,
            use_bias=False,
            kernel_init=nnx.initializers.normal(config.init_std),
            dtype=config.activation_dtype,
            rngs=rngs,
        )
        self.drop = nnx.Dropout(config.dropout)

    def __call__(self, inputs: TokenInputs, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits in float32, `(B, P, V)` at the positions asked for, or `(B, T, V)`."""
        mask_Bx1x1xT = inputs.mask_Bx1x1xT
        x_BxTxM = self.embed(inputs.tokens_BxT, rngs=rngs)
        *others, last = (self.blocks[str(i)] for i in range(len(self.blocks)))
        for block in others:
            x_BxTxM = through(block, x_BxTxM, mask_Bx1x1xT, None, rngs)
        y_BxPxM = through(last, x_BxTxM, mask_Bx1x1xT, inputs.at_BxP, rngs)
        return self.head(self.norm_last(y_BxPxM)).astype(jnp.float32)

    def embed(self, tokens_BxT: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What enters the first block, `(B, T, M)`."""
        x_BxTxM = vectors_of(self.token, tokens_BxT).astype(self.dtype)
        return self.drop(x_BxTxM, deterministic=rngs is None, rngs=rngs)

    def activations(self, inputs: TokenInputs, layer: int) -> jax.Array:
        """What leaves a block at all positions, `(B, T, M)`, in evaluation."""
        x_BxTxM = self.embed(inputs.tokens_BxT)
        for i in range(layer + 1):
            block = self.blocks[str(i)]
            x_BxTxM = through(block, x_BxTxM, inputs.mask_Bx1x1xT, None, None)
        return x_BxTxM


class NeoXBlock(Block):
    """Causal attention and a two-layer network, whose results are added to what the block reads."""

    config: NeoXConfig

    def __init__(self, config: NeoXConfig, *, rngs: nnx.Rngs) -> None:
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
            mask_Bx1x1xT: which positions may be attended to; None: all. Those that come later than
                a position are hidden from it in any case.
            at_BxP: the positions asked for; None: all.
            rngs: as everywhere.
        """
        source_BxTxM = self.norm_attention(x_BxTxM)
        if at_BxP is None:
            gathered_BxTxM = self.attend(
                source_BxTxM, source_BxTxM, mask_Bx1x1xT, is_causal=True, rngs=rngs
            )
            return self.add(x_BxTxM, gathered_BxTxM, rngs)
        mask_Bx1xPxT = causal_mask(at_BxP, x_BxTxM.shape[1], mask_Bx1x1xT)
        gathered_BxPxM = self.attend(
            at_positions(source_BxTxM, at_BxP),
            source_BxTxM,
            mask_Bx1xPxT,
            is_causal=False,
            rngs=rngs,
            at_BxQ=at_BxP,
        )
        return self.add(at_positions(x_BxTxM, at_BxP), gathered_BxPxM, rngs)

    def add(
        self, x_BxQxM: jax.Array, gathered_BxQxM: jax.Array, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """The sum of what was read, what was gathered, and the two-layer network's answer."""
        y_BxQxM = x_BxQxM + gathered_BxQxM
        read_BxQxM = x_BxQxM if self.config.parallel else y_BxQxM
        return y_BxQxM + self.transform(self.norm_mlp(read_BxQxM), rngs)

    def weights_of(self, part: int) -> tuple[jax.Array, jax.Array]:
        """As in other blocks; but each head's queries, keys and values lie together here."""
        width, heads, head_size = self.config.width, self.config.heads, self.config.head_size
        kernel, bias = self.query_key_value.kernel, self.query_key_value.bias
        assert bias is not None
        kernel_MxHx3xK = kernel[...].reshape(width, heads, 3, head_size)
        bias_Hx3xK = bias[...].reshape(heads, 3, head_size)
        return kernel_MxHx3xK[:, :, part].reshape(width, width), bias_Hx3xK[:, part].reshape(width)

    def placed(self, y_BxQxHxK: jax.Array, at_BxQ: jax.Array | None) -> jax.Array:
        """The first R units of each head, rotated in pairs by the angles of its place."""
        num_rotated = self.config.num_rotated
        if at_BxQ is None:
            at_BxQ = jnp.arange(y_BxQxHxK.shape[1])[None]
        speed_Rby2 = self.config.rotary_base ** (-jnp.arange(0, num_rotated, 2) / num_rotated)
        angle_BxQx1xRby2 = (at_BxQ[..., None] * speed_Rby2[None, None])[:, :, None]
        cos, sin = jnp.cos(angle_BxQx1xRby2), jnp.sin(angle_BxQx1xRby2)
        rotated_BxQxHxR = y_BxQxHxK[..., :num_rotated].astype(jnp.float32)
        first, second = jnp.split(rotated_BxQxHxR, 2, axis=-1)
        turned = [first * cos - second * sin, second * cos + first * sin]
        rest = y_BxQxHxK[..., num_rotated:]
        return jnp.concatenate([*(part.astype(rest.dtype) for part in turned), rest], axis=-1)


@functools.cache
def functional_neox(config: NeoXConfig, vocabulary: int) -> Functional:
    """GPT-NeoX as pure functions; `apply` takes `TokenInputs` to logits `(B, P, V)`, or
    `(B, T, V)`."""
    return functional(
        lambda rngs: NeoX(config, vocabulary, rngs=rngs),
        lambda model, inputs, rngs: model(inputs, rngs=rngs),
        lambda model, inputs, layer: model.activations(inputs, layer),
        config.layers,
    )


def neox_flops(config: NeoXConfig, vocabulary: int, length: int, num_asked: int) -> float:
    """Operations of the products in one forward pass of one sequence; see `blocks_flops`."""
    of_head = 2.0 * num_asked * config.width * vocabulary
    return blocks_flops(config, length, num_asked) + of_head
