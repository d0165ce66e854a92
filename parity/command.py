"""What `python -m parity.train` and `python -m parity.distill` have in common on the command
line."""

from dataclasses import dataclass

from common.base.config import PresetName, validate
from common.train.command import TrainingCommand
from parity.config import Compat, ConfigT, ModelName, as_published


@dataclass(frozen=True)
class RunCommand(TrainingCommand[ConfigT]):
    """Arguments of a command that trains."""

    preset: PresetName = "quick"
    """Sets the defaults of the flags that describe the run."""
    model: ModelName | None = None
    """Instead of the preset's model: sets the defaults of --model.* and --optim.* to the published
    ones."""
    compat: Compat = "none"
    """authors: follow the published code where it deviates (support, evaluation examples, weights
    of reverse KL, length of a cosine schedule)."""

    def validated(self) -> ConfigT:
        """The configuration, with the published code's deviations where they are asked for.

        Raises:
            UserError: a field is out of range.
        """
        return validate(as_published(self.config) if self.compat == "authors" else self.config)
