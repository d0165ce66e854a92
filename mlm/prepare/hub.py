"""Data sets of the Hugging Face hub: text is streamed, because a data set of 20 GB needs no 20 GB
of memory; small ones are opened whole."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.base.errors import RunError, UserError
from mlm.prepare.cleaning import missing_package

SPLIT = "train"


def pinned_revision(name: str, revision: str | None) -> str | None:
    """The commit of a data set on the hub at this moment; None for a local folder.

    Raises:
        UserError: `datasets` is not installed, or the hub cannot be reached or has no such data
            set.
    """
    if Path(name).is_dir():
        return None
    _datasets()
    hub = importlib.import_module("huggingface_hub")
    try:
        return hub.HfApi().dataset_info(name, revision=revision).sha
    except Exception as error:  # libraries of several makers raise what they like
        raise _not_opened(name, error) from None


class HubReader:
    """The texts of one split of a data set, from where an earlier reader was."""

    def __init__(self, name: str, config: str | None, split: str, revision: str | None) -> None:
        """Open a data set.

        Args:
            name: of a data set on the hub, or a local folder of the same form.
            config: which of its configurations; None if it has one.
            split: which part.
            revision: its commit.

        Raises:
            UserError: it cannot be opened, or has no such configuration or split.
        """
        self._name = name
        self._rows = opened_split(name, config, split, revision, streaming=True)
        count = (self._rows.info.splits or {}).get(split)
        self.num_documents: int | None = count.num_examples if count else None

    @property
    def state(self) -> dict[str, Any]:
        """Where reading goes on, as JSON values."""
        return self._rows.state_dict()

    def texts(self, column: str, state: dict[str, Any] | None) -> Iterator[str]:
        """The texts, in order; empty where there is none.

        Args:
            column: which holds the text.
            state: of an earlier reader; None: from the beginning.

        Raises:
            UserError: there is no such column, or it holds no text.
            RunError: the connection was lost.
        """
        if state is not None:
            self._rows.load_state_dict(state)
        rows = iter(self._rows)
        while True:
            try:
                row = next(rows, None)
            except Exception as error:
                raise RunError(
                    f"the data set {self._name} cannot be read further ({_first_line(error)}); the"
                    " same command goes on from here"
                ) from None
            if row is None:
                return
            yield self._text(row, column)

    def _text(self, row: dict[str, Any], column: str) -> str:
        if column not in row:
            raise UserError(
                f"the data set {self._name} has no column {column}; its columns are:"
                f" {', '.join(row)}. Name the one with the text: hub:{self._name},column=NAME"
            )
        value = row[column]
        if value is not None and not isinstance(value, str):
            raise UserError(
                f"the column {column} of the data set {self._name} holds no text, but"
                f" {type(value).__name__}"
            )
        return value or ""


def opened_split(
    name: str, config: str | None, split: str, revision: str | None, *, streaming: bool = False
) -> Any:
    """One split of a data set, as `datasets` has it.

    Args:
        name: of a data set on the hub, or a local folder of the same form.
        config: which of its configurations; None if it has one.
        split: which part.
        revision: its commit; None: the newest.
        streaming: whether it is read as it is asked for.

    Raises:
        UserError: it cannot be opened, or has no such configuration or split.
    """
    datasets = _datasets()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
    except Exception as error:  # libraries of several makers raise what they like
        raise _not_opened(name, error) from None


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise UserError(missing_package("datasets", "a data set of the hub")) from None


def _not_opened(name: str, error: Exception) -> UserError:
    return UserError(f"the data set {name} cannot be opened: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
