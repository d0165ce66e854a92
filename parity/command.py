"""What `python -m parity.train` and `python -m parity.distill` have in common on the command line."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Generic

import tyro

from common.config import PresetName, Runtime, validate
from common.tuning import tuned_rate
from parity.config import Compat, ConfigT, ModelName, as_published


@dataclass(frozen=True)
class RunCommand(Generic[ConfigT]):
    """Arguments of a command that trains."""

    config: Annotated[ConfigT, tyro.conf.arg(name="")]
    run_dir: Path = tyro.MISSING
    """Where the run is kept. The same command on a finished run does nothing, on an interrupted one goes on."""
    preset: PresetName = "quick"
    """Sets the defaults of all other flags."""
    model: ModelName | None = None
    """Instead of the preset's model: sets the defaults of --model.* and --optim.* to the published ones."""
    tuned_by: Path | None = None
    """A finished sweep over learning rates (a run with several --optim.learning-rate): take its best one."""
    compat: Compat = "none"
    """authors: follow the published code where it deviates (support, evaluation examples, weights of reverse KL, length of a cosine schedule)."""
    dry_run: bool = False
    """Print what would be done (which teacher checkpoint supervises which student steps, and which are missing), and stop."""
    runtime: Runtime = Runtime()

    def validated(self) -> ConfigT:
        """The configuration, with the published code's deviations where they are asked for.

        Raises:
            UserError: a field is out of range.
        """
        return validate(as_published(self.config) if self.compat == "authors" else self.config)

    def resolved(self) -> ConfigT:
        """The validated configuration with the tuned learning rate where it is asked for.

        Raises:
            UserError: a field is out of range, or the sweep is missing or unfinished.
        """
        config = self.validated()
        if self.tuned_by is None:
            return config
        return replace(config, optim=replace(config.optim, learning_rate=(tuned_rate(self.tuned_by),)))
