"""Reads the JSON objects and CSV tables that another stage wrote. A damaged file is an error that
names it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from common.base.errors import RunError, UserError


def read_object(path: Path, keys: tuple[str, ...], made_by: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        path: the file.
        keys: keys that it must have.
        made_by: the command that wrote it, for the message.

    Raises:
        UserError: the file does not exist.
        RunError: it is damaged: it is no JSON, no object, or lacks a key.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run {made_by} first") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise _damaged(path, str(error), made_by) from None
    if not isinstance(values, dict):
        reason = f"it holds no JSON object, but {type(values).__name__}"
        raise _damaged(path, reason, made_by)
    if missing := [key for key in keys if key not in values]:
        raise _damaged(path, f"it has no {', '.join(missing)}", made_by)
    return values


def read_table(path: Path, columns: tuple[str, ...], made_by: str) -> pd.DataFrame:
    """A CSV table; arguments and errors as in `read_object`, with columns in place of keys."""
    try:
        table = pd.read_csv(path, encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run {made_by} first") from None
    except ValueError as error:  # pandas' errors of parsing are ValueErrors
        raise _damaged(path, str(error).splitlines()[0], made_by) from None
    if missing := [column for column in columns if column not in table]:
        raise _damaged(path, f"it has no column {', '.join(missing)}", made_by)
    return table


def _damaged(path: Path, reason: str, made_by: str) -> RunError:
    return RunError(f"{path} is damaged ({reason}); delete it and run {made_by} again")
