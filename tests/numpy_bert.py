"""BERT in NumPy and float64, written from its paper's equations: a reference for what is asked of
models in float32."""

from collections.abc import Mapping

import numpy as np
from scipy import special

EPSILON = 1e-12


class NumpyBERT:
    """One row at a time."""

    def __init__(self, tensors: Mapping[str, np.ndarray], heads: int) -> None:
        """Weights under Hugging Face's names (`common.formats.torch_names`)."""
        self.tensors = {name: np.asarray(leaf, np.float64) for name, leaf in tensors.items()}
        self.heads = heads
        self.layers = len([name for name in tensors if name.endswith("intermediate.dense.bias")])

    def distribution(self, tokens_T: np.ndarray, visible_T: np.ndarray, at: int) -> np.ndarray:
        """Over the vocabulary at one position, `(V,)`."""
        embeddings = "bert.embeddings"
        x_TxM = self.tensors[f"{embeddings}.word_embeddings.weight"][tokens_T]
        x_TxM = x_TxM + self.tensors[f"{embeddings}.position_embeddings.weight"][: len(tokens_T)]
        x_TxM = x_TxM + self.tensors[f"{embeddings}.token_type_embeddings.weight"][0]
        x_TxM = self._norm(f"{embeddings}.LayerNorm", x_TxM)
        for i in range(self.layers):
            x_TxM = self._block(f"bert.encoder.layer.{i}", x_TxM, visible_T)
        head = "cls.predictions"
        hidden_M = gelu(self._linear(f"{head}.transform.dense", x_TxM[at]))
        hidden_M = self._norm(f"{head}.transform.LayerNorm", hidden_M)
        return special.softmax(self._linear(f"{head}.decoder", hidden_M))

    def _block(self, name: str, x_TxM: np.ndarray, visible_T: np.ndarray) -> np.ndarray:
        query, key, value = (
            np.split(self._linear(f"{name}.attention.self.{part}", x_TxM), self.heads, axis=1)
            for part in ("query", "key", "value")
        )
        of_heads = []
        for q_TxK, k_TxK, v_TxK in zip(query, key, value, strict=True):
            scores_TxT = q_TxK @ k_TxK.T / np.sqrt(q_TxK.shape[1])
            scores_TxT = np.where(visible_T[None], scores_TxT, -np.inf)
            of_heads.append(special.softmax(scores_TxT, axis=1) @ v_TxK)
        attended_TxM = self._linear(f"{name}.attention.output.dense", np.hstack(of_heads))
        y_TxM = self._norm(f"{name}.attention.output.LayerNorm", x_TxM + attended_TxM)
        inner = gelu(self._linear(f"{name}.intermediate.dense", y_TxM))
        return self._norm(
            f"{name}.output.LayerNorm", y_TxM + self._linear(f"{name}.output.dense", inner)
        )

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the standard normal distribution function."""
    return x * special.ndtr(x)
