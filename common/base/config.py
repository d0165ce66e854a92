"""Frozen dataclasses as configuration: presets, the command line (tyro), validation and JSON
(pydantic).

Ranges stand beside the fields they bound (`Annotated[int, Field(ge=1)]`); conditions between fields
stand in `__post_init__`.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast, dataclass_transform

import tyro
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from common.base.errors import RunError, UserError

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PresetName = Annotated[str, tyro.conf.arg(metavar="NAME", help="One of those described above.")]

Overrides = Mapping[str, Any]
"""Values for fields of a configuration, by their dotted names."""

ConfigT = TypeVar("ConfigT")
CommandT = TypeVar("CommandT")


@dataclass_transform(frozen_default=True)
def configuration(cls: type[ConfigT]) -> type[ConfigT]:
    """Class decorator: a frozen dataclass; pydantic refuses unknown keys and numbers that are not
    finite."""
    cast(Any, cls).__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
    return dataclasses.dataclass(frozen=True)(cls)


@dataclasses.dataclass(frozen=True)
class Preset(Generic[ConfigT]):
    """A named configuration. Its note says what it shows, its command, its cost and the numbers to
    expect."""

    name: str
    note: str
    config: ConfigT


@configuration
class TrainingConfig:
    """How long to train and what to record. A step is one optimiser update; examples = steps x
    batch_size."""

    steps: PositiveInt
    """Optimiser updates in all."""
    batch_size: PositiveInt
    """Examples an update."""
    eval_every: PositiveInt
    """Steps between evaluations; step 0 and the last step are always evaluated."""
    eval_examples: PositiveInt = 4096
    """Size of the fixed evaluation set, which has a stream of its own."""
    checkpoint_every: NonNegativeInt = 0
    """Steps between checkpoints of the trajectory; 0 keeps only the untrained and the last
    model."""
    checkpoint_log_spaced: bool = False
    """Also keep steps 1, 2, 4, ... below checkpoint_every."""
    ring_every: NonNegativeInt = 0
    """Steps between further checkpoints, of which only those around a transition are kept, from
    ring_size of them before it begins; 0: none."""
    ring_size: PositiveInt = 40
    """The most of these checkpoints that wait for a transition to begin. A run keeps at most five
    times as many for each lane."""
    stop_after: Annotated[float, Field(ge=1)] | None = None
    """End before `steps`, at this multiple of the step by which every lane has learnt (its
    transition is done); in a sweep over learning rates, by which the median lane of the best one
    has. None: train for all `steps`."""
    stop_when_flat: PositiveFloat | None = None
    """End before `steps`, once the mean evaluation loss of the last quarter of the steps so far
    lies by less than this (nats) below that of the quarter before, in every lane; not before a
    quarter of `steps`. None: train for all `steps`."""
    seed: Annotated[Seed, tyro.conf.arg(aliases=("--seed",))] = 0
    """First seed; each seed has its own initial weights and its own data stream."""
    num_seeds: PositiveInt = 1
    """How many consecutive seeds train together."""
    parts: Annotated[int, Field(ge=2)] | None = None
    """Parts of a batch whose gradients are computed one after the other and added up, where the
    whole has no room in memory; the mean is that over all supervised positions of the batch. None:
    all at once, as in steps that learn a hidden layer."""

    def __post_init__(self) -> None:
        if self.checkpoint_log_spaced and self.checkpoint_every == 0:
            raise ValueError(
                "training.checkpoint_log_spaced needs training.checkpoint_every >= 1, where the"
                " doubling ends"
            )
        if self.ring_every % self.eval_every:
            raise ValueError(
                f"training.ring_every = {self.ring_every} must be a multiple of training.eval_every"
                f" = {self.eval_every}"
            )
        if self.stop_after is not None and self.stop_when_flat is not None:
            raise ValueError(
                "training.stop_after and training.stop_when_flat both say when the run ends; give"
                " one of them"
            )

    @property
    def may_end_sooner(self) -> bool:
        """Whether `steps` is only the most that the run takes."""
        return self.stop_after is not None or self.stop_when_flat is not None

    @property
    def watches(self) -> bool:
        """Whether anything depends on when a transition begins or is done."""
        return bool(self.ring_every) or self.stop_after is not None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of this run, in lane order."""
        return tuple(range(self.seed, self.seed + self.num_seeds))

    def checkpoint_steps(self) -> tuple[int, ...]:
        """Every step whose parameters are kept, in order; 0 and the last step always are."""
        steps = {0, self.steps}
        if self.checkpoint_every:
            steps.update(range(0, self.steps, self.checkpoint_every))
        if self.checkpoint_log_spaced:
            step = 1
            while step < min(self.checkpoint_every, self.steps):
                steps.add(step)
                step *= 2
        return tuple(sorted(steps))


@configuration
class Runtime:
    """How a run is carried out. It changes no result, so it is not part of the run's identity."""

    resume_seconds: PositiveFloat = 60.0
    """Seconds between saved resume states: at most this much work is lost when the process is
    killed."""
    device_bytes: NonNegativeInt = 2**30
    """Room on a device for training examples that lie on a disk. Where they take more, the host
    hands over those of the next steps, which are the same."""


def validate(config: ConfigT) -> ConfigT:
    """Check every field against its range.

    Raises:
        UserError: naming each offending field, its value and what is accepted.
    """
    return _validated(type(config), dataclasses.asdict(cast(Any, config)))


def to_dict(config: object) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return _adapter(type(config)).dump_python(config, mode="json")


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], source: Path) -> ConfigT:
    """Read a configuration back; unknown, missing and out-of-range fields are errors that name
    `source`.

    Raises:
        RunError: the file is not a configuration of this kind.
    """
    try:
        return _adapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise RunError(
            f"{source} does not hold a {cls.__name__} of this version:\n{explain(error)}"
        ) from None


def fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of some plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parse(
    command: type[CommandT],
    args: Sequence[str],
    *,
    prog: str,
    description: str,
    default: CommandT | None = None,
) -> CommandT:
    """Parse a command line into a (nested) dataclass. Bad input ends the process with a message and
    exit code 2."""
    try:
        return cast(
            CommandT,
            tyro.cli(
                command,
                args=list(args),
                prog=f"python -m {prog}",
                description=description,
                default=default,
            ),
        )
    except ValidationError as error:
        raise UserError(explain(error)) from None
    except ValueError as error:  # a condition between fields of the outermost configuration
        raise UserError(str(error)) from None


def flags_of(args: Sequence[str]) -> dict[str, list[str]]:
    """The words after every flag, by the name of its field: `--data.start-level 3` gives
    {"data.start_level": ["3"]}."""
    flags: dict[str, list[str]] = {}
    words: list[str] = []
    for arg in args:
        if arg.startswith("--"):
            name, equals, value = arg.removeprefix("--").partition("=")
            words = flags[name.replace("-", "_")] = [value] if equals else []
        else:
            words.append(arg)
    return flags


def with_overrides(config: ConfigT, overrides: Overrides) -> ConfigT:
    """The configuration with some of its fields changed.

    Args:
        config: a configuration, whose fields may be configurations.
        overrides: new values by dotted name, `data.k` say.

    Raises:
        UserError: there is no such field, or a value is out of range.
    """
    values = to_dict(config)
    for dotted, value in overrides.items():
        *parents, name = dotted.split(".")
        part: Any = values
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
        if not isinstance(part, dict) or name not in part:
            raise UserError(
                f"{type(config).__name__} has no field {dotted}; it has"
                f" {', '.join(flatten(to_dict(config)))}"
            )
        part[name] = value
    return _validated(type(config), values)


def as_flags(overrides: Overrides) -> tuple[str, ...]:
    """The words of a command line that set these values."""
    words = []
    for name, value in overrides.items():
        words += _flag(name, value)
    return tuple(words)


def _flag(dotted: str, value: object) -> tuple[str, ...]:
    parent, dot, name = dotted.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return (f"--{parent}{dot}{name if value else f'no-{name}'}",)
    if isinstance(value, tuple):
        return (f"--{parent}{dot}{name}", *map(_word, value))
    word = _word(value)
    if word.startswith("-"):  # a word of its own would be taken for a flag
        return (f"--{parent}{dot}{name}={word}",)
    return (f"--{parent}{dot}{name}", word)


def _word(value: object) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def chosen_preset(args: Sequence[str], presets: Mapping[str, ConfigT]) -> ConfigT:
    """The preset that `--preset NAME` (or `--preset=NAME`) names among the arguments; by default
    `quick`.

    It sets the defaults of all other flags, so it must be known before they are parsed.

    Raises:
        UserError: unknown name.
    """
    name = last_value(args, "--preset") or "quick"
    if name not in presets:
        raise UserError(f"--preset {name}: unknown preset; choose one of {', '.join(presets)}")
    return presets[name]


def last_value(args: Sequence[str], flag: str) -> str | None:
    """The last value that `flag VALUE` or `flag=VALUE` gives among the arguments, before they are
    parsed; None without one."""
    value = None
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            value = args[i + 1]
        elif arg.startswith(f"{flag}="):
            value = arg.removeprefix(f"{flag}=")
    return value


SETS_DEFAULTS = (
    "A preset sets the defaults of the flags that describe a run: data, model, optimiser, training"
    " and so on."
)
IS_EXPERIMENT = (
    "A preset is a whole experiment; --dry-run prints the commands of its stages, with all their"
    " flags."
)


def describe_presets(text: str, what: str, presets: Mapping[str, Preset[ConfigT]]) -> str:
    """The `--help` text of a command.

    Args:
        text: what the command does.
        what: what a preset does for this command: `SETS_DEFAULTS` or `IS_EXPERIMENT`.
        presets: those of the command, each with its note.
    """
    notes = "\n\n".join(f"--preset {preset.name}: {preset.note}" for preset in presets.values())
    return f"{text}\n\n{what}\n\n{notes}"


@functools.cache
def _adapter(cls: type[ConfigT]) -> TypeAdapter[ConfigT]:
    """Cached, because building an adapter takes longer than using it."""
    return TypeAdapter(cls)


def _validated(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    try:
        return _adapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise UserError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """What pydantic refused, one line for each field."""
    lines = []
    for item in error.errors(include_url=False):
        # "(mlp)" stands for a member of a union: a name that the reader has not written.
        field = ".".join(str(part) for part in item["loc"] if not str(part).startswith("("))
        message = item["msg"].removeprefix("Value error, ")
        if not field:
            lines.append(message)
        elif isinstance(item["input"], dict):
            lines.append(f"{field}: {message}")
        else:
            lines.append(f"{field} = {item['input']!r}: {message[0].lower()}{message[1:]}")
    return "\n".join(lines)
