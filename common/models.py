"""Models (Flax NNX) as pure functions of plain parameter dictionaries, and their PyTorch names."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from common.config import PositiveFloat, PositiveInt, configuration
from common.size import Size

INIT_STD = 0.02
"""Of a Transformer's weights in GPT-2 and BERT."""
LAYER_NORM_EPSILON = 1e-5
"""GPT-2's."""

ModuleT = TypeVar("ModuleT", bound=nnx.Module)
Params = dict[str, Any]
"""A nested dictionary of arrays; the only form in which parameters leave this module."""


@configuration
class MLPConfig:
    """A two-layer ReLU network."""

    width: PositiveInt
    """Hidden units."""
    init: Literal["torch", "lecun"] = "torch"
    """torch: U(+-1/sqrt(fan_in)) for weights and biases, PyTorch's default. lecun: truncated normal of variance 1/fan_in and zero biases, Flax's."""

    @property
    def size(self) -> Size:
        """What is varied from model to model."""
        return Size("width", self.width)


class MLP(nnx.Module):
    """d inputs -> width ReLU units -> num_classes logits, with biases (paper section 3)."""

    def __init__(self, config: MLPConfig, d: int, num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = _linear(d, config.width, config.init, rngs)
        self.output = _linear(config.width, num_classes, config.init, rngs)

    def __call__(self, x_BxD: jax.Array) -> jax.Array:
        """Logits `(B, C)`."""
        return self.output(self.activations(x_BxD))

    def activations(self, x_BxD: jax.Array) -> jax.Array:
        """The hidden layer, `(B, M)`."""
        return nnx.relu(self.hidden(x_BxD))


def _linear(fan_in: int, fan_out: int, init: Literal["torch", "lecun"], rngs: nnx.Rngs) -> nnx.Linear:
    if init == "lecun":
        return nnx.Linear(fan_in, fan_out, rngs=rngs)

    def uniform(key: jax.Array, shape: Any, dtype: Any, *_: Any) -> jax.Array:
        bound = 1 / math.sqrt(fan_in)  # also for the bias, whose own shape does not know the fan-in
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(fan_in, fan_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)


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
    """pre: the input of every sublayer is normalised, and the last output (GPT-2). post: the embedding, and every sublayer's sum (BERT)."""
    gelu: Literal["tanh", "exact"] = "tanh"
    """tanh: GPT-2's approximation of GELU. exact: BERT's."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; parameters and logits are float32. auto: bfloat16 on accelerators, float32 on CPUs."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the embedding, of the attention and of what is added by each sublayer that is set to zero while training (GPT-2: 0.1).

    Never in evaluation nor in a teacher, where the published runs left it on by mistake.
    """
    init_std: PositiveFloat = INIT_STD
    """Standard deviation of the initial weights. GPT-2's is meant for widths of 768 and more; a narrow model leaves its plateau late from it."""

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


class Transformer(nnx.Module):
    """Tokens to logits, with learned absolute positions and an output head of its own; initialised as GPT-2 is.

    Shapes: B sequences of L tokens out of V; N layers of width M = H heads x K; C logits.
    """

    def __init__(self, config: TransformerConfig, vocabulary: int, length: int, num_outputs: int, *, rngs: nnx.Rngs) -> None:
        """Untrained weights.

        Args:
            config: its shape.
            vocabulary: number of tokens.
            length: the longest sequence.
            num_outputs: logits a position.
            rngs: the stream `params`.
        """
        dtype, normal = config.activation_dtype, nnx.initializers.normal(config.init_std)
        self.token = nnx.Embed(vocabulary, config.width, embedding_init=normal, dtype=dtype, rngs=rngs)
        self.position = nnx.Embed(length, config.width, embedding_init=normal, dtype=dtype, rngs=rngs)
        self.blocks = nnx.Dict({str(i): Block(config, rngs=rngs) for i in range(config.layers)})
        self.norm_first = _layer_norm(config, rngs) if config.norm == "post" else None
        self.norm_last = _layer_norm(config, rngs) if config.norm == "pre" else None
        self.head = nnx.Linear(config.width, num_outputs, use_bias=False, kernel_init=normal, dtype=dtype, rngs=rngs)
        self.drop = nnx.Dropout(config.dropout)

    def __call__(self, tokens_BxL: jax.Array, *, last_only: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `(B, L, C)` in float32; with `last_only` `(B, C)`, those of the last position, without what only the others need.

        Here and below, `rngs` has the stream `dropout` while training and is None in evaluation.
        """
        logits_BxQxC = self.read(self.embed(tokens_BxL, rngs=rngs), last_only=last_only, rngs=rngs)
        return logits_BxQxC[:, -1] if last_only else logits_BxQxC

    def embed(self, tokens_BxL: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What enters the first block, `(B, L, M)`."""
        x_BxLxM = self.token(tokens_BxL) + self.position(jnp.arange(tokens_BxL.shape[1]))[None]
        if self.norm_first is not None:
            x_BxLxM = self.norm_first(x_BxLxM)
        return self.drop(x_BxLxM, deterministic=rngs is None, rngs=rngs)

    def activations(self, tokens_BxL: jax.Array, layer: int) -> jax.Array:
        """What leaves a block, `(B, L, M)`, in evaluation."""
        x_BxLxM = self.embed(tokens_BxL)
        for i in range(layer + 1):
            x_BxLxM = self.blocks[str(i)](x_BxLxM)
        return x_BxLxM

    def read(self, x_BxLxM: jax.Array, *, last_only: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `(B, L, C)` of embedded tokens; with `last_only` `(B, 1, C)`."""
        num_blocks = len(self.blocks)
        for i in range(num_blocks):
            x_BxLxM = self.blocks[str(i)](x_BxLxM, last_only=last_only and i == num_blocks - 1, rngs=rngs)
        if self.norm_last is not None:
            x_BxLxM = self.norm_last(x_BxLxM)
        return self.head(x_BxLxM).astype(jnp.float32)


class Block(nnx.Module):
    """Attention, then a two-layer network, each added to what it reads."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        def linear(fan_in: int, fan_out: int, std: float = config.init_std) -> nnx.Linear:
            return nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.normal(std), dtype=config.activation_dtype, rngs=rngs)

        width, residual_std = config.width, config.init_std / math.sqrt(2 * config.layers)
        self.config = config
        self.norm_attention = _layer_norm(config, rngs)
        self.query_key_value = linear(width, 3 * width)
        self.attention_output = linear(width, width, residual_std)
        self.norm_mlp = _layer_norm(config, rngs)
        self.mlp_hidden = linear(width, 4 * width)
        self.mlp_output = linear(4 * width, width, residual_std)
        self.drop = nnx.Dropout(config.dropout)

    def __call__(self, x_BxLxM: jax.Array, *, last_only: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        """`(B, L, M)` to the same; with `last_only` to `(B, 1, M)`."""
        is_pre = self.config.norm == "pre"
        kept_BxQxM = x_BxLxM[:, -1:] if last_only else x_BxLxM
        y_BxQxM = kept_BxQxM + self.attend(self.norm_attention(x_BxLxM) if is_pre else x_BxLxM, last_only, rngs)
        if is_pre:
            return y_BxQxM + self.transform(self.norm_mlp(y_BxQxM), rngs)
        y_BxQxM = self.norm_attention(y_BxQxM)
        return self.norm_mlp(y_BxQxM + self.transform(y_BxQxM, rngs))

    def attend(self, x_BxLxM: jax.Array, last_only: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """What each position, or only the last one, gathers from those it sees."""
        heads_BxLx3xHxK = self.query_key_value(x_BxLxM).reshape(*x_BxLxM.shape[:2], 3, self.config.heads, self.config.head_size)
        q_BxLxHxK, k_BxLxHxK, v_BxLxHxK = (heads_BxLx3xHxK[:, :, i] for i in range(3))
        q_BxQxHxK = q_BxLxHxK[:, -1:] if last_only else q_BxLxHxK
        is_causal = self.config.causal and not last_only  # the last position sees all others in either case
        if rngs is None or self.config.dropout == 0:
            y_BxQxHxK = jax.nn.dot_product_attention(q_BxQxHxK, k_BxLxHxK, v_BxLxHxK, is_causal=is_causal)
        else:
            y_BxQxHxK = self.attend_with_dropout(q_BxQxHxK, k_BxLxHxK, v_BxLxHxK, is_causal, rngs)
        return self.drop(self.attention_output(y_BxQxHxK.reshape(*y_BxQxHxK.shape[:2], -1)), deterministic=rngs is None, rngs=rngs)

    def attend_with_dropout(self, q_BxQxHxK: jax.Array, k_BxLxHxK: jax.Array, v_BxLxHxK: jax.Array, is_causal: bool, rngs: nnx.Rngs) -> jax.Array:
        """The same attention written out, because the library's cannot drop any of its weights."""
        scores_BxHxQxL = jnp.einsum("bqhk,blhk->bhql", q_BxQxHxK, k_BxLxHxK, preferred_element_type=jnp.float32) / math.sqrt(self.config.head_size)
        if is_causal:
            scores_BxHxQxL = jnp.where(jnp.tril(jnp.ones(scores_BxHxQxL.shape[2:], bool))[None, None], scores_BxHxQxL, -jnp.inf)
        weights_BxHxQxL = self.drop(jax.nn.softmax(scores_BxHxQxL), rngs=rngs).astype(v_BxLxHxK.dtype)
        return jnp.einsum("bhql,blhk->bqhk", weights_BxHxQxL, v_BxLxHxK)

    def transform(self, x_BxQxM: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The two-layer network at every position."""
        y_BxQxM = self.mlp_output(nnx.gelu(self.mlp_hidden(x_BxQxM), approximate=self.config.gelu == "tanh"))
        return self.drop(y_BxQxM, deterministic=rngs is None, rngs=rngs)


def _layer_norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The slow variance, because that of E[x^2] - E[x]^2 loses digits, and GPT-2's weights are to give GPT-2's logits.
    return nnx.LayerNorm(config.width, epsilon=LAYER_NORM_EPSILON, dtype=config.activation_dtype, use_fast_variance=False, rngs=rngs)


class Apply(Protocol):
    """The forward pass of a model."""

    def __call__(self, params: Params, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits; with a key as in training, where the key draws what is dropped."""
        ...


class Functional(NamedTuple):
    """A model as pure functions."""

    init: Callable[[jax.Array], Params]
    """Key to untrained parameters."""
    apply: Apply
    """Parameters and inputs to logits."""
    hidden: Callable[[Params, jax.Array, int], jax.Array]
    """Parameters, inputs and the number of a hidden layer to its activations, hidden units last; nothing is dropped."""
    num_layers: int
    """Hidden layers: one of the MLP, the blocks of a Transformer."""


def functional_mlp(config: MLPConfig, d: int, num_classes: int) -> Functional:
    """The MLP as pure functions; `apply` takes `(B, d)` to `(B, num_classes)`, and drops nothing."""
    return _functional(
        lambda rngs: MLP(config, d, num_classes, rngs=rngs),
        lambda model, x_BxD, _: model(x_BxD),
        lambda model, x_BxD, _: model.activations(x_BxD),
        num_layers=1,
    )


def functional_transformer(config: TransformerConfig, vocabulary: int, length: int, num_outputs: int, *, last_only: bool = False) -> Functional:
    """The Transformer as pure functions; `apply` takes tokens `(B, L)` to `(B, L, num_outputs)`, or with `last_only` to `(B, num_outputs)`."""
    return _functional(
        lambda rngs: Transformer(config, vocabulary, length, num_outputs, rngs=rngs),
        lambda model, tokens_BxL, rngs: model(tokens_BxL, last_only=last_only, rngs=rngs),
        lambda model, tokens_BxL, layer: model.activations(tokens_BxL, layer),
        config.layers,
    )


def _functional(
    build: Callable[[nnx.Rngs], ModuleT],
    call: Callable[[ModuleT, jax.Array, nnx.Rngs | None], jax.Array],
    activations: Callable[[ModuleT, jax.Array, int], jax.Array],
    num_layers: int,
) -> Functional:
    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(params=jax.random.key(0)))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key))))

    def apply(params: Params, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return call(nnx.merge(graph, params), inputs, None if key is None else nnx.Rngs(dropout=key))

    def hidden(params: Params, inputs: jax.Array, layer: int) -> jax.Array:
        return activations(nnx.merge(graph, params), inputs, layer)

    return Functional(init, apply, hidden, num_layers)
