"""The experiments of this laboratory, a line each: whatever goes over all of them reads this list.

An experiment is a package with a module `spec`, which holds its `SPEC`, and a module `page`, which
holds its `PAGE`. Packages outside of this repository may be added by the environment variable
CURRICULUM_EXPERIMENTS, names with commas between them.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from common.base.errors import UserError
from common.experiment.spec import ExperimentSpec
from figures.page import Page

EXPERIMENTS = (
    "parity",
    "pcfg",
)
VARIABLE = "CURRICULUM_EXPERIMENTS"


def names() -> tuple[str, ...]:
    """All experiments."""
    added = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return (*EXPERIMENTS, *added)


def spec_of(name: str) -> ExperimentSpec:
    """What an experiment is.

    Raises:
        UserError: there is none of this name.
    """
    return _attribute(name, "spec", "SPEC")


def page_of(name: str) -> Page:
    """What the report of an experiment holds; raises as `spec_of` does."""
    return _attribute(name, "page", "PAGE")


def source_of(name: str) -> Path:
    """The file of an experiment's page."""
    source = importlib.import_module(f"{name}.page").__file__
    assert source is not None
    return Path(source)


def _attribute(name: str, module: str, attribute: str) -> Any:
    if name not in names():
        raise UserError(
            f"--experiment {name}: unknown experiment; choose one of {', '.join(names())}, or name"
            f" its package in the environment variable {VARIABLE}"
        )
    try:
        return getattr(importlib.import_module(f"{name}.{module}"), attribute)
    except ModuleNotFoundError as error:
        if error.name not in (name, f"{name}.{module}"):
            raise
        raise UserError(f"{VARIABLE}: there is no module {error.name} on Python's path") from None
