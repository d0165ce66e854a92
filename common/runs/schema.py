"""The contents of `config.json`, `manifest.json` and `metrics.jsonl` in a run of any experiment;
they may hold more."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from common.base.config import explain
from common.base.errors import RunError, UserError

_LENIENT = ConfigDict(extra="ignore")
_Step = Annotated[StrictStr, Field(pattern=r"^\d+$")]


@dataclass
class _Record:
    __pydantic_config__ = _LENIENT
    experiment: StrictStr
    stage: StrictStr
    config: dict[StrictStr, Any]
    paths: dict[StrictStr, StrictStr]


@dataclass
class _Resume:
    __pydantic_config__ = _LENIENT
    step: StrictInt
    sha256: StrictStr


@dataclass
class _Manifest:
    __pydantic_config__ = _LENIENT
    config_hash: StrictStr
    status: Literal["started", "finished"]
    seeds: Annotated[list[StrictInt], Field(min_length=1)]
    learning_rates: Annotated[list[StrictFloat], Field(min_length=1)]
    checkpoints: dict[_Step, StrictStr]
    commit: StrictStr
    python: StrictStr
    packages: dict[StrictStr, StrictStr]
    device: dict[StrictStr, Any]
    waiting: dict[_Step, StrictStr] = field(default_factory=dict)
    resume: _Resume | None = None
    wall_seconds: StrictFloat | None = None

    def __post_init__(self) -> None:
        if self.status == "finished" and self.wall_seconds is None:
            raise ValueError("wall_seconds: missing, though the run is finished")
        if len(self.seeds) != len(self.learning_rates):
            raise ValueError(
                f"{len(self.seeds)} seeds, but {len(self.learning_rates)} learning_rates"
            )


@dataclass
class _Evaluation:
    __pydantic_config__ = _LENIENT
    step: StrictInt
    examples: StrictInt
    accuracy: list[StrictFloat | None]


_RECORD = TypeAdapter(_Record)
_MANIFEST = TypeAdapter(_Manifest)
_METRICS = TypeAdapter(list[_Evaluation])


def check_record(values: object, path: Path) -> None:
    """Check the values of a `config.json`.

    Raises:
        UserError: they are not those of a run.
        RunError: they are damaged.
    """
    _check(_RECORD, values, path)


def check_manifest(values: object, path: Path) -> None:
    """Check the values of a `manifest.json`; errors as in `check_record`."""
    _check(_MANIFEST, values, path)


def check_metrics(values: object, path: Path) -> None:
    """Raise a RunError unless these are the lines of a `metrics.jsonl`."""
    try:
        _METRICS.validate_python(values)
    except ValidationError as error:
        raise corrupted(path, _reason(error)) from None


def corrupted(path: Path, reason: str) -> RunError:
    """The error for a file of a run that cannot be read."""
    return RunError(
        f"{path} is corrupted ({reason}); if {path.parent} is a run of yours, delete it and run its"
        " command again"
    )


def _check(adapter: TypeAdapter[Any], values: object, path: Path) -> None:
    if not isinstance(values, dict):
        raise _no_run(path, "holds no JSON object")
    try:
        adapter.validate_python(values)
    except ValidationError as error:
        entries = [item["loc"] for item in error.errors() if item["type"] == "missing"]
        if missing := [str(names[0]) for names in entries if len(names) == 1]:
            raise _no_run(path, f"has no {', '.join(missing)}") from None
        raise corrupted(path, _reason(error)) from None


def _no_run(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path.parent} is not a run directory: {path.name} {reason}; give the directory of a run"
    )


def _reason(error: ValidationError) -> str:
    return re.sub(r" or an instance of _\w+", "", explain(error).splitlines()[0])
