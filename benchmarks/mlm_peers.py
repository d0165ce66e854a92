"""Training steps of Hugging Face's BERT on masked text in PyTorch, for `benchmarks.mlm_bert`."""

import torch
import transformers
from torch import nn

from benchmarks.gpu import Scale
from benchmarks.gpu_peers import CLIP_NORM, IGNORED, POOL_BATCHES, adam, bert, repeated
from benchmarks.gpu_timing import Attention, Logits
from benchmarks.mlm_bert import config_of
from benchmarks.side import Work
from mlm.config import TrainConfig
from mlm.data import num_asked
from mlm.text import Text


def steps_of_peer(
    corpus: str, scale: Scale, steps: int, logits: Logits, attention: Attention, threads: int
) -> Work:
    """Rounds of `steps` updates: Adam with clipped gradients, on rows of random words without
    padding."""
    torch.set_num_threads(threads)
    config = config_of(corpus, scale)
    text, length = config.data.load(), config.data.length
    model = bert(config.model, text.vocabulary.size, length, attention).train()
    optimizer = adam(model, config.optim.learning_rate[0], config.optim.betas)
    words = torch.tensor(text.word_ids)
    num_rows = POOL_BATCHES * config.training.batch_size
    pool_NxT = words[torch.randint(len(words), (num_rows, length))]

    def step() -> None:
        chosen_B = torch.randint(num_rows, (config.training.batch_size,))
        inputs_BxT, at_BxP, labels_BxP = masked(config, text, words, pool_NxT[chosen_B])
        loss = loss_of(model, logits, inputs_BxT, at_BxP, labels_BxP)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()

    return Work(repeated(step, steps))


def masked(
    config: TrainConfig, text: Text, words: torch.Tensor, tokens_BxT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the model sees, the positions that it is asked about, and the words there."""
    masking, asked = config.masking, num_asked(config.data.length, config.masking)
    at_BxP = torch.rand(tokens_BxT.shape).argsort(1)[:, :asked]
    labels_BxP = tokens_BxT.gather(1, at_BxP)
    fate_BxP = torch.rand(labels_BxP.shape)
    random_BxP = words[torch.randint(len(words), labels_BxP.shape)]
    is_random_BxP = fate_BxP < masking.mask_share + masking.random_share
    seen_BxP = torch.where(is_random_BxP, random_BxP, labels_BxP)
    seen_BxP = torch.where(fate_BxP < masking.mask_share, text.pieces.ids.mask, seen_BxP)
    return tokens_BxT.scatter(1, at_BxP, seen_BxP), at_BxP, labels_BxP


def loss_of(
    model: transformers.BertForMaskedLM,
    logits: Logits,
    inputs_BxT: torch.Tensor,
    at_BxP: torch.Tensor,
    labels_BxP: torch.Tensor,
) -> torch.Tensor:
    """The mean loss: the model's own, or by its parts, which compute logits at the positions that
    are asked about alone."""
    if logits == "all":
        labels_BxT = torch.full_like(inputs_BxT, IGNORED).scatter(1, at_BxP, labels_BxP)
        return model(inputs_BxT, labels=labels_BxT).loss
    hidden_BxTxM = model.bert(inputs_BxT).last_hidden_state
    at_BxPxM = at_BxP[..., None].expand(-1, -1, hidden_BxTxM.shape[-1])
    logits_BxPxV = model.cls(hidden_BxTxM.gather(1, at_BxPxM))
    return nn.functional.cross_entropy(logits_BxPxV.flatten(0, 1), labels_BxP.flatten())
