"""The experiments of this laboratory, a line each: whatever goes over all of them reads this list.

An experiment is a package with a module `spec`, which holds its `SPEC`, and a module `page`, which
holds its `PAGE`. Packages outside of this repository may be added by the environment variable
CURRICULUM_EXPERIMENTS, names with commas between them.
"""

import importlib
import os
from typing import Any

from common.base.errors import UserError
from common.experiment.spec import ExperimentSpec
from figures.page import Page

EXPERIMENTS = (
    "parity",
    "pcfg",
    "pcfg.next_token",
    "mlm",
    "mlm.relay",
)
VARIABLE = "CURRICULUM_EXPERIMENTS"


def names() -> tuple[str, ...]:
    """All experiments."""
    added = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return (*EXPERIMENTS, *added)


def spec_of(name: str) -> ExperimentSpec:
    """What an experiment is.

    Raises:
        UserError: there is none of this name, or it calls itself otherwise.
    """
    spec = _attribute(name, "spec", "SPEC")
    if spec.name != name:
        raise UserError(f"the SPEC of {name} has the name {spec.name}; give it that of its package")
    return spec


def page_of(name: str) -> Page:
    """What the report of an experiment holds.

    Raises:
        UserError: as `spec_of` does, or a claim has no figure.
    """
    page = _attribute(name, "page", "PAGE")
    for claim in spec_of(name).claims:
        if page.figure_of.get(claim) not in page.names:
            raise UserError(
                f"the PAGE of {name} has no figure for claim {claim}: figure_of gives"
                f" {page.figure_of.get(claim)}, its figures are {', '.join(page.names)}"
            )
    return page


def _attribute(name: str, module: str, attribute: str) -> Any:
    if name not in names():
        raise UserError(
            f"--experiment {name}: unknown experiment; choose one of {', '.join(names())}, or name"
            f" its package in the environment variable {VARIABLE}"
        )
    try:
        return getattr(importlib.import_module(f"{name}.{module}"), attribute)
    except ModuleNotFoundError as error:
        if error.name == f"{name}.{module}":
            raise UserError(
                f"the experiment {name} has no module {error.name}, which is to hold its"
                f" {attribute}"
            ) from None
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"{VARIABLE}: there is no package {error.name} on Python's path"
            ) from None
        raise
