"""GPT-2 on the next tokens of sentences against Hugging Face's: the same weights, sentences and
updates."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import get_cosine_schedule_with_warmup

from common.base.config import TrainingConfig
from common.base.keys import purpose_key, seed_key
from common.formats.torch_names import to_torch
from common.nn.functional import Batch, Params
from common.train.engine import ScanEngine
from common.train.losses import label_cross_entropy, masked_mean
from common.train.optim import OptimConfig
from pcfg.data import PCFGData
from pcfg.next_token.config import NextTokenModel, TrainConfig
from pcfg.next_token.data import NextTokenConfig
from pcfg.next_token.spec import SPEC
from pcfg.next_token.task import task_of
from tests.conftest import random_params
from tests.hugging_face import gpt2, learnt

DATA = PCFGData("cfg3f", start_level=3)
EVERY_TOKEN = NextTokenConfig()
SUPERVISED = {
    "every token": EVERY_TOKEN,
    "every token and the end": NextTokenConfig(predicts_end=True),
    "few boundaries": NextTokenConfig(4),
    "few boundaries and the end": NextTokenConfig(4, predicts_end=True),
    "many boundaries": NextTokenConfig(5),
}
STEPS = 50
IGNORED = -100
"""The label that Hugging Face's loss leaves out."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For operations as small as these, PyTorch's threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Theirs(NamedTuple):
    """A batch as Hugging Face's model takes it, which finds the next token of each by itself."""

    tokens_BxT: torch.Tensor
    labels_BxT: torch.Tensor
    seen_BxT: torch.Tensor
    """1 where there is a token, 0 where there is padding."""


def config_of(supervised: NextTokenConfig, training: TrainingConfig) -> TrainConfig:
    model = NextTokenModel(heads=4, head_size=8, layers=2, positions=40)
    optim = OptimConfig(
        (3e-3,),
        decay="cosine",
        warmup_fraction=0.2,
        kind="adam",
        betas=(0.9, 0.95),
        clip_norm=1.0,
    )
    return TrainConfig(DATA, model, optim, training, supervised)


def theirs_of(config: TrainConfig, key: jax.Array, num_sentences: int) -> Theirs:
    """The sentences of a key, supervised by their derivations."""
    task = task_of(config)
    vocabulary = task.sampler.vocabulary
    sentences = jax.device_get(task.sampler.sample(purpose_key(key, "sentences"), num_sentences))
    tokens_BxT = sentences.tokens_BxT
    is_asked_BxT = tokens_BxT < vocabulary.num_terminals
    if config.supervised.level is not None:
        is_asked_BxT = sentences.ends_BxTxD[:, :, config.supervised.level - DATA.start_level]
    if config.supervised.predicts_end:
        is_asked_BxT = is_asked_BxT | (tokens_BxT == vocabulary.eos)
    arrays = (
        tokens_BxT,
        np.where(is_asked_BxT, tokens_BxT, IGNORED),
        tokens_BxT != vocabulary.pad,
    )
    return Theirs(*(torch.from_numpy(array.astype(np.int64)) for array in arrays))


def of_asked(logits: np.ndarray, batch: Batch) -> np.ndarray:
    """The logits of the supervised positions, `(N, V)`, from those of all positions."""
    positions_BxP = batch.inputs.at_BxP
    if positions_BxP is not None:
        logits = np.take_along_axis(logits, np.asarray(positions_BxP)[..., None], axis=1)
    return logits[:, : batch.mask.shape[1]][np.asarray(batch.mask) > 0]


@pytest.mark.parametrize("what", SUPERVISED)
def test_logits_loss_and_gradients_are_those_of_gpt2(what: str) -> None:
    """In float32, of sentences of several lengths: relative difference at most 1e-5 of the logits
    wherever a token is predicted, of the loss, and of the gradient of every tensor. Whether their
    model is told where there is padding makes no difference there."""
    config = config_of(SUPERVISED[what], TrainingConfig(1, 8, eval_every=1))
    task, key = task_of(config), jax.random.key(0)
    model, batch = task.model(config.model), task.sample((), key, 8)
    params = random_params(model.init, 0.1)

    def loss_of(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits = model.apply(params, batch.inputs)
        return masked_mean(label_cross_entropy(logits, batch.labels), batch.mask), logits

    (loss, logits), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params, batch)
    is_asked_BxP = np.asarray(batch.mask) > 0
    ours, grad_of = np.asarray(logits)[is_asked_BxP], to_torch(jax.device_get(grads))
    peer, theirs = gpt2(params, config.model).eval(), theirs_of(config, key, 8)
    lengths_B = theirs.seen_BxT.sum(1)
    assert lengths_B.min() < lengths_B.max()
    for mask_BxT in (None, theirs.seen_BxT):
        said = peer(theirs.tokens_BxT, attention_mask=mask_BxT, labels=theirs.labels_BxT)
        expected = of_asked(said.logits.detach().numpy(), batch)
        assert len(ours) == int((theirs.labels_BxT != IGNORED).sum())
        assert np.abs(ours - expected).max() / np.abs(expected).max() < 1e-5
        assert float(loss) == pytest.approx(said.loss.item(), rel=1e-5)
        peer.zero_grad()
        said.loss.backward()
        for name, parameter in peer.named_parameters():
            assert parameter.grad is not None
            mine, grad = learnt(name, grad_of[name]), learnt(name, parameter.grad.numpy())
            assert np.linalg.norm(mine - grad) / np.linalg.norm(grad) < 1e-5, name


def losses_of_ours(config: TrainConfig) -> tuple[np.ndarray, Params]:
    """Of every update, and the weights before the first."""
    engine = ScanEngine(SPEC.teacher_problem(config))
    state, losses = engine.init(), []
    params = jax.tree.map(lambda leaf: np.array(leaf[0]), state.params)
    for _ in range(STEPS):
        state, metrics = engine.record(engine.advance(state, None, 1))
        losses.append(float(metrics["train_loss"][0]))
    return np.asarray(losses), params


def losses_of_theirs(
    config: TrainConfig, model: torch.nn.Module, batches: Sequence[Theirs]
) -> np.ndarray:
    """Of the same updates of Hugging Face's model, by the optimiser and the schedule that its
    trainer has; the schedule begins with an update at rate zero, which ours leaves out."""
    (rate,), clip_norm = config.optim.learning_rate, config.optim.clip_norm
    assert clip_norm is not None
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=config.optim.betas, eps=1e-8, weight_decay=0.0
    )
    warmup = round(config.optim.warmup_fraction * STEPS)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, STEPS + 1)
    optimizer.step()  # of nothing: there is no gradient yet
    losses = []
    for batch in batches:
        schedule.step()
        # Not by their own loss, which is in float32 whatever the model is.
        logits_BxTxV = model(batch.tokens_BxT).logits[:, :-1]
        loss = cross_entropy(logits_BxTxV.flatten(0, 1), batch.labels_BxT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return np.asarray(losses)


@pytest.mark.parametrize("what", ["every token and the end", "few boundaries"])
def test_losses_of_a_run_are_those_of_hugging_face(what: str) -> None:
    """All 50, to 1e-5 nats, which is what float32 leaves: it rounds losses between 1 and 2 to
    1.2e-7, and what sums and updates round adds up to some ten times as much. Hugging Face's model
    in float64 says that neither of the two runs in float32 is off by more."""
    training = TrainingConfig(STEPS, 8, eval_every=STEPS, eval_examples=8)
    config = config_of(SUPERVISED[what], training)
    ours, params = losses_of_ours(config)
    key = seed_key(training.seed, "teacher/train-data")
    batches = [
        theirs_of(config, jax.random.fold_in(key, step), training.batch_size)
        for step in range(STEPS)
    ]
    theirs = losses_of_theirs(config, gpt2(params, config.model), batches)
    exact = losses_of_theirs(config, gpt2(params, config.model).double(), batches)
    assert ours[0] - ours[-1] > 0.2
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-5)
    np.testing.assert_allclose(theirs, exact, rtol=0, atol=1e-5)
