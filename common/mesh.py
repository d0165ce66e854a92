"""Devices: lanes of a run (seeds x learning rates) are independent, so they are spread over whatever devices there are."""

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

LANE = "lane"


def use_all_cores() -> None:
    """Show XLA's CPU as one device a core, because one small model does not keep more than one core busy. Call before anything is computed."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def compiler_options(on_cpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options of the compiler for programs that take as long to compile as to run, further ones included; none unless on a CPU, whose they are.

    LLVM's first level makes programs of the same speed as its third, which is the default, in three quarters of the time.
    """
    return {"xla_backend_optimization_level": 1, **(on_cpu or {})} if jax.default_backend() == "cpu" else {}


def keep_compiled(folder: Path) -> None:
    """Compile each program once on this machine: runs of one experiment share most of theirs, and compiling takes longer than many of them."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / platform.node()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def lane_mesh(num_lanes: int) -> Mesh:
    """A one-dimensional mesh over as many local devices as divide the lanes evenly."""
    devices = jax.local_devices()
    count = max(n for n in range(1, min(len(devices), num_lanes) + 1) if num_lanes % n == 0)
    return Mesh(devices[:count], (LANE,))


def over_lanes(function: Callable[..., Any], num_lanes: int) -> Callable[..., Any]:
    """A function of (the parameters of one lane, anything else) as one of (those of all lanes, the same), compiled and spread over the devices."""

    def compiled(params_L: Any, *rest: Any) -> Any:
        in_axes, specs = (0, *(None for _ in rest)), (PartitionSpec(LANE), *(PartitionSpec() for _ in rest))
        return jax.shard_map(jax.vmap(function, in_axes), mesh=lane_mesh(num_lanes), in_specs=specs, out_specs=PartitionSpec(LANE))(params_L, *rest)

    return jax.jit(compiled, compiler_options=compiler_options())
