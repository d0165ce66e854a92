"""Devices: lanes of a run (seeds x learning rates) are independent, so they are spread over
whatever devices there are."""

import functools
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

LANE = "lane"


def set_up_devices() -> None:
    """What every command that computes does first: use all cores, and keep what is compiled."""
    use_all_cores()
    keep_compiled()


def use_all_cores() -> None:
    """Show XLA's CPU as one device a core, because one small model does not keep more than one core
    busy. Call before anything is computed."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update(
            "jax_num_cpu_devices",
            (
                len(os.sched_getaffinity(0))
                if hasattr(os, "sched_getaffinity")
                else os.cpu_count() or 1
            ),
        )


def compiler_options(on_cpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options of the compiler for programs that take as long to compile as to run, further ones
    included; none unless on a CPU, whose they are.

    LLVM's first level makes programs of the same speed as its third, which is the default, in three
    quarters of the time. What the variable XLA_FLAGS says of an option counts more.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_backend_optimization_level": 1, **(on_cpu or {})}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}=" not in flags}


def keep_compiled() -> None:
    """Compile each program once on this machine, whichever command needs it: compiling takes longer
    than many runs.

    The programs lie in the user's cache, or where the variable JAX_COMPILATION_CACHE_DIR says;
    without a place to write they are compiled again.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = _user_cache() / "implicit-curriculum" / f"compiled-{_processor()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _user_cache() -> Path:
    """The folder of the user's caches, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


@functools.cache
def _processor() -> str:
    """What compiled programs depend on: those for one processor may not run on another that shares
    the user's folders."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    text = "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def lane_mesh(num_lanes: int) -> Mesh:
    """A one-dimensional mesh over as many local devices as divide the lanes evenly."""
    devices = jax.local_devices()
    count = max(n for n in range(1, min(len(devices), num_lanes) + 1) if num_lanes % n == 0)
    return Mesh(devices[:count], (LANE,))


def over_lanes(function: Callable[..., Any], num_lanes: int) -> Callable[..., Any]:
    """A function of (the parameters of one lane, anything else) as one of (those of all lanes, the
    same), compiled and spread over the devices."""

    def compiled(params_L: Any, *rest: Any) -> Any:
        in_axes, specs = (
            (0, *(None for _ in rest)),
            (PartitionSpec(LANE), *(PartitionSpec() for _ in rest)),
        )
        return jax.shard_map(
            jax.vmap(function, in_axes),
            mesh=lane_mesh(num_lanes),
            in_specs=specs,
            out_specs=PartitionSpec(LANE),
        )(params_L, *rest)

    return jax.jit(compiled, compiler_options=compiler_options())
