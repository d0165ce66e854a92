"""Checkpoints as folders of `transformers`: the same logits there, and the same bits when they are
read again."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from common.base.config import to_dict
from common.base.errors import UserError
from common.formats.folder import WEIGHTS, open_folder
from common.formats.foreign import read_model
from common.formats.hub import CARD, Checkpoint, files_of
from common.nn.bert import BERTConfig, functional_bert, functional_classifier
from common.nn.blocks import TokenInputs, TransformerConfig
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2
from common.nn.mlp import MLPConfig, functional_mlp
from common.nn.neox import NeoXConfig, functional_neox
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.files import write_folder
from common.runs.trajectory import Trajectory
from mlm import train
from mlm.prepare.__main__ import main as prepare
from mlm.vocabulary import TOKENIZER
from tests.conftest import random_params
from tests.made_up_text import documents, write_jsonl
from tests.test_text_input import TINY

VOCABULARY, LENGTH = 19, 12
MODELS: dict[str, tuple[TransformerConfig, Functional]] = {
    "bert": (BERTConfig(3, 8, 2), functional_bert(BERTConfig(3, 8, 2), VOCABULARY, LENGTH)),
    "a bag of words": (BERTConfig(3, 8, 2), functional_bert(BERTConfig(3, 8, 2), VOCABULARY, None)),
    "bert, untied, with types": (
        BERTConfig(3, 8, 2, token_types=2, tied=False),
        functional_bert(BERTConfig(3, 8, 2, token_types=2, tied=False), VOCABULARY, LENGTH),
    ),
    "gpt2": (
        GPT2Config(3, 8, 2),
        functional_gpt2(GPT2Config(3, 8, 2), VOCABULARY, LENGTH, VOCABULARY),
    ),
    "neox": (NeoXConfig(2, 16, 2), functional_neox(NeoXConfig(2, 16, 2), VOCABULARY)),
}


def checkpoint_of(config: TransformerConfig, params: Params) -> Checkpoint:
    """A checkpoint of a run without a tokeniser."""
    model = to_dict(config) | {"positions": LENGTH}
    return Checkpoint(params, model, {"format": "pt", "run": "0"}, None)


def same_bits(ours: Params, theirs: Params) -> None:
    """Of the same structure, too."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back_and_answers_there_as_here(kind: str, tmp_path: Path) -> None:
    config, model = MODELS[kind]
    params = jax.tree.map(np.asarray, random_params(model.init, 0.3))
    write_folder(tmp_path / "model", files_of(checkpoint_of(config, params)))
    same_bits(read_model(open_folder(tmp_path / "model")).params, params)
    is_masked = isinstance(config, BERTConfig)
    architecture = AutoModelForMaskedLM if is_masked else AutoModelForCausalLM
    theirs = architecture.from_pretrained(tmp_path / "model").eval()
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (3, LENGTH))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    ours = np.asarray(jax.jit(model.apply)(params, TokenInputs(jnp.asarray(tokens))))
    assert np.abs(ours - expected).max() / np.abs(expected).max() < 1e-5


def test_a_classifier_comes_back_and_answers_there_as_here(tmp_path: Path) -> None:
    config = BERTConfig(3, 8, 2)
    model = functional_classifier(config, VOCABULARY, LENGTH, 3)
    params = jax.tree.map(np.asarray, random_params(model.init, 0.3))
    write_folder(tmp_path / "model", files_of(checkpoint_of(config, params)))
    same_bits(read_model(open_folder(tmp_path / "model")).params, params)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (4, LENGTH))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    ours = np.asarray(jax.jit(model.apply)(params, TokenInputs(jnp.asarray(tokens))))
    assert np.abs(ours - expected).max() / np.abs(expected).max() < 1e-5


def test_narrow_vectors_of_tokens_are_written_as_the_table_that_they_stand_for(
    tmp_path: Path,
) -> None:
    """So that a model of a quarter of a million parameters answers there as here: BERT's 30,522
    pieces in 5 units, two layers of width 50."""
    config = BERTConfig(2, 25, 2, token_types=2, token_size=5)
    model = functional_classifier(config, 30_522, 512, 2)
    params = jax.tree.map(np.asarray, random_params(model.init, 0.3))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 242_662
    folder = files_of(Checkpoint(params, to_dict(config), {}, None, ("bad", "good")))
    write_folder(tmp_path / "model", folder)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert theirs.config.label2id == {"bad": 0, "good": 1}
    tokens = np.random.default_rng(0).integers(0, 30_522, (4, LENGTH))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    ours = np.asarray(jax.jit(model.apply)(params, TokenInputs(jnp.asarray(tokens))))
    assert np.abs(ours - expected).max() / np.abs(expected).max() < 1e-5


def test_what_is_no_model_of_transformers_is_refused() -> None:
    mlp = MLPConfig(4)
    params = random_params(functional_mlp(mlp, 5, 2).init, 0.3)
    with pytest.raises(UserError, match="an MLP is none of the models of transformers"):
        files_of(Checkpoint(params, to_dict(mlp), {}, None))
    classes = functional_gpt2(GPT2Config(3, 8, 2), VOCABULARY, LENGTH, 2)
    with pytest.raises(UserError, match="tells 2 classes of sequences over 19 tokens"):
        files_of(checkpoint_of(GPT2Config(3, 8, 2), random_params(classes.init, 0.3)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two lanes on a prepared corpus, which lies beside it."""
    home = tmp_path_factory.mktemp("home")
    texts = write_jsonl(home / "texts.jsonl", documents(60))
    small = ("--vocabulary-size", "150", "--workers", "1")
    prepare([str(texts), *small, "--out", str(home / "corpus")])
    where = ("--data.corpus", str(home / "corpus"), "--run-dir", str(home / "run"))
    train.main([*where, *TINY, "--training.num-seeds", "2"])
    return home / "run"


def test_a_checkpoint_of_any_lane_with_its_tokeniser(
    run: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """And nothing that is there is replaced."""
    out = tmp_path / "model"
    words = (str(run), "--step", "2", "--seed-index", "1", "--format", "hf", "--out", str(out))
    export.main([*words])
    params = jax.tree.map(lambda leaf: leaf[1], Trajectory(RunDirectory(run)).restore(2))
    same_bits(read_model(open_folder(out)).params, params)
    with safe_open(out / WEIGHTS, "pt") as file:
        assert file.metadata() | {"step": "2", "seed": "1"} == file.metadata()
        assert file.metadata()["format"] == "pt"
    assert RunDirectory(run).hash in (out / CARD).read_text()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.mask_token == "[MASK]"
    model = AutoModelForMaskedLM.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "is there already; choose another --out" in refused(export.main, *words, "--overwrite")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_run_whose_tokeniser_is_gone_is_refused(
    run: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    tokenizer = run.parent / "corpus" / TOKENIZER
    kept = tokenizer.read_bytes()
    words = (str(run), "--step", "2", "--format", "hf", "--out", str(tmp_path / "model"))
    try:
        tokenizer.write_bytes(kept + b" ")
        assert "is not the tokeniser that" in refused(export.main, *words)
        tokenizer.unlink()
        assert "put it back as it was" in refused(export.main, *words)
    finally:
        tokenizer.write_bytes(kept)
    assert list(tmp_path.iterdir()) == []
