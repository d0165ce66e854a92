"""Devices. Lanes of a run (seeds x learning rates) are independent, so they are spread over all
devices; where fewer lanes than devices are left, several devices share the batch of a lane."""

import functools
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from common.base import processes
from common.base.errors import UserError

LANE, BATCH = "lane", "batch"
"""Axes of a mesh."""
OLDER_EMITTERS = {"xla_cpu_use_fusion_emitters": False}
"""An option of the CPU's compiler, for programs of many small loops: they compile in half the time,
and are as fast. (BERT is not.)"""


def set_up_devices() -> None:
    """Use all cores, and keep compiled programs: the first thing that a computing command does."""
    use_all_cores()
    keep_compiled()


def use_all_cores() -> None:
    """Show each core of the CPU to XLA as a device, because a small model keeps only one core busy,
    and have it start as many threads. Call it before anything is computed."""
    os.environ.setdefault("PJRT_NPROC", str(num_cores()))
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """The cores that this process may run on, or has been granted by Slurm, which on some clusters
    does not bind a job to its own."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(count, int(granted)) if granted.isdigit() and int(granted) > 0 else count


def compiler_options(on_cpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options of the CPU's compiler for programs that take as long to compile as to run; none on
    another device.

    LLVM's optimisation level 1 takes three quarters of the time of level 3, the default, and makes
    programs of the same speed. An option that the variable XLA_FLAGS sets is left out.

    Args:
        on_cpu: further options.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_backend_optimization_level": 1, **(on_cpu or {})}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}=" not in flags}


def keep_compiled() -> None:
    """Keep compiled programs for later commands on this machine, because compiling takes longer
    than many runs.

    They lie in the user's cache, or in the folder that the variable JAX_COMPILATION_CACHE_DIR
    names. If that cannot be written, they are compiled again.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = machine_cache("compiled")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def machine_cache(what: str) -> Path:
    """Where in the user's cache something is kept that holds on this machine alone; it need not
    exist."""
    return user_cache(f"{what}-{_processor()}")


def user_cache(what: str) -> Path:
    """Where in the user's cache something is kept that can be had again; it need not exist."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()  # as XDG specifies
    return Path(caches) / "implicit-curriculum" / what


@functools.cache
def _processor() -> str:
    """A hash of the processor's model and features. A compiled program may not run on another
    processor that shares the user's folders."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    text = "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def lane_mesh(num_lanes: int) -> Mesh:
    """A one-dimensional mesh over as many devices of this process as divide the lanes evenly."""
    devices = jax.local_devices()
    return Mesh(devices[: _divisors(num_lanes, len(devices))[0]], (LANE,))


def training_mesh(num_lanes: int, batch_size: int, splits_batch: bool) -> Mesh:
    """A mesh over lanes first, and, with what devices are left, over the examples of a batch. All
    processes have as many devices in it.

    Args:
        num_lanes: independent ones, or groups of them.
        batch_size: examples, of which every device gets as many.
        splits_batch: whether a batch is worth the exchange of its gradients. Where lanes do not
            suffice for all processes, it is split nevertheless.

    Raises:
        UserError: neither lanes nor batches can be shared by all processes.
    """
    num_processes, num_devices = processes.count(), jax.device_count()
    shape = _mesh_shape(num_lanes, batch_size, num_devices, num_processes, splits_batch)
    if shape is None:
        raise UserError(
            f"{num_lanes} lanes with batches of {batch_size} cannot be shared equally by"
            f" {num_processes} processes with {num_devices} devices; start fewer processes"
        )
    num_each = shape[0] * shape[1] // num_processes
    by_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    chosen = [device for number in sorted(by_process) for device in by_process[number][:num_each]]
    if shape[1] == 1:
        return Mesh(chosen, (LANE,))
    return Mesh(np.array(chosen).reshape(shape), (LANE, BATCH))


def _mesh_shape(
    num_lanes: int, batch_size: int, num_devices: int, num_processes: int, splits_batch: bool
) -> tuple[int, int] | None:
    """Over how many devices lanes are spread, and each of their batches; None: over no number that
    the processes can share."""
    for of_lanes in _divisors(num_lanes, num_devices):
        parts = _divisors(batch_size, num_devices // of_lanes)
        shared = [part for part in parts if of_lanes * part % num_processes == 0]
        if shared:
            return of_lanes, shared[0] if splits_batch else shared[-1]
    return None


def _divisors(number: int, most: int) -> list[int]:
    """Those up to `most`, the largest first."""
    return [n for n in range(min(number, most), 0, -1) if number % n == 0]


def over_lanes(function: Callable[..., Any], num_lanes: int) -> Callable[..., Any]:
    """Apply a function of one lane to all lanes, compiled and spread over the devices.

    Args:
        function: takes the parameters of one lane, then arguments that all lanes share.
        num_lanes: how many there are.

    Returns:
        A function of the parameters of all lanes (leaves `(L, ...)`) and the shared arguments.
    """

    def compiled(params_L: Any, *shared: Any) -> Any:
        return jax.shard_map(
            jax.vmap(function, (0, *(None for _ in shared))),
            mesh=lane_mesh(num_lanes),
            in_specs=(PartitionSpec(LANE), *(PartitionSpec() for _ in shared)),
            out_specs=PartitionSpec(LANE),
        )(params_L, *shared)

    return jax.jit(compiled, compiler_options=compiler_options())
