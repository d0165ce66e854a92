"""The causal models of text: GPT-2 and GPT-NeoX."""

from dataclasses import fields
from typing import Literal

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError
from common.nn.functional import Functional
from common.nn.gpt2 import GPT2Config, functional_gpt2, gpt2_flops
from common.nn.neox import NeoXConfig, functional_neox, neox_flops


@configuration
class NextTextModel(NeoXConfig):
    """GPT-2 or GPT-NeoX over the tokens of text; only GPT-NeoX reads `rotary`, `rotary_base` and
    `parallel`."""

    architecture: Literal["gpt2", "gpt-neox"] = "gpt2"
    positions: PositiveInt | None = None
    """GPT-2's learned positions (published: 1024), or the longest row that GPT-NeoX was made for;
    None: as many as it reads of a row."""
    vocabulary: PositiveInt | None = None
    """Token ids that it embeds and predicts (Pythia's are padded to 50,304); None: those of the
    corpus."""

    def __post_init__(self) -> None:
        if self.architecture == "gpt-neox":
            super().__post_init__()
            return
        for name in ("rotary", "rotary_base", "parallel"):
            if getattr(self, name) != getattr(NextTextModel, name):
                raise ValueError(
                    f"model.{name} = {getattr(self, name)}: GPT-2 has no rotary positions and reads"
                    " one sublayer after the other; give --model.architecture gpt-neox, or leave it"
                    " out"
                )

    @property
    def gpt2(self) -> GPT2Config:
        """What of it is GPT-2's."""
        return GPT2Config(**{field.name: getattr(self, field.name) for field in fields(GPT2Config)})

    @property
    def is_of_one_length(self) -> bool:
        """Whether it can read rows of the length alone that it was trained on."""
        return self.architecture == "gpt2" and self.positions is None

    def num_ids(self, corpus: int) -> int:
        """Token ids that it knows, on a corpus with so many."""
        return self.vocabulary or corpus


def model_of(config: NextTextModel, vocabulary: int, length: int) -> Functional:
    """A model of rows; `apply` takes `TokenInputs` to logits `(B, P, V)`, or `(B, T - 1, V)`.

    Args:
        config: which.
        vocabulary: tokens of the corpus.
        length: T.

    Raises:
        UserError: rows have more tokens than it has positions, or the corpus more than it knows.
    """
    num_read, num_ids = length - 1, config.num_ids(vocabulary)
    if config.positions is not None and config.positions < num_read:
        raise UserError(
            f"--model.positions {config.positions}: of rows of {length} tokens (--data.length) a"
            f" model reads {num_read}; give at least as many, or None"
        )
    if num_ids < vocabulary:
        raise UserError(
            f"--model.vocabulary {num_ids}: the corpus has {vocabulary} token ids; give at least as"
            " many, or None"
        )
    if config.architecture == "gpt2":
        return functional_gpt2(config.gpt2, num_ids, config.positions or num_read, num_ids)
    return functional_neox(config, num_ids)


def model_flops(config: NextTextModel, vocabulary: int, num_read: int) -> float:
    """Operations of the products in one forward pass of one row.

    Args:
        config: of the model.
        vocabulary: tokens of the corpus.
        num_read: tokens that it reads of a row, behind each of which one is predicted.
    """
    num_ids = config.num_ids(vocabulary)
    if config.architecture == "gpt2":
        return gpt2_flops(config.gpt2, num_ids, num_read, num_read)
    return neox_flops(config, num_ids, num_read, num_read)
