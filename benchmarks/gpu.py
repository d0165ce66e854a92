"""`python -m benchmarks.gpu --out FILE`: training steps and whole runs on one GPU, as JSON.

Every part runs in a process of its own and one after another, because JAX and PyTorch would
otherwise disturb each other with their threads and their memory. Our steps are timed by
`benchmarks.gpu_steps`, plain PyTorch and Hugging Face loops of the same steps by
`benchmarks.gpu_peers`. The parts of whole runs start the commands that a person would type, on a
folder of compiled programs that begins empty.

The file is written again after every part. A part that fails, or for which no time is left, is a
finding too: its error stands in its place. On a CPU, `--scale tiny --rounds 1` shows that the
script works.
"""

import importlib.metadata
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from common.base.config import PositiveInt, parse
from common.base.errors import run_command
from common.runs.files import write_json

Scale = Literal["full", "tiny"]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "transformers")
IN_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL"}
"""Loops become part of CUDA graphs, whose kernels the host need not launch one by one."""
GPU_FACTS = "name,driver_version,memory.total"
DETERMINISTIC_FLAGS = "--xla_gpu_deterministic_ops=true"
ON_CPU = {"JAX_PLATFORMS": "cpu"}
"""For PyTorch's processes, which read our configurations but leave the GPU to PyTorch."""
LEAST_SECONDS = 15
"""No part begins with less time left."""
RECORDS_BEFORE_SIGNAL = 12
"""Evaluations of a run before it is interrupted."""


@dataclass(frozen=True)
class BenchCommand:
    """Arguments of `python -m benchmarks.gpu`."""

    out: Path
    """The JSON file to write."""
    rounds: PositiveInt = 5
    """Timed rounds of each side, one warm-up round apart."""
    scale: Scale = "full"
    """tiny: small models and few steps, to see whether the script works."""
    seconds: PositiveInt = 530
    """No part begins or goes on after so many."""
    parts: tuple[str, ...] = ()
    """Names of the parts to run; none: all of them."""
    commit: str = ""
    """Of the code, where there is no git to ask."""


@dataclass(frozen=True)
class Steps:
    """A part that times steps: a module of this folder, and the name that the part has there."""

    module: Literal["gpu_steps", "gpu_peers"]
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def measure(self, bench: "Bench") -> dict[str, Any]:
        """Run the module and read what it wrote, which is whole up to the side it has come to."""
        out = bench.folder / f"{self.module}-{self.name}-{len(self.environment)}.json"
        command = [sys.executable, "-m", f"benchmarks.{self.module}", "--part", self.name]
        command += ["--out", str(out), "--scale", bench.scale, "--rounds", str(bench.rounds)]
        failure = bench.run(command, self.environment).failure
        sides = json.loads(out.read_text()) if out.exists() else {}
        return sides | failure


@dataclass(frozen=True)
class WholeRun:
    """A part that trains by command."""

    measured: Callable[["Bench"], dict[str, Any]]

    def measure(self, bench: "Bench") -> dict[str, Any]:
        """Run it."""
        return self.measured(bench)


@dataclass(frozen=True)
class Ended:
    """A process that has ended, or was ended because its time was over."""

    command: Sequence[str]
    wall_seconds: float
    exit_code: int | None
    last_words: str

    @property
    def failure(self) -> dict[str, Any]:
        """What went wrong, if anything."""
        if self.exit_code == 0:
            return {}
        return {"exit_code": self.exit_code, "last_words": self.last_words}


@dataclass(frozen=True)
class Bench:
    """What all parts share."""

    rounds: int
    scale: Scale
    deadline: float
    folder: Path
    """Of runs, compiled programs and logs; it goes when the script ends."""

    @property
    def seconds_left(self) -> float:
        """Until nothing may begin or go on any more."""
        return self.deadline - time.monotonic()

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        watch: Callable[[subprocess.Popen[bytes]], None] | None = None,
    ) -> Ended:
        """Run a command to its end.

        Args:
            command: with all its arguments.
            environment: variables in addition to ours.
            watch: called once the process runs, and may send it signals.
        """
        log, began = self.folder / "log.txt", time.monotonic()
        variables = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
            try:
                if watch is not None:
                    watch(process)
                exit_code = process.wait(max(self.seconds_left, 1.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                exit_code = None
        last_words = log.read_text(errors="replace")[-3000:]
        return Ended(command, round(time.monotonic() - began, 3), exit_code, last_words)


def main(args: list[str]) -> None:
    """Run the parts in order, and write the file after each of them."""
    command = parse(BenchCommand, args, prog="benchmarks.gpu", description="Training on a GPU.")
    report: dict[str, Any] = {"about": about(command), "parts": {}}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        deadline = began + command.seconds
        bench = Bench(command.rounds, command.scale, deadline, Path(folder))
        for name in command.parts or PARTS:
            report["parts"][name] = measured_part(name, bench)
            report["about"]["wall_seconds"] = round(time.monotonic() - began, 1)
            write_json(command.out, report)
            print(f"{report['about']['wall_seconds']:6.1f} s  {name}", flush=True)
            print(json.dumps(shortened(report["parts"][name])), flush=True)


def measured_part(name: str, bench: Bench) -> dict[str, Any]:
    """What a part finds, or why it found nothing."""
    if bench.seconds_left < LEAST_SECONDS:
        return {"skipped": "no time was left"}
    began = time.monotonic()
    try:
        found = PARTS[name].measure(bench)
    except (OSError, ValueError, KeyError, IndexError) as error:  # a run that left no files, say
        found = {"error": f"{type(error).__name__}: {error}"}
    return {"part_seconds": round(time.monotonic() - began, 1)} | found


def shortened(found: Any) -> Any:
    """The same without single rounds, for a reader who watches."""
    if not isinstance(found, dict):
        return found
    return {key: shortened(value) for key, value in found.items() if not key.startswith("rounds")}


def about(command: BenchCommand) -> dict[str, Any]:
    """The machine, the versions, and what was typed."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": command.commit or output_of("git", "rev-parse", "HEAD"),
        "gpu": output_of("nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv"),
        "host_cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "rounds": command.rounds,
        "scale": command.scale,
        "notes": "medians; the rounds stand beside them. 'first call' includes compiling, and "
        "'compile' is the first call less a median round. Our steps draw their data as well.",
    }


def output_of(*command: str) -> str:
    """What a program prints, or that there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def parity_quick(bench: Bench) -> dict[str, Any]:
    """The whole teacher of `quick`."""
    return train(bench, "parity", "parity-quick", "--preset", "quick")


def pcfg_quick(bench: Bench) -> dict[str, Any]:
    """The same for grammars."""
    return train(bench, "pcfg", "pcfg-quick", "--preset", "quick")


def transformer_paper(bench: Bench) -> dict[str, Any]:
    """The first 2000 steps of the published teacher, as a run of that length."""
    steps = ("--preset", "transformer-paper", "--training.steps", "2000")
    return train(bench, "parity", "transformer-paper", *steps)


def resume(bench: Bench) -> dict[str, Any]:
    """Whether an interrupted run of grammars ends as `pcfg_quick` did, which has run before."""
    return interrupted(bench, "pcfg-quick", {})


def resume_deterministic(bench: Bench) -> dict[str, Any]:
    """The same where XLA is asked for deterministic operations, beside a run of that kind."""
    environment = {"XLA_FLAGS": DETERMINISTIC_FLAGS}
    whole = train(bench, "pcfg", "pcfg-deterministic", "--preset", "quick", **environment)
    return {"whole": whole} | interrupted(bench, "pcfg-deterministic", environment)


def train(bench: Bench, package: str, name: str, *flags: str, **environment: str) -> dict[str, Any]:
    """A run by command: how long it took, and how well it learnt."""
    command = train_command(bench, package, name, *flags)
    ended = bench.run(command, environment)
    return told(ended) | outcome(bench.folder / name)


def interrupted(bench: Bench, whole: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """A run that is sent SIGTERM and started again, beside one that nobody disturbed."""
    name = f"{whole}-interrupted"
    metrics = bench.folder / name / "metrics.jsonl"

    def terminate(process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and bench.seconds_left > 0:
            if metrics.exists() and metrics.read_text().count("\n") >= RECORDS_BEFORE_SIGNAL:
                process.send_signal(signal.SIGTERM)
                return
            time.sleep(0.02)

    command = train_command(bench, "pcfg", name, "--preset", "quick")
    stopped = bench.run(command, environment, terminate)
    at_step = manifest_of(bench.folder / name).get("resume", {}).get("step")
    resumed = bench.run(command, environment)
    theirs = manifest_of(bench.folder / whole)["checkpoints"]
    ours = manifest_of(bench.folder / name)["checkpoints"]
    differing = [int(step) for step in theirs if ours.get(step) != theirs[step]]
    return {
        "interrupted": told(stopped) | {"at_step": at_step},
        "resumed": told(resumed) | outcome(bench.folder / name),
        "checkpoints": len(theirs),
        "bit_identical": not differing and ours.keys() == theirs.keys(),
        "first_differing_step": min(differing, default=None),
        "environment": dict(environment),
    }


def train_command(bench: Bench, package: str, name: str, *flags: str) -> list[str]:
    """The command of a run in the folder of this script."""
    tiny = TINY_FLAGS[package] if bench.scale == "tiny" else ()
    run_dir = ("--run-dir", str(bench.folder / name))
    return [sys.executable, "-m", f"{package}.train", *flags, *run_dir, *tiny]


TINY_FLAGS = {
    "parity": ("--training.steps", "8", "--training.eval-every", "4", "--training.num-seeds", "1"),
    "pcfg": ("--training.steps", "60", "--training.eval-every", "2", "--model.heads", "1"),
}
"""Of runs that are only to end."""


def told(ended: Ended) -> dict[str, Any]:
    """A process as the report has it."""
    command = shlex.join(["python", *ended.command[1:]])
    return {
        "command": command,
        "wall_seconds": ended.wall_seconds,
        "exit_code": ended.exit_code,
        "last_words": ended.last_words[-600:],
    }


def outcome(run_dir: Path) -> dict[str, Any]:
    """How a run ended: its own account of its time, and what it reached."""
    manifest = manifest_of(run_dir)
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    lanes, examples = len(manifest["seeds"]), last["examples"]
    seconds = manifest.get("wall_seconds")
    return {
        "status": manifest["status"],
        "steps": last["step"],
        "seconds_in_training": seconds,
        "examples_per_second": None if not seconds else round(examples * lanes / seconds),
        "seeds": manifest["seeds"],
        "final_accuracy": last["accuracy"],
        "final_eval_loss": last["eval_loss"],
        "speed": manifest.get("speed"),
        "device": manifest["starts"][-1]["device"],
    }


def manifest_of(run_dir: Path) -> dict[str, Any]:
    """What a run says of itself."""
    return json.loads((run_dir / "manifest.json").read_text())


PARTS: dict[str, Steps | WholeRun] = {
    "pcfg-paper": Steps("gpu_steps", "pcfg-paper"),
    "pcfg-paper, Hugging Face": Steps("gpu_peers", "pcfg-paper", ON_CPU),
    "transformer-paper": Steps("gpu_steps", "transformer-paper"),
    "transformer-paper, Hugging Face": Steps("gpu_peers", "transformer-paper", ON_CPU),
    "batch-one": Steps("gpu_steps", "batch-one"),
    "batch-one, PyTorch": Steps("gpu_peers", "batch-one", ON_CPU),
    "run parity quick": WholeRun(parity_quick),
    "run pcfg quick": WholeRun(pcfg_quick),
    "resume": WholeRun(resume),
    "run transformer-paper, 2000 steps": WholeRun(transformer_paper),
    "quick": Steps("gpu_steps", "quick"),
    "quick, PyTorch": Steps("gpu_peers", "quick", ON_CPU),
    "pcfg-quick": Steps("gpu_steps", "pcfg-quick"),
    "pcfg-quick, Hugging Face": Steps("gpu_peers", "pcfg-quick", ON_CPU),
    "resume, deterministic": WholeRun(resume_deterministic),
    "precision": Steps("gpu_steps", "precision"),
    "batch-one, other blocks": Steps("gpu_steps", "blocks"),
    "evaluation": Steps("gpu_steps", "evaluation"),
    "pcfg-paper, variants": Steps("gpu_steps", "pcfg-paper-variants"),
    "batch-one, loops in CUDA graphs": Steps("gpu_steps", "batch-one-alone", IN_GRAPHS),
}
"""In order of importance, since the time may not suffice for all: on an H200 those up to `resume`,
with three seeds of the Transformers and the loops in CUDA graphs besides, took 509 seconds."""


if __name__ == "__main__":
    run_command(main)
