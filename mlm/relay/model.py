"""Classifiers of sentences."""

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.nn.bert import BERTConfig, functional_classifier
from common.nn.functional import Functional


@configuration
class ClassifierModel(BERTConfig):
    """BERT with a head for classes."""

    positions: PositiveInt | None = None
    """Learned positions (BERT's: 512); None: as many as a row has tokens."""


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
    return functional_classifier(config, vocabulary, config.positions or length, num_classes)
