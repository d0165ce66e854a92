"""What all commands that train have in common on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from common.base.config import Runtime, flags_of, validate
from common.base.errors import UserError
from common.runs.lineage import source
from common.runs.tuning import TunedBy, tuned_rate

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class TrainingCommand(Generic[ConfigT]):
    """Arguments of a command that trains; the configuration has a field `optim`."""

    config: Annotated[ConfigT, tyro.conf.arg(name="")]
    run_dir: Path = tyro.MISSING
    """Where the run is kept. The same command on a finished run does nothing, on an interrupted one
    goes on."""
    tuned_by: Path | None = None
    """A finished sweep over learning rates (a run with several --optim.learning-rate): take its
    best one."""
    dry_run: bool = False
    """Print what would be done (which teacher checkpoint supervises which student steps, and which
    are missing), and stop."""
    runtime: Runtime = Runtime()

    def validated(self) -> ConfigT:
        """The configuration.

        Raises:
            UserError: a field is out of range.
        """
        return validate(self.config)

    def resolved(self, criterion: TunedBy = "time") -> ConfigT:
        """The validated configuration with the tuned learning rate where it is asked for.

        Args:
            criterion: by which the best rate of a sweep is chosen.

        Raises:
            UserError: a field is out of range, or the sweep is missing or unfinished.
        """
        config = cast(Any, self.validated())
        if self.tuned_by is None:
            return config
        return replace(
            config,
            optim=replace(config.optim, learning_rate=(tuned_rate(self.tuned_by, criterion),)),
        )

    def check_rate(self, args: Sequence[str]) -> None:
        """Refuse two answers to the question of the learning rate.

        Args:
            args: what was typed.

        Raises:
            UserError: both a sweep and a rate are given.
        """
        if self.tuned_by is not None and "optim.learning_rate" in flags_of(args):
            raise UserError(
                "--tuned-by takes the learning rate that did best in a sweep; leave out"
                " --optim.learning-rate, or --tuned-by"
            )

    def made_from(self, config: ConfigT) -> dict[str, Any]:
        """The sweep that chose the rate of a resolved configuration, as the run's manifest records
        it; nothing without one."""
        if self.tuned_by is None:
            return {}
        (rate,) = cast(Any, config).optim.learning_rate
        return {"tuned_by": source(self.tuned_by) | {"learning_rate": rate}}
