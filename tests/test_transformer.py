"""GPT-2 against Hugging Face's, its training against PyTorch, and parity end to end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import torch
from flax import nnx
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from common.base.config import TrainingConfig, from_dict, to_dict, validate
from common.base.errors import UserError
from common.base.keys import seed_key
from common.formats.torch_names import to_torch
from common.nn.blocks import INIT_STD, TokenInputs
from common.nn.functional import Params, functional
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from common.nn.mlp import MLPConfig
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train.engine import ScanEngine
from common.train.optim import OptimConfig, learning_rate_shape
from parity import distill, probe, train
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData, sample, supports_of
from parity.spec import SPEC
from parity.task import engine_of, functional_model
from tests.conftest import random_params, same_run

# A problem that a narrow Transformer learns in seconds.
TINY = (
    *(
        "--model",
        "transformer",
        "--data.d",
        "6",
        "--data.k",
        "2",
        "--training.steps",
        "256",
        "--training.batch-size",
        "64",
    ),
    *(
        "--training.eval-every",
        "32",
        "--training.eval-examples",
        "512",
        "--training.checkpoint-every",
        "64",
        "--training.num-seeds",
        "2",
    ),
    *("--seed", "0", "--optim.learning-rate", "3e-3"),
)
TEACHER, STUDENT = (*TINY, "--model.heads", "5"), (*TINY, "--model.heads", "4")


def gpt2(params: Params, config: GPT2Config) -> GPT2LMHeadModel:
    """Hugging Face's model with our weights, without dropout."""
    tensors = {name: torch.from_numpy(np.array(leaf)) for name, leaf in to_torch(params).items()}
    theirs = TheirConfig(
        vocab_size=tensors["transformer.wte.weight"].shape[0],
        n_positions=tensors["transformer.wpe.weight"].shape[0],
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(theirs)
    model.load_state_dict(tensors)
    return model


@pytest.mark.parametrize(("heads", "head_size", "layers"), [(4, 8, 2), (32, 8, 2), (3, 16, 4)])
def test_logits_are_those_of_gpt2(heads: int, head_size: int, layers: int) -> None:
    """Same weights and tokens, float32: relative difference of the logits at most 1e-5, of all
    positions and of the last one alone."""
    config, vocabulary, length = GPT2Config(heads, head_size, layers), 11, 30
    model = functional_gpt2(config, vocabulary, length, vocabulary)
    params = random_params(model.init, 0.1)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (5, length))
    inputs = TokenInputs(jnp.asarray(tokens))
    with torch.no_grad():
        theirs = gpt2(params, config).eval()(torch.from_numpy(tokens)).logits.numpy()
    ours = jax.jit(model.apply)(params, inputs)
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5
    at_last = inputs._replace(at_BxP=jnp.full((5, 1), length - 1))
    last = jax.jit(model.apply)(params, at_last)[:, 0]
    assert np.abs(last - theirs[:, -1]).max() / np.abs(theirs[:, -1]).max() < 1e-5


def test_queries_that_may_see_everything_are_gpt2_without_its_mask() -> None:
    """A mask of our own, which leaves everything visible, takes the place of the causal one."""
    config, vocabulary, length = GPT2Config(4, 8, 2), 11, 30
    everything_1x1xTxT = jnp.ones((1, 1, length, length), bool)

    def without_mask(model: GPT2, inputs: TokenInputs, _: nnx.Rngs | None) -> jax.Array:
        x_BxTxM = model.embed(inputs.tokens_BxT)
        for i in range(config.layers):
            x_BxTxM = model.blocks[str(i)].of_queries(x_BxTxM, x_BxTxM, everything_1x1xTxT)
        return model.logits(x_BxTxM)

    model = functional(
        lambda rngs: GPT2(config, vocabulary, length, vocabulary, rngs=rngs),
        without_mask,
        GPT2.activations,
        config.layers,
    )
    params = random_params(model.init, 0.1)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (5, length))
    peer = gpt2(params, config).eval()
    with torch.no_grad():
        causal = peer(torch.from_numpy(tokens)).logits.numpy()
        theirs = peer(
            torch.from_numpy(tokens), attention_mask=torch.zeros(5, 1, length, length)
        ).logits.numpy()
    ours = jax.jit(model.apply)(params, TokenInputs(jnp.asarray(tokens)))
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5
    assert np.abs(causal - theirs).max() / np.abs(theirs).max() > 0.01


def test_initial_weights_are_distributed_as_gpt2s() -> None:
    config = GPT2Config(heads=16, layers=3)
    params = jax.jit(functional_gpt2(config, 50, 40, 50).init)(jax.random.key(0))
    ours, theirs = to_torch(params), GPT2LMHeadModel(gpt2(params, config).config).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if np.ptp(ours[name]) == 0:
            assert (tensor.numpy() == ours[name]).all(), name
        else:
            assert ours[name].std() == pytest.approx(float(tensor.std()), rel=0.06), name
            assert abs(ours[name].mean()) < INIT_STD / 10, name
    first, second = params["blocks"]["0"], params["blocks"]["1"]
    assert not np.allclose(first["mlp_hidden"]["kernel"], second["mlp_hidden"]["kernel"])


def test_activations_in_bfloat16_and_parameters_in_float32() -> None:
    half, full = (
        functional_gpt2(GPT2Config(heads=4, dtype=dtype), 2, 9, 2)
        for dtype in ("bfloat16", "float32")
    )
    params = random_params(half.init, 0.1)
    tokens = TokenInputs(jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, 9))))
    assert {
        leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half.init, jax.random.key(0)))
    } == {jnp.dtype("float32")}
    a, b = (jax.jit(model.apply)(params, tokens) for model in (half, full))
    assert a.dtype == b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_training_with_adam_agrees_with_pytorch() -> None:
    """Same weights, same data, 20 updates in float32: relative difference of every parameter tensor
    below 1e-4, of the loss below 1e-5.

    Adam divides a gradient by its own size, so that where a gradient is all rounding (the bias of
    the keys, whose gradient is zero) the update is not: that tensor is left out, and the others
    agree to fewer digits than under SGD.
    """
    data, steps, rate, batch_size = ParityData(d=10, k=2), 20, 1e-3, 16
    model_config = GPT2Config(heads=4)
    optim = OptimConfig((rate,), decay="cosine", kind="adam", warmup_fraction=0.2)
    config = TrainConfig(
        data,
        model_config,
        optim,
        TrainingConfig(steps, batch_size, eval_every=steps, eval_examples=64),
    )
    problem = SPEC.teacher_problem(config)
    engine = ScanEngine(problem)
    state = engine.init()
    peer = gpt2(jax.tree.map(lambda leaf: leaf[0], state.params), model_config).train()
    optimizer, shape = (
        torch.optim.Adam(peer.parameters(), lr=rate, betas=(0.9, 0.999)),
        learning_rate_shape(optim, steps),
    )
    key, losses = seed_key(0, f"{problem.role}/train-data"), []
    for step in range(steps):
        batch = sample(jax.random.fold_in(key, step), data, supports_of(data), batch_size)
        tokens = torch.from_numpy(np.array((1 - batch.inputs) / 2)).long()
        optimizer.param_groups[0]["lr"] = rate * float(np.asarray(shape(step)).item())
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            peer(tokens).logits[:, -1], torch.from_numpy(np.array(batch.labels)).long()
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state, metrics = engine.record(engine.advance(state, None, steps))
    assert np.asarray(metrics["train_loss"]).item() == pytest.approx(np.mean(losses), rel=1e-5)
    ours = to_torch(jax.tree.map(lambda leaf: np.asarray(leaf[0]), state.params))
    for name, tensor in peer.state_dict().items():
        mine, theirs = ours[name], tensor.numpy()
        if name.endswith("c_attn.bias"):
            mine, theirs = (np.delete(bias.reshape(3, -1), 1, axis=0) for bias in (mine, theirs))
        difference = np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)
        assert difference < 1e-4, (name, difference)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Transformer on the tiny problem."""
    path = tmp_path_factory.mktemp("runs") / "teacher"
    train.main(["--run-dir", str(path), *TEACHER])
    return path


def test_parity_is_learnt(teacher: Path) -> None:
    first, last = RunDirectory(teacher).metrics()[0], RunDirectory(teacher).metrics()[-1]
    assert max(first["accuracy"]) < 0.7
    assert min(last["accuracy"]) > 0.95
    assert last["examples"] == last["step"] * 64


def test_the_run_of_a_transformer_can_be_probed_and_exported(teacher: Path, tmp_path: Path) -> None:
    probe.main([str(teacher), "--num-examples", "4096"])
    table = pd.read_csv(teacher / "probes" / probe.IN_SUPPORT)
    label = table[(table["degree"] == 2) & (table["step"] == 256)]
    assert (label["with_2p_minus_1"].abs() > 0.8).all()

    export.main(
        [
            str(teacher),
            "--step",
            "256",
            "--out",
            str(tmp_path / "teacher.safetensors"),
            "--seed-index",
            "1",
        ]
    )
    params = jax.tree.map(lambda leaf: leaf[1], Trajectory(RunDirectory(teacher)).restore(256))
    written = load_file(tmp_path / "teacher.safetensors")
    with safe_open(tmp_path / "teacher.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["step"], metadata["seed"]) == ("pt", "256", "1")
    assert metadata["tie_word_embeddings"] == "false"
    model = gpt2(params, GPT2Config(heads=5)).eval()
    assert not model.config.tie_word_embeddings
    model.load_state_dict(written)
    x = np.random.default_rng(0).choice([-1.0, 1.0], (500, 6))
    with torch.no_grad():
        logits = model(torch.from_numpy((1 - x) / 2).long()).logits[:, -1].numpy()
    config = from_dict(TrainConfig, RunDirectory(teacher).record["config"], teacher)
    ours = np.asarray(jax.jit(functional_model(config).apply)(params, jnp.asarray(x, jnp.float32)))
    assert np.abs(ours - logits).max() / np.abs(logits).max() < 1e-5
    classes = logits.argmax(-1)
    support = RunDirectory(teacher).manifest["supports"][0]
    assert np.mean(classes == (x[:, support].prod(-1) > 0)) > 0.95


def test_students_of_either_kind_learn_from_a_transformer(teacher: Path, tmp_path: Path) -> None:
    distill.main(
        [
            "--run-dir",
            str(tmp_path / "student"),
            "--teacher",
            str(teacher),
            *STUDENT,
            "--schedule",
            "one-shot",
        ]
    )
    assert min(RunDirectory(tmp_path / "student").metrics()[-1]["accuracy"]) > 0.9
    mlp = [
        "--model.width",
        "64",
        "--data.d",
        "6",
        "--data.k",
        "2",
        "--seed",
        "0",
        "--training.num-seeds",
        "2",
        "--training.steps",
        "64",
    ]
    distill.main(
        [
            "--run-dir",
            str(tmp_path / "mlp"),
            "--teacher",
            str(teacher),
            *mlp,
            "--schedule",
            "one-shot",
        ]
    )
    assert RunDirectory(tmp_path / "mlp").finished


def test_an_interrupted_transformer_goes_on_with_the_same_bits(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam's averages are part of what is saved."""
    args = ["--run-dir", str(tmp_path / "run"), *TEACHER, "--runtime.resume-seconds", "1e-6"]
    advance, calls = ScanEngine.advance, iter(range(100))

    def interrupted(*rest):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return advance(*rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ScanEngine, "advance", interrupted)
        train.main(args)
    assert RunDirectory(tmp_path / "run").manifest["resume"]["step"] > 0
    train.main(args)
    same_run(teacher, tmp_path / "run")


def test_trees_of_labels_have_as_many_outputs() -> None:
    data = ParityData(d=12, k=2, depth=2)
    config = TrainConfig(
        data,
        GPT2Config(heads=2),
        OptimConfig((1e-3,), kind="adam"),
        TrainingConfig(4, 8, 4, 64),
    )
    model = functional_model(config)
    assert model.apply(model.init(jax.random.key(0)), jnp.ones((5, 12))).shape == (5, 4)


def test_the_kind_of_model_is_read_off_its_fields(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    training, optim = TrainingConfig(10, 2, 5), OptimConfig((0.1,), kind="adam", betas=(0.8, 0.9))
    config = TrainConfig(ParityData(8, 2), GPT2Config(heads=2), optim, training)
    assert (
        from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))), Path("config.json"))
        == config
    )
    mlp = replace(config, model=MLPConfig(4))
    assert to_dict(mlp)["model"] == {"width": 4, "init": "torch"}
    assert type(engine_of(mlp)(SPEC.teacher_problem(mlp))) is ScanEngine
    with pytest.raises(UserError, match=r"^model\.heads = 0: "):
        validate(replace(config, model=GPT2Config(heads=0)))
    new = ("--run-dir", tmp_path / "new")
    assert "Unrecognized" in refused(train.main, *new, "--model.heads", "4")
    assert "Unrecognized" in refused(
        train.main, *new, "--model", "transformer", "--model.width", "4"
    )
    assert "invalid choice" in refused(train.main, *new, "--model", "lstm")
    assert "blocked trains an MLP" in refused(train.main, *new, *TINY, "--engine", "blocked")
    assert "by SGD" in refused(
        train.main,
        *new,
        "--optim.kind",
        "adam",
        "--training.batch-size",
        "4",
        "--engine",
        "blocked",
    )
    assert "Adam's" in refused(train.main, *new, "--optim.betas", "0.5", "0.9")
    assert "betas.1 = 1.0" in refused(train.main, *new, *TINY, "--optim.betas", "0.5", "1")
    student = StudentConfig(ParityData(8, 2), GPT2Config(heads=2), optim, training)
    assert type(engine_of(student)(SPEC.teacher_problem(config))) is ScanEngine
