"""Classifiers of sentences."""

import jax

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.nn.bert import BERTConfig, functional_classifier
from common.nn.functional import Functional, Inputs, Params

HEADS = {"pooler", "classifier"}
"""The parts of a classifier that an encoder does not have."""


@configuration
class ClassifierModel(BERTConfig):
    """BERT with a head for classes."""

    positions: PositiveInt | None = None
    """Learned positions (BERT's: 512); None: as many as a row has tokens."""
    head_only: bool = False
    """Whether pooler and classes alone are learnt, and the rest stays as it begins."""


def model_of(config: ClassifierModel, vocabulary: int, length: int, num_classes: int) -> Functional:
    """A classifier; `apply` takes `TokenInputs` to logits `(B, C)`.

    Raises:
        UserError: rows have more tokens than it has positions.
    """
    if config.positions is not None and config.positions < length:
        raise UserError(
            f"--model.positions {config.positions}: rows have up to {length} tokens, [CLS] and"
            " [SEP] among them (--data.length); give at least as many, or None"
        )
    model = functional_classifier(config, vocabulary, config.positions or length, num_classes)
    return with_fixed_body(model) if config.head_only else model


def with_fixed_body(model: Functional) -> Functional:
    """A classifier of which nothing but the head has a gradient."""

    def apply(params: Params, inputs: Inputs, key: jax.Array | None = None) -> jax.Array:
        body = {name: part for name, part in params.items() if name not in HEADS}
        return model.apply(params | jax.lax.stop_gradient(body), inputs, key)

    return model._replace(apply=apply)
