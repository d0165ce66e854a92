"""What `config.json`, `manifest.json` and `metrics.jsonl` hold in every run, whatever its experiment; they may hold more."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from common.config import explain
from common.errors import RunError

_LENIENT = ConfigDict(extra="ignore", strict=True)
_Step = Annotated[str, Field(pattern=r"^\d+$")]


@dataclass
class _Record:
    __pydantic_config__ = _LENIENT
    experiment: str
    stage: str
    config: dict[str, Any]
    paths: dict[str, str]


@dataclass
class _Resume:
    __pydantic_config__ = _LENIENT
    step: int
    sha256: str


@dataclass
class _Manifest:
    __pydantic_config__ = _LENIENT
    config_hash: str
    status: Literal["started", "finished"]
    seeds: Annotated[list[int], Field(min_length=1)]
    learning_rates: Annotated[list[float], Field(min_length=1)]
    checkpoints: dict[_Step, str]
    commit: str
    python: str
    packages: dict[str, str]
    device: dict[str, Any]
    waiting: dict[_Step, str] = field(default_factory=dict)
    resume: _Resume | None = None
    wall_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.status == "finished" and self.wall_seconds is None:
            raise ValueError("wall_seconds: missing, though the run is finished")
        if len(self.seeds) != len(self.learning_rates):
            raise ValueError(f"{len(self.seeds)} seeds, but {len(self.learning_rates)} learning_rates")


@dataclass
class _Evaluation:
    __pydantic_config__ = _LENIENT
    step: int
    examples: int
    accuracy: list[float | None]


def check_record(values: object, path: Path) -> None:
    """Raise a RunError unless these are the values of a `config.json`."""
    _check(_Record, values, path)


def check_manifest(values: object, path: Path) -> None:
    """Raise a RunError unless these are the values of a `manifest.json`."""
    _check(_Manifest, values, path)


def check_metrics(values: object, path: Path) -> None:
    """Raise a RunError unless these are the lines of a `metrics.jsonl`."""
    _check(list[_Evaluation], values, path)


def corrupted(path: Path, reason: str) -> RunError:
    """The error of a file that a run cannot be read from."""
    return RunError(f"{path} is corrupted ({reason}); if {path.parent} is a run of yours, delete it and run its command again")


def _check(kind: Any, values: object, path: Path) -> None:
    try:
        TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise corrupted(path, explain(error).splitlines()[0]) from None
