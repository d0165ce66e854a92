"""Sides of benchmarks in processes of their own (`benchmarks.turns`), and the tables of what they
took."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.report import BlockedCost, StepSpeed, write_found
from benchmarks.turns import Side, Timing, running, time_in_turns
from common.base.errors import RunError
from figures import readme
from tests.commands import start_module


def writing(name: str, path: Path) -> Side:
    return Side("tests.sides:writing", {"name": name, "path": str(path)})


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_sides_take_turns_each_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they print, and from wherever they are started."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rounds"
    timings = time_in_turns({"a": writing("a", path), "b": writing("b", path)}, 3)
    assert sorted(path.read_text().split()[:2]) == ["a", "b"]  # both warm up at the same time
    assert path.read_text().split()[2:] == ["a", "b"] * 3
    for timing in timings.values():
        assert len(timing.seconds) == 3
        assert 0 < min(timing.seconds) <= timing.median <= max(timing.seconds) < 1
    processes = {timing.facts["process"] for timing in timings.values()}
    assert len(processes | {os.getpid()}) == 3
    assert not any(is_running(int(process)) for process in processes)


@pytest.mark.parametrize(
    ("side", "last_words"),
    [
        (Side("tests.sides:failing", {"in_round": 0}), "exit code 1; .*ValueError: no such shape"),
        (Side("tests.sides:failing", {"in_round": 2}), "exit code 1; .*ValueError: no such shape"),
        (Side("tests.sides:killed", {}), "exit code -9; "),
    ],
)
def test_a_side_that_fails_is_named(side: Side, last_words: str, tmp_path: Path) -> None:
    """All others end."""
    sides = {"one": writing("one", tmp_path / "rounds"), "another": side}
    with pytest.raises(RunError, match=f"(?s)the side 'another' has ended with {last_words}"):
        time_in_turns(sides, 3)
    with running(sides) as processes, pytest.raises(RunError):
        for _ in range(3):
            processes["another"].answer()
            processes["another"].ask()
    assert not any(is_running(process.process.pid) for process in processes.values())


def test_an_interrupted_benchmark_leaves_no_process(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    process = start_module("tests.sides", "a", "b", cwd=tmp_path, err=errors)
    assert process.pid is not None
    sides = [tmp_path / name for name in ("a", "b")]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in sides):
        assert process.is_alive() and time.monotonic() < deadline, errors.read_text()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGINT
    assert errors.read_text().startswith("stopped by SIGINT")
    assert not any(is_running(int(path.read_text())) for path in sides)


def test_no_library_stands_beside_a_side_that_does_not_need_it() -> None:
    def importing(*modules: str) -> Side:
        arguments = {"modules": modules, "libraries": ("jax", "torch")}
        return Side("tests.sides:importing", arguments)

    ours = importing(*(f"benchmarks.{name}" for name in ("parity_mlp", "blocked", "pcfg_bert")))
    timings = time_in_turns({"ours": ours, "peers": importing("benchmarks.peers")}, 1)
    assert timings["ours"].facts == {"jax": True, "torch": False}
    assert timings["peers"].facts == {"jax": False, "torch": True}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read there")
def test_a_side_sleeps_while_others_have_their_turn() -> None:
    """PyTorch's threads wait in a loop for a moment after a product, and no longer."""
    with running({"peer": Side("tests.sides:multiplying", {"threads": 2})}) as processes:
        peer = int(processes["peer"].answer()["facts"]["process"])
        processes["peer"].ask()
        processes["peer"].answer()
        time.sleep(0.2)
        before = processor_seconds(peer)
        time.sleep(0.5)
        assert processor_seconds(peer) - before <= 0.05


def processor_seconds(process: int) -> float:
    """Of all threads since the process began."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_what_benchmarks_write_is_what_the_tables_of_the_readme_show(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    timings = {"title": {"a side": Timing([0.2, 0.1], {})}}
    batch_one = [
        StepSpeed("batch 1", "ms", 3.141, 1, 0.3),
        StepSpeed("batch 1", "ms", 3.141, 3, 0.00202),
    ]
    costs = [
        BlockedCost(50_000, 32, 1, 8, 0.0052468, 0.512),
        BlockedCost(50_000, 100, 2, 8, 123.4, 61.2),
        BlockedCost(1000, 32, 1, 16, 0.5, 1.0),
    ]
    write_found(results / "blocked.json", "blocked", timings, batch_one, costs)
    quick = [
        StepSpeed("quick", "examples/s", 161_234.0, 1, 301_000.0),
        StepSpeed("quick", "examples/s", 161_234.0, 8, 2_434_567.0),
    ]
    write_found(results / "parity_mlp.json", "parity_mlp", {}, quick)
    assert readme.steps_table(tmp_path).splitlines()[2:] == [
        "| batch 1 | 3.14 ms | 0.3 ms (10x) | 0.00202 ms, 3 seeds (1,600x) |",
        "| quick | 161,000 examples/s | 301,000 (1.9x) | 2,430,000, 8 seeds (15x) |",
    ]
    assert readme.blocked_table(tmp_path).splitlines() == [
        "| ms a step and seed (memory of the step) | block | d=32, 1 seed | d=100, 2 seeds |",
        "| --- | --- | --- | --- |",
        "| width 1000 | 16 | 0.5 (1 MB) |  |",
        "| width 50,000 | 8 | 0.00525 (0.51 MB) | 123 (61 MB) |",
    ]
    found = json.loads((results / "blocked.json").read_text())
    assert found["seconds_of_rounds"] == {"title": {"a side": [0.2, 0.1]}}
    assert found["about"]["command"].startswith("python -m benchmarks.blocked")
