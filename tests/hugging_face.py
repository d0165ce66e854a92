"""Hugging Face's models with our weights, for tests."""

from collections.abc import Mapping

import numpy as np
import torch
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from common.formats.torch_names import to_torch
from common.nn.functional import Params
from common.nn.gpt2 import GPT2Config


def gpt2(params: Params, config: GPT2Config) -> GPT2LMHeadModel:
    """GPT-2 with our weights, without dropout."""
    tensors = {name: torch.from_numpy(np.array(leaf)) for name, leaf in to_torch(params).items()}
    return gpt2_of(tensors, config)


def gpt2_of(tensors: Mapping[str, torch.Tensor], config: GPT2Config) -> GPT2LMHeadModel:
    """The same of weights under its own names, off which vocabulary and positions are read."""
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


def learnt(name: str, tensor: np.ndarray) -> np.ndarray:
    """A parameter of GPT-2, or its gradient, without what is no part of the model: a bias of the
    keys adds the same to all scores of a query, so that its gradient is nothing but rounding."""
    if not name.endswith("c_attn.bias"):
        return tensor
    return np.delete(tensor.reshape(3, -1), 1, axis=0)
