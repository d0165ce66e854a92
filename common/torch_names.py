"""Parameters under the names and in the layouts of PyTorch models."""

import numpy as np

from common.errors import UserError
from common.models import Params


def to_torch(params: Params) -> dict[str, np.ndarray]:
    """The parameters of any model of this module under PyTorch's names and in its layouts; the model is told by the names of its parts."""
    return transformer_to_torch(params) if "blocks" in params else mlp_to_torch(params)


def mlp_to_torch(params: Params) -> dict[str, np.ndarray]:
    """The MLP's parameters under the names and in the layouts of `torch.nn.Sequential(Linear, ReLU, Linear)`."""
    layers = {"0": params["hidden"], "2": params["output"]}
    kernels = {f"{name}.weight": np.ascontiguousarray(np.asarray(layer["kernel"]).T) for name, layer in layers.items()}
    return kernels | {f"{name}.bias": np.ascontiguousarray(layer["bias"]) for name, layer in layers.items()}


def transformer_to_torch(params: Params) -> dict[str, np.ndarray]:
    """A pre-norm Transformer's parameters under the names and in the layouts of Hugging Face's `GPT2LMHeadModel` with an untied head.

    Linear layers of the blocks keep their layout `(in, out)`, which is that of GPT-2's `Conv1D`; the head's is `(out, in)`.

    Raises:
        UserError: a post-norm Transformer, which GPT-2 has no names for.
    """
    if "norm_last" not in params:
        raise UserError("a Transformer with model.norm = post cannot be written under the names of GPT-2, which normalises before every sublayer")
    names = {
        "norm_attention": "ln_1",
        "query_key_value": "attn.c_attn",
        "attention_output": "attn.c_proj",
        "norm_mlp": "ln_2",
        "mlp_hidden": "mlp.c_fc",
        "mlp_output": "mlp.c_proj",
    }
    layers = {f"transformer.h.{i}.{theirs}": block[ours] for i, block in params["blocks"].items() for ours, theirs in names.items()}
    layers["transformer.ln_f"] = params["norm_last"]
    tensors = {f"{name}.bias": layer["bias"] for name, layer in layers.items()}
    tensors |= {f"{name}.weight": layer["scale" if "scale" in layer else "kernel"] for name, layer in layers.items()}
    tensors["transformer.wte.weight"], tensors["transformer.wpe.weight"] = params["token"]["embedding"], params["position"]["embedding"]
    tensors["lm_head.weight"] = np.asarray(params["head"]["kernel"]).T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
