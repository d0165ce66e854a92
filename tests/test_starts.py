"""What a run says of the machines it was on, and why it diverged."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from common.base.errors import RunError
from common.base.keys import seed_key
from common.nn.functional import Batch
from common.runs.directory import RunDirectory
from common.train.engine import ScanEngine
from parity import config as parity_config
from parity import train
from tests.conftest import TINY

ARGS = (
    *TINY,
    "--model.width",
    "64",
    "--training.num-seeds",
    "1",
    "--training.checkpoint-every",
    "0",
    "--runtime.resume-seconds",
    "1e-6",
)


def interrupt_at_chunk(chunk: int, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    advance, calls = ScanEngine.advance, iter(range(100))

    def interrupted(*rest):
        if next(calls) == chunk:
            raise KeyboardInterrupt
        return advance(*rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ScanEngine, "advance", interrupted)
        train.main([*args])


def test_every_start_is_recorded_and_other_devices_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--run-dir", str(tmp_path / "run"), *ARGS)
    for chunk in (0, 3, 3):
        interrupt_at_chunk(chunk, args, monkeypatch)
    assert "warning" not in capsys.readouterr().err

    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    starts = manifest["starts"]
    assert [start["step"] for start in starts] == [0, 0, 48]
    assert {start["commit"] for start in starts} == {manifest["commit"]}
    assert all(start["device"] == manifest["device"] and start["time"] for start in starts)
    assert set(manifest["device"]) == {"platform", "kind", "count", "host_cores", "processor"}

    starts[-1]["device"] |= {"count": 7, "processor": "another one", "host_cores": 900}
    path.write_text(json.dumps(manifest))
    train.main([*args])
    said = " ".join(capsys.readouterr().err.split())
    count, processor = (
        manifest["device"]["count"],
        RunDirectory(tmp_path / "run").manifest["device"]["processor"],
    )
    assert f"warning: {tmp_path / 'run'} goes on with other devices" in said
    assert f"(count 7 -> {count}, processor another one -> {processor})" in said
    assert RunDirectory(tmp_path / "run").manifest["starts"][-1]["step"] == 96


def test_a_rate_that_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=(
            r"NaN or infinite at step \d+ .*; lower --optim.learning-rate, and use a fresh"
            r" --run-dir"
        ),
    ):
        train.main(["--run-dir", str(tmp_path / "run"), *ARGS, "--optim.learning-rate", "1e20"])


@pytest.mark.parametrize("bad_step", [0, 20])
def test_examples_that_no_model_could_learn_from_are_named(
    bad_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN among the inputs of one update, with a rate that is as good as any."""
    sample = parity_config.sample
    bad_key = jax.random.fold_in(seed_key(0, "teacher/train-data"), bad_step)

    def with_a_bad_batch(key: jax.Array, *rest) -> Batch:
        batch = sample(key, *rest)
        is_bad = jnp.all(jax.random.key_data(key) == jax.random.key_data(bad_key))
        return batch._replace(inputs=jnp.where(is_bad, jnp.nan, batch.inputs))

    monkeypatch.setattr(parity_config, "sample", with_a_bad_batch)
    monkeypatch.setattr(
        parity_config, "_without_lanes", parity_config._without_lanes.__wrapped__
    )  # a problem of its own
    with pytest.raises(RunError) as error:
        train.main(["--run-dir", str(tmp_path / "run"), *ARGS])
    assert f"NaN or infinite at step {bad_step + 1} " in str(error.value)
    assert "the learning rate is not to blame" in str(error.value)
    assert "lower --optim" not in str(error.value)
