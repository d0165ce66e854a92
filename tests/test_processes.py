"""Several processes that carry out one command together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from common.base.mesh import _mesh_shape
from common.base.processes import (
    ALONE,
    EXPLICIT,
    OPEN_MPI,
    SLURM,
    TPU_HOSTS,
    VISIBLE,
    _how_started,
)
from common.runs.directory import DONE, RunDirectory
from common.runs.trajectory import Trajectory
from tests.commands import REPOSITORY, run_module, start_module
from tests.conftest import TINY_TEACHER, same_run
from tests.corpora import random_documents, write_corpus
from tests.preset_sentences import rows

SMALL = (
    *("--training.steps", "8", "--training.eval-every", "4", "--training.eval-examples", "16"),
    *("--training.batch-size", "4", "--training.num-seeds", "2"),
    *("--training.checkpoint-every", "4", "--model.layers", "1", "--model.heads", "1"),
)
TEXT = ("--data.corpus", "corpus", "--data.length", "12", *SMALL)
RATED = ("--data.tokenizer", "corpus", "--data.train", "rated.tsv", "--data.length", "12", *SMALL)
COMMANDS = {
    "parity": ("parity.train", *TINY_TEACHER),
    "parity by a Transformer": ("parity.train", "--preset", "transformer-quick", *SMALL),
    "grammar": ("pcfg.train", *SMALL),
    "next tokens of a grammar": ("pcfg.next_token.train", *SMALL),
    "text, fed from the disk": ("mlm.train", *TEXT, "--runtime.device-bytes", "0"),
    "next tokens of text": ("mlm.next_token.train", *TEXT),
    "sentences": ("mlm.relay.train", *RATED),
}
LONG = (
    *("parity.train", *TINY_TEACHER, "--training.steps", "20000", "--training.stop-after", "None"),
    *("--training.checkpoint-every", "10000", "--runtime.resume-seconds", "0.5", "--run-dir"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands are typed, with a corpus and rated sentences."""
    documents = [(1.0, random_documents(3, 40, 60))]
    write_corpus(tmp_path / "corpus", {"train": documents, "validation": documents})
    lines = [f"{name}\t{text}\n" for name, text in rows(0)]
    (tmp_path / "rated.tsv").write_text("label\tsentence\n" + "".join(lines))
    return tmp_path


def started(
    folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> list[BaseProcess]:
    """Two processes of a command; what they say goes into err-0 and err-1."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    processes = []
    for number in ("0", "1"):
        variables = {**explicit(address, "2", number), **(environment or {})}
        err = folder / f"err-{number}"
        processes.append(start_module(*command, cwd=folder, err=err, environment=variables))
    return processes


def explicit(*values: str) -> dict[str, str]:
    """JAX's variables."""
    return dict(zip(EXPLICIT, values, strict=True))


def ended(processes: list[BaseProcess], seconds: float = 120) -> list[int | None]:
    """Their exit codes."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def said(folder: Path) -> list[str]:
    """By each."""
    return [(folder / f"err-{number}").read_text() for number in ("0", "1")]


def wait_until_saved(run: Path) -> None:
    """Some steps."""
    until = time.monotonic() + 60
    while not saved_step(run / "manifest.json"):
        assert time.monotonic() < until
        time.sleep(0.1)


def saved_step(manifest: Path) -> int:
    """From which a run would go on."""
    if not manifest.exists():
        return 0
    return json.loads(manifest.read_text()).get("resume", {}).get("step", 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_train_as_one_with_two_devices(name: str, folder: Path) -> None:
    """To the same bits, a lane each."""
    command = COMMANDS[name]
    alone = run_module(*command, "--run-dir", "alone", cwd=folder)
    assert alone.returncode == 0, alone.stderr
    assert ended(started(folder, *command, "--run-dir", "together")) == [0, 0], said(folder)
    same_run(folder / "alone", folder / "together")
    assert ["lanes in" in text for text in said(folder)] == [True, False]
    assert (folder / "together" / DONE).exists()


def test_two_processes_share_the_batches_of_a_lane(folder: Path) -> None:
    """One step, to 1e-6: sums over a batch are added up in another order."""
    command = ("pcfg.train", *SMALL, "--training.num-seeds", "1", "--training.steps", "1")
    alone = run_module(*command, "--run-dir", "alone", cwd=folder)
    assert alone.returncode == 0, alone.stderr
    assert ended(started(folder, *command, "--run-dir", "together")) == [0, 0], said(folder)
    one, both = (Trajectory(RunDirectory(folder / run)).restore(1) for run in ("alone", "together"))
    for leaf, expected in zip(leaves(both), leaves(one), strict=True):
        np.testing.assert_allclose(leaf, expected, atol=1e-6)


def leaves(tree: object) -> Iterator[np.ndarray]:
    """In the order of their names."""
    if isinstance(tree, dict):
        for _, part in sorted(tree.items()):
            yield from leaves(part)
    else:
        yield np.asarray(tree)


def test_an_experiment_is_made_together(tmp_path: Path) -> None:
    """Its runs by both processes, all else by the first; a second time there is nothing to do."""
    own = {"PYTHONPATH": str(Path(__file__).parent / "slurm")}
    command = ("small_parity.experiment", "--root")
    alone = run_module(*command, "alone", cwd=tmp_path, environment=own)
    assert alone.returncode == 0, alone.stderr
    together = started(tmp_path, *command, "together", environment=own)
    assert ended(together) == [0, 0], said(tmp_path)
    homes = [tmp_path / root / "small_parity" / "quick" for root in ("alone", "together")]
    verdicts = [json.loads((home / "claims.json").read_text())["claims"] for home in homes]
    assert verdicts[0] == verdicts[1]
    for run in ("teacher", "labels", "student"):
        same_run(homes[0] / run, homes[1] / run)
    again = started(tmp_path, *command, "together", environment=own)
    assert ended(again) == [0, 0], said(tmp_path)
    assert "4 of 4 stages are done" in said(tmp_path)[0]


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_ends_and_says_so(killed: int, folder: Path) -> None:
    """Within a minute; the next start, here of a single process, goes on to the same bits."""
    both = started(folder, *LONG, "run")
    wait_until_saved(folder / "run")
    number = both[killed].pid
    assert number is not None
    os.kill(number, signal.SIGKILL)
    codes = ended(both, seconds=60)
    assert codes[killed] == -signal.SIGKILL and codes[1 - killed] not in (0, -signal.SIGKILL)
    message = said(folder)[1 - killed]
    assert message.count("another process of this command has ended") == 1, message
    assert "Traceback" not in message
    for run in ("run", "alone"):
        done = run_module(*LONG, run, cwd=folder)
        assert done.returncode == 0, done.stderr
    starts = [start["step"] for start in RunDirectory(folder / "run").manifest["starts"]]
    assert starts[0] == 0 and starts[1] > 0
    same_run(folder / "run", folder / "alone")


def test_a_signal_to_one_stops_both(folder: Path) -> None:
    both = started(folder, *LONG, "run")
    wait_until_saved(folder / "run")
    both[1].terminate()
    assert ended(both, seconds=60) == [143, 143], said(folder)
    assert "is saved at step" in said(folder)[0]


def test_bad_input_is_told_by_each_in_a_line(folder: Path) -> None:
    both = started(folder, "parity.distill", "--teacher", "nowhere", "--run-dir", "run")
    assert ended(both) == [2, 2]
    first, second = said(folder)
    assert "error: nowhere does not exist" in first
    assert "process 1 of 2: nowhere does not exist" in second
    assert "Traceback" not in first + second


def test_commands_that_do_not_share_their_work_say_so(folder: Path) -> None:
    several = explicit("127.0.0.1:1", "2", "0")
    done = run_module("parity.claims", cwd=folder, environment=several)
    assert done.returncode == 2
    assert "is carried out by a single process" in done.stderr


def test_processes_of_other_commands_are_refused(folder: Path) -> None:
    """As jobs that are packed into one step of Slurm."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    both = [
        start_module(
            *("parity.train", *TINY_TEACHER, "--run-dir", f"run-{number}"),
            cwd=folder,
            err=folder / f"err-{number}",
            environment=explicit(address, "2", number),
        )
        for number in ("0", "1")
    ]
    assert ended(both) == [2, 2], said(folder)
    assert "carry out different commands" in said(folder)[0]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        (dict.fromkeys(SLURM, "1"), None),
        (dict.fromkeys(SLURM, "2"), {}),
        (dict.fromkeys(SLURM, "2") | {VISIBLE: "3"}, {"local_device_ids": [0]}),
        (dict.fromkeys(SLURM, "2") | {VISIBLE: "0,1"}, {}),
        (dict.fromkeys(SLURM, "2") | {ALONE: "1"}, None),
        (dict.fromkeys(OPEN_MPI, "2"), {}),
        (dict.fromkeys(OPEN_MPI[1:], "2"), None),
        ({TPU_HOSTS: "a"}, None),
        ({TPU_HOSTS: "a,b"}, {}),
        (explicit("a:1", "1", "0"), None),
        (
            explicit("a:1", "2", "1"),
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1},
        ),
    ],
)
def test_how_a_process_knows_of_others(
    variables: dict[str, str], expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that is set by half is that of a single process."""
    for name in (*EXPLICIT, *SLURM, *OPEN_MPI, TPU_HOSTS, VISIBLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _how_started() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a:1", "2", None), "set JAX_PROCESS_ID as well"),
        (("a:1", "two", "0"), "must be numbers"),
        (("a:1", "2", "2"), "must be less than JAX_NUM_PROCESSES = 2"),
    ],
)
def test_variables_that_are_refused(
    values: tuple[str | None, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(EXPLICIT, values, strict=True):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        _how_started()


@given(
    *(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
)
def test_all_processes_have_as_many_devices(
    lanes: int, batch: int, num_processes: int, each: int, splits_batch: bool
) -> None:
    num_devices = num_processes * each
    shape = _mesh_shape(lanes, batch, num_devices, num_processes, splits_batch)
    options = [
        (n, m)
        for n in range(1, num_devices + 1)
        for m in range(1, num_devices // n + 1)
        if lanes % n == 0 and batch % m == 0 and n * m % num_processes == 0
    ]
    if shape is None:
        assert not options
        return
    assert shape in options
    assert shape[0] == max(n for n, _ in options)
    of_batch = [m for n, m in options if n == shape[0]]
    assert shape[1] == (max(of_batch) if splits_batch else min(of_batch))


def test_eight_devices_share_lanes_and_batches(folder: Path) -> None:
    """Four lanes, and two devices for the batches of each where its steps are long enough."""
    command = [sys.executable, "-m", "parity.train", *TINY_TEACHER, "--training.num-seeds", "4"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([*command, "--run-dir", "eight"], cwd=folder, env=environment, check=True)
    two = run_module(*command[2:], "--run-dir", "two", cwd=folder)
    assert two.returncode == 0, two.stderr
    runs = [RunDirectory(folder / name) for name in ("eight", "two")]
    assert [run.manifest["starts"][0]["device"]["count"] for run in runs] == [8, 2]
    losses = [[record["eval_loss"] for record in run.metrics()] for run in runs]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-6)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
