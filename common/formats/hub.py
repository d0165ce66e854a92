"""A checkpoint as a folder that Hugging Face's `transformers` opens: `config.json`, weights, a
card, and the tokeniser where there is one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import save

from common.base.errors import UserError
from common.formats.folder import CONFIG, TOKENIZER, WEIGHTS
from common.formats.torch_names import (
    CLASSIFIER,
    PLACES,
    TYPES,
    WORDS,
    architecture_of,
    ties_embeddings,
    to_torch,
)
from common.nn import bert, gpt2, neox
from common.nn.functional import Params

CLASSES = f"{CLASSIFIER}.weight"
CARD, TOKENIZER_CONFIG = "README.md", "tokenizer_config.json"
NEOX_POSITIONS = 2048
"""The longest sequence that is named where a model with rotary positions has none (Pythia's)."""
_ROLES = {
    "[PAD]": "pad_token",
    "[UNK]": "unk_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
    "<|endoftext|>": "eos_token",
}
"""What special tokens are for."""


@dataclass(frozen=True)
class Checkpoint:
    """What is exported."""

    params: Params
    model: Mapping[str, Any]
    """The model's part of the configuration."""
    metadata: Mapping[str, str]
    """Where it comes from: for the weights' file, and for the card."""
    tokenizer: bytes | None
    """The file `tokenizer.json`."""
    labels: Sequence[str] | None = None
    """The names of a classifier's classes; None: they have none."""


def files_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of its folder, by name.

    Raises:
        UserError: `transformers` has no such model.
    """
    tensors = to_torch(checkpoint.params)
    config = _config(checkpoint, tensors)
    files = {
        CONFIG: _json(config),
        WEIGHTS: save(tensors, dict(checkpoint.metadata)),
        CARD: _card(checkpoint, config).encode(),
    }
    if checkpoint.tokenizer is not None:
        files[TOKENIZER] = checkpoint.tokenizer
        files[TOKENIZER_CONFIG] = _json(_tokenizer_config(checkpoint.tokenizer))
    return files


def _config(checkpoint: Checkpoint, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What `config.json` says."""
    architecture = architecture_of(checkpoint.params)
    if architecture == "mlp":
        raise UserError(
            "an MLP is none of the models of transformers; leave out --format hf, and torch.nn"
            " takes the file (see README)"
        )
    values = {"bert": _bert, "gpt2": _gpt2, "gpt-neox": _neox}[architecture](
        checkpoint.model, tensors
    )
    if checkpoint.labels is not None:
        values |= _label_names(checkpoint.labels)
    return values | {
        "tie_word_embeddings": ties_embeddings(checkpoint.params),
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _bert(model: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    vocabulary, width = tensors[WORDS].shape
    kind = {"architectures": ["BertForMaskedLM"]}
    if CLASSES in tensors:
        names = [f"LABEL_{i}" for i in range(len(tensors[CLASSES]))]
        kind = {"architectures": ["BertForSequenceClassification"], **_label_names(names)}
    return {
        **kind,
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": model["layers"],
        "num_attention_heads": model["heads"],
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "layer_norm_eps": bert.EPSILON,
        "max_position_embeddings": len(tensors[PLACES]),
        "type_vocab_size": len(tensors[TYPES]),
        "initializer_range": model["init_std"],
        "hidden_dropout_prob": model["dropout"],
        "attention_probs_dropout_prob": model["dropout"],
    }


def _label_names(names: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _gpt2(model: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    vocabulary, width = tensors["transformer.wte.weight"].shape
    num_outputs = len(tensors["lm_head.weight"])
    if num_outputs != vocabulary:
        raise UserError(
            f"this model tells {num_outputs} classes of sequences over {vocabulary} tokens, and"
            " GPT-2 of transformers predicts tokens; leave out --format hf"
        )
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocabulary,
        "n_embd": width,
        "n_layer": model["layers"],
        "n_head": model["heads"],
        "n_positions": len(tensors["transformer.wpe.weight"]),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": gpt2.EPSILON,
        "initializer_range": model["init_std"],
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), model["dropout"]),
    }


def _neox(model: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    vocabulary, width = tensors["gpt_neox.embed_in.weight"].shape
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": model["layers"],
        "num_attention_heads": model["heads"],
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "layer_norm_eps": neox.EPSILON,
        "max_position_embeddings": model["positions"] or NEOX_POSITIONS,
        "rotary_pct": model["rotary"],
        "rotary_emb_base": model["rotary_base"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": model["rotary_base"],
            "partial_rotary_factor": model["rotary"],
        },
        "use_parallel_residual": model["parallel"],
        "initializer_range": model["init_std"],
        "hidden_dropout": model["dropout"],
        "attention_dropout": model["dropout"],
    }


def _tokenizer_config(tokenizer: bytes) -> dict[str, Any]:
    """What the special tokens are for, of those that the tokeniser has."""
    tokens = _special_tokens(tokenizer)
    roles = {role: token for token, role in _ROLES.items() if token in tokens}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **roles}


def _special_tokens(tokenizer: bytes) -> set[str]:
    return {entry["content"] for entry in json.loads(tokenizer).get("added_tokens", ())}


def _card(checkpoint: Checkpoint, config: Mapping[str, Any]) -> str:
    known = "\n".join(f"- {name}: {value}" for name, value in checkpoint.metadata.items())
    rows = ""
    if checkpoint.tokenizer is not None:
        tokens = _special_tokens(checkpoint.tokenizer)
        begin = "[CLS]" if "[CLS]" in tokens else "<|endoftext|>"
        end = " and end with [SEP]" if config["model_type"] == "bert" else ""
        rows = f"\nIt has read rows that begin with {begin}{end}.\n"
    return (
        "---\nlibrary_name: transformers\n---\n\n"
        f"# {config['architectures'][0]} of a study of implicit curricula\n\n"
        f"A checkpoint of a training run, as `python -m common.export` wrote it:\n\n{known}\n{rows}"
    )


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()
