"""What is no prepared corpus, and what is a damaged one: one line each."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.base.errors import RunError, UserError
from mlm.corpus import MANIFEST, WORK, open_corpus
from mlm.prepare.__main__ import main
from tests.made_up_text import documents, write_jsonl


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("corpus")
    path = write_jsonl(home / "a.jsonl", documents(40))
    main([str(path), "--out", str(home / "out"), "--vocabulary-size", "640", "--workers", "1"])
    return home / "out"


@pytest.fixture
def corpus(original: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(original, tmp_path / "corpus"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder of a prepared corpus; make one with"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"it has no manifest\.json; make one with"):
        open_corpus(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"its manifest\.json is of something else"):
        open_corpus(tmp_path)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / WORK).mkdir()
    with pytest.raises(UserError, match="a corpus that is not finished"):
        open_corpus(tmp_path)


def test_another_format(corpus: Path) -> None:
    change(corpus / MANIFEST, format=2)
    with pytest.raises(UserError, match="a corpus of format 2, but this version reads format 1"):
        open_corpus(corpus)


def test_a_damaged_manifest(corpus: Path) -> None:
    change(corpus / MANIFEST, dtype="float16")
    with pytest.raises(RunError, match=r"does not hold a Manifest of this version:\ndtype"):
        open_corpus(corpus)
    (corpus / MANIFEST).write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        open_corpus(corpus)


def test_another_tokeniser(corpus: Path) -> None:
    values = json.loads((corpus / "tokenizer.json").read_text())
    values["model"]["vocab"]["more"] = len(values["model"]["vocab"])
    (corpus / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"it is not the tokeniser that manifest\.json describes"):
        open_corpus(corpus)


@pytest.mark.parametrize("name", ["train-00000.tokens.npy", "validation-00000.offsets.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "garbage", "other length"])
def test_damaged_shards(name: str, damage: str, corpus: Path) -> None:
    path = corpus / name
    data = path.read_bytes()
    path.unlink()
    if damage == "other length":
        np.save(path, np.zeros(7, np.uint16 if "tokens" in name else np.int64))
    elif damage != "missing":
        spoilt = {"empty": b"", "cut short": data[:-4], "garbage": b"garbage" * 40}
        path.write_bytes(spoilt[damage])
    with pytest.raises(RunError, match=f"{name} is damaged"):
        open_corpus(corpus).split("train" if name.startswith("train") else "validation")


def test_tokens_that_have_changed(corpus: Path) -> None:
    """Not seen when a corpus is opened, but when it is verified."""
    opened = open_corpus(corpus)
    opened.verify()
    path = corpus / "train-00000.tokens.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunError, match="it is not the file whose hash"):
        open_corpus(corpus).verify()
