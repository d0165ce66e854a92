"""What every experiment's presets are asked for."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from common.base.errors import UserError
from common.experiment.stages import Stage


def look_at_stages(
    stages: Sequence[Stage],
    mains: Mapping[str, Callable[[list[str]], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Dry run of each training stage before anything exists; what reads a run that does not exist
    yet says so."""
    for stage in stages:
        module, *words = stage.command
        if module not in mains:
            continue
        try:
            mains[module]([*words, "--dry-run"])
            assert "dry run" in capsys.readouterr().out
        except UserError as error:
            assert stage.needs
            assert "does not exist" in str(error)
