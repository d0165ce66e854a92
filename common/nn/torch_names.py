"""Parameters under the names and in the layouts of PyTorch models."""

import numpy as np

from common.nn.functional import Params

BERT_POSITIONS = 512


def to_torch(params: Params) -> dict[str, np.ndarray]:
    """The parameters of any model of this module under PyTorch's names and in its layouts; the
    model is told by the names of its parts."""
    if "blocks" not in params:
        return mlp_to_torch(params)
    if "norm_first" in params:
        return bert_to_torch(params)
    return gpt2_to_torch(params)


def ties_embeddings(params: Params) -> bool | None:
    """Whether the token embeddings are the last layer's weights too, which Hugging Face's
    configuration must say; None: there are none."""
    return "norm_first" in params if "blocks" in params else None


def mlp_to_torch(params: Params) -> dict[str, np.ndarray]:
    """The MLP's parameters under the names and in the layouts of `torch.nn.Sequential(Linear, ReLU,
    Linear)`."""
    layers = {"0": params["hidden"], "2": params["output"]}
    kernels = {
        f"{name}.weight": np.ascontiguousarray(np.asarray(layer["kernel"]).T)
        for name, layer in layers.items()
    }
    return kernels | {
        f"{name}.bias": np.ascontiguousarray(layer["bias"]) for name, layer in layers.items()
    }


def gpt2_to_torch(params: Params) -> dict[str, np.ndarray]:
    """GPT-2's parameters under the names and in the layouts of Hugging Face's `GPT2LMHeadModel`
    with an untied head.

    Linear layers of the blocks keep their layout `(in, out)`, which is that of GPT-2's `Conv1D`;
    the head's is `(out, in)`.
    """
    names = {
        "norm_attention": "ln_1",
        "query_key_value": "attn.c_attn",
        "attention_output": "attn.c_proj",
        "norm_mlp": "ln_2",
        "mlp_hidden": "mlp.c_fc",
        "mlp_output": "mlp.c_proj",
    }
    layers = {
        f"transformer.h.{i}.{theirs}": block[ours]
        for i, block in params["blocks"].items()
        for ours, theirs in names.items()
    }
    layers["transformer.ln_f"] = params["norm_last"]
    tensors = {f"{name}.bias": layer["bias"] for name, layer in layers.items()}
    tensors |= {
        f"{name}.weight": layer["scale" if "scale" in layer else "kernel"]
        for name, layer in layers.items()
    }
    tensors["transformer.wte.weight"], tensors["transformer.wpe.weight"] = (
        params["token"]["embedding"],
        params["position"]["embedding"],
    )
    tensors["lm_head.weight"] = np.asarray(params["head"]["kernel"]).T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def bert_to_torch(params: Params) -> dict[str, np.ndarray]:
    """BERT's parameters under the names and in the layouts of Hugging Face's `BertForMaskedLM`;
    without token types, one that is zero, and without places, as many as BERT has that are."""
    embeddings, head = "bert.embeddings", "cls.predictions"
    width = params["token"]["embedding"].shape[1]
    types = np.zeros((1, width), np.float32)
    if "token_type" in params:
        types = params["token_type"]["embedding"]
    places = np.zeros((BERT_POSITIONS, width), np.float32)
    if "position" in params:
        places = params["position"]["embedding"]
    tensors = {
        f"{embeddings}.word_embeddings.weight": params["token"]["embedding"],
        f"{embeddings}.position_embeddings.weight": places,
        f"{embeddings}.token_type_embeddings.weight": types,
        f"{head}.decoder.weight": params["token"]["embedding"],
        f"{head}.decoder.bias": params["head"]["bias"],
        f"{head}.bias": params["head"]["bias"],
    }
    norms = {
        f"{embeddings}.LayerNorm": params["norm_first"],
        f"{head}.transform.LayerNorm": params["head"]["norm"],
    }
    linears = {f"{head}.transform.dense": params["head"]["transform"]}
    for i, block in params["blocks"].items():
        name = f"bert.encoder.layer.{i}"
        norms |= {
            f"{name}.attention.output.LayerNorm": block["norm_attention"],
            f"{name}.output.LayerNorm": block["norm_mlp"],
        }
        linears |= {f"{name}.attention.output.dense": block["attention_output"]}
        linears |= {
            f"{name}.intermediate.dense": block["mlp_hidden"],
            f"{name}.output.dense": block["mlp_output"],
        }
        for j, part in enumerate(("query", "key", "value")):
            columns = slice(j * width, (j + 1) * width)
            linears[f"{name}.attention.self.{part}"] = {
                key: leaf[..., columns] for key, leaf in block["query_key_value"].items()
            }
    for name, norm in norms.items():
        tensors |= {f"{name}.weight": norm["scale"], f"{name}.bias": norm["bias"]}
    for name, linear in linears.items():
        tensors |= {
            f"{name}.weight": np.asarray(linear["kernel"]).T,
            f"{name}.bias": linear["bias"],
        }
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
