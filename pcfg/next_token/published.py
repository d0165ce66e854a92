"""Where the published code of next-token prediction deviates from what is meant (its folder
PCFG_autoregressive)."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from common.experiment.spec import Flags
from pcfg.next_token.config import StudentConfig

TEACHER_LAYERS, VOCABULARY, POSITIONS = 12, 50_257, 1024
"""GPT-2's defaults, which stay as they are: the published configuration sets no vocabulary, and
`num_layers`, which is no field of GPT-2's."""
Compat = Literal["none", "authors"]


@dataclass(frozen=True)
class NextTokenFlags(Flags):
    """Flags of runs on next tokens beside those of their configuration."""

    compat: Compat = "none"
    """authors: the published models, whose teacher has 12 layers instead of 4, and which all have
    1024 positions and 50,257 token ids."""

    def applied_to(self, config: Any) -> Any:
        """The configuration, with the published models where they are asked for."""
        if self.compat == "none":
            return config
        model = replace(config.model, vocabulary=VOCABULARY, positions=POSITIONS)
        if not isinstance(config, StudentConfig):
            model = replace(model, layers=TEACHER_LAYERS)
        return replace(config, model=model)
