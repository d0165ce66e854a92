"""Strict numerics for all tests: silent rank promotion is an error, and there are always two
devices to shard over.

Compiling takes most of the time of the tests. Programs are compiled once for all workers, for the
commands that they run and for the next time (`common.base.mesh.keep_compiled`), by what compiles
soonest: without optimisation, and by XLA's older emitters of loops. The programs run a little
slower for it and round otherwise. Those of the experiments are compiled as they are by `make
figures`.
"""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import fcntl
import gc
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import numpy as np
import pytest

from common.base.mesh import keep_compiled
from common.train import problem

keep_compiled()
gc.freeze()  # what has been imported stays
gc.set_threshold(20_000, 50, 50)  # `forget_programs` collects what lives longer
jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("default")

# A problem that is learnt in a second: d=8, k=2, width 64.
TINY = (
    *(
        "--data.d",
        "8",
        "--data.k",
        "2",
        "--training.steps",
        "256",
        "--training.batch-size",
        "16",
        "--training.eval-every",
        "16",
    ),
    *(
        "--training.eval-examples",
        "512",
        "--seed",
        "0",
        "--training.num-seeds",
        "2",
        "--optim.learning-rate",
        "0.5",
    ),
)
TINY_TEACHER = (*TINY, "--model.width", "64", "--training.checkpoint-every", "16")
TINY_STUDENT = (
    *TINY,
    "--model.width",
    "16",
    "--supervision.interval",
    "16",
    "--supervision.first-steps",
    "64",
    "--training.stop-after",
    "None",
)

MEMORY_DISK, ROOM = Path("/dev/shm"), 2 * 10**9


def pytest_configure() -> None:
    """Keep the files of the tests in memory if there is room: they are small and many, and some
    disks take milliseconds to delete one. And let the tests interrupt what they start: in the
    background a shell has commands ignore Ctrl-C, which theirs would inherit."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))


# By the time that they take, so that both workers end together; all others after them, as they
# come.
LONGEST_FIRST = (
    "test_readme",
    "test_pcfg_runs",
    "test_transformer",
    "test_pcfg_experiment",
    "test_experiment",
    "test_crash",
    "test_runs",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; within a file as written."""
    rank = {name: i for i, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def random_params(model: Callable[[jax.Array], Any], scale: float) -> Any:
    """Parameters of which none is zero or one, so that each of them matters."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf + scale * rng.standard_normal(leaf.shape), np.float32),
        jax.jit(model)(jax.random.key(0)),
    )


def same_run(a: Path, b: Path) -> None:
    """Bit-identical metrics and parameters."""
    from common.runs.directory import RunDirectory
    from common.runs.trajectory import Trajectory, content_hash

    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert RunDirectory(a).manifest["checkpoints"] == RunDirectory(b).manifest["checkpoints"]
    for step in Trajectory(RunDirectory(a)).steps():
        assert content_hash(Trajectory(RunDirectory(a)).restore(step)) == content_hash(
            Trajectory(RunDirectory(b)).restore(step)
        )


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Traced and compiled programs outlive their tests: those of all files took 7 GB, and a tenth
    of the time went into looking through them for garbage again and again."""
    yield
    problem._without_lanes.cache_clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def made_up_costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Plans are printed with costs that nobody has measured, because measuring takes longer than
    the tests."""
    from common.experiment import costs
    from common.train.measuring import Measured

    made_up = Measured(
        start=1.0,
        step=0.001,
        evaluation=0.01,
        memory=500_000_000,
        checkpoint=1000,
        resume=2000,
        is_scaled=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs.measuring, "measure", lambda _: made_up)
        patch.setattr(costs, "_file", lambda: tmp_path_factory.getbasetemp() / "costs.json")
        yield


@pytest.fixture
def preset_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are typed in a folder with a small corpus for every preset on text, and with
    labelled sentences."""
    from tests.corpora import write_preset_corpora
    from tests.preset_sentences import write_preset_sentences

    write_preset_corpora(tmp_path)
    write_preset_sentences(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished teacher run on the tiny problem."""
    from parity import train

    path = tmp_path_factory.mktemp("runs") / "teacher"
    train.main(["--run-dir", str(path), *TINY_TEACHER])
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny experiment, drawn; the first worker that asks for it makes it
    for all. Change copies of it only."""
    from tests.tiny_experiment import run_and_draw

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose folder lies in that of all workers
        shared = shared.parent
    root, done = shared / "experiment", shared / "experiment-is-done"
    with (shared / "experiment-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not done.exists():
            run_and_draw(root)
            done.touch()
    return root


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a command's main with bad input; returns the message, after checking that it would exit
    with code 2."""
    from common.base.errors import UserError

    def call(main: Callable[[list[str]], None], *args: object) -> str:
        capsys.readouterr()
        try:
            main([str(arg) for arg in args])
        except UserError as error:
            return str(error)
        except SystemExit as stop:
            assert stop.code == 2
            return " ".join(capsys.readouterr().err.replace("│", " ").split())
        pytest.fail(f"accepted: {args}")

    return call
