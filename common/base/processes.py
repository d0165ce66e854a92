"""Several processes that carry out one command together, each with as many devices of its own: as
tasks of Slurm, ranks of Open MPI 4, hosts of a TPU slice that TPU_WORKER_HOSTNAMES names, or by
JAX's variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

All take the same decisions, and compute their part of every array. The first one writes the files
and speaks to the user; what depends on a clock, a signal or a disk is agreed upon. If one of them
ends, the others end with an error.

Alone, a process does all of this with itself.
"""

import hashlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from common.base.errors import Others, RunError, UserError, joined

ALONE = "CURRICULUM_ALONE"
"""A variable: 1 where processes that a cluster has started together are to work each by itself."""
EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
TPU_HOSTS = "TPU_WORKER_HOSTNAMES"
VISIBLE = "CUDA_VISIBLE_DEVICES"
_CONNECTED_WITHIN = 60
_MISSED_AFTER = 30
"""Seconds."""
_COLLECTIVES = "--xla_cpu_collective_timeout_seconds=1000000"
"""Others wait for the first process as long as it takes; whether it lives is told by its heartbeat
and its connections."""
_LOST = ("Gloo", "NCCL", "coordination service", "distributed service", "heartbeat")
"""Words of the errors that JAX raises when another process has gone."""


def join() -> None:
    """Connect with the other processes of this command, if there are any: after devices are set up,
    and before anything is computed.

    Raises:
        UserError: of JAX's variables some are set and some are not; the others cannot be reached,
            have another number of devices, or carry out another command.
    """
    how = _how_started()
    if how is None or jax.distributed.is_initialized():
        return
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_COLLECTIVES}"
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    own = int(hashlib.sha256(repr((sys.argv, str(Path.cwd()))).encode()).hexdigest()[:7], 16)
    try:
        jax.distributed.initialize(
            **how,
            initialization_timeout=_CONNECTED_WITHIN,
            heartbeat_timeout_seconds=_MISSED_AFTER,
            shutdown_timeout_seconds=_MISSED_AFTER,
        )
        # Now, because they wait for each other's devices, and for the first exchange, not for long.
        commands = multihost_utils.process_allgather(np.asarray([own]))
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"the processes of this command cannot connect within {_CONNECTED_WITHIN} s"
            f" ({reason}); see that all are started, that {EXPLICIT[0]} can be reached, and that"
            " each has as many devices (on CPUs JAX_NUM_CPU_DEVICES)"
        ) from None
    if len(np.unique(commands)) > 1:
        raise UserError(
            "the processes that were started together carry out different commands, or in different"
            f" folders; set {ALONE}=1 where each is to work by itself"
        )
    joined(Others(means_lost, end))
    if not is_first():
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115
        sys.stdout, sys.stderr = nowhere, nowhere
        sys.excepthook = _excepthook


def _excepthook(*error: Any) -> None:
    """Of a process that does not speak otherwise."""
    text = "".join(traceback.format_exception(*error))
    os.write(2, f"process {jax.process_index()} of {count()}: {text}".encode())


def refuse_several() -> None:
    """Raise a UserError if this process is one of several: of a command that does not share its
    work."""
    if _how_started() is not None:
        raise UserError(
            "this command is carried out by a single process; start one of it (train, distill and"
            f" experiment share their work), or set {ALONE}=1"
        )


def count() -> int:
    """How many processes there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the one that writes and speaks."""
    return count() == 1 or jax.process_index() == 0


def gathered(tree: Any) -> Any:
    """Arrays that may be spread over all processes, as numpy arrays in each of them."""
    if count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def spread(tree: Any, sharding: Sharding) -> Any:
    """Arrays that every process has as a whole, spread over the devices of all of them."""
    if count() == 1:
        return jax.device_put(tree, sharding)

    def of_leaf(leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(of_leaf, tree)


def largest(number: int) -> int:
    """The largest of the numbers that the processes give."""
    if count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.asarray([number]))))


def of_first(numbers: Any) -> Any:
    """Numbers as the first process has them; in the others they have the same shapes."""
    if count() == 1:
        return numbers
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(numbers)))


def by_first(task: Callable[[], object]) -> None:
    """Have the first process carry something out, while the others wait.

    Raises:
        RunError: in the others, if it has failed there.
    """
    if count() == 1:
        task()
        return
    if is_first():
        try:
            task()
        except BaseException:
            of_first(True)
            raise
    if of_first(False):
        raise RunError("the first process has failed, and says why")


def means_lost(error: Exception) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    return any(word in str(error) for word in _LOST)


def end(code: int, message: str) -> None:
    """End this process at once, without a farewell to others that may have gone. The first one has
    given its message."""
    if not is_first():
        os.write(2, f"process {jax.process_index()} of {count()}: {message}\n".encode())
    os._exit(code)


def _how_started() -> dict[str, Any] | None:
    """What JAX is to be told about the processes of this command; None: it is a single one."""
    if os.environ.get(ALONE) == "1":
        return None
    set_here = [name for name in EXPLICIT if name in os.environ]
    if set_here:
        if missing := [name for name in EXPLICIT if name not in os.environ]:
            raise UserError(f"{', '.join(set_here)} is set; set {', '.join(missing)} as well")
        return _explicit()
    if all(name in os.environ for name in SLURM):
        return _of_slurm() if int(os.environ["SLURM_NTASKS"]) > 1 else None
    if all(name in os.environ for name in OPEN_MPI):
        return {} if int(os.environ["OMPI_COMM_WORLD_SIZE"]) > 1 else None
    return {} if "," in os.environ.get(TPU_HOSTS, "") else None


def _of_slurm() -> dict[str, Any]:
    """JAX takes the GPU with the task's number on its node; where Slurm shows each task its own
    alone, that is the only one."""
    shown = os.environ.get(VISIBLE, "")
    return {"local_device_ids": [0]} if shown and "," not in shown else {}


def _explicit() -> dict[str, Any] | None:
    address, *numbers = (os.environ[name] for name in EXPLICIT)
    if not all(number.isdigit() for number in numbers):
        raise UserError(f"{EXPLICIT[1]} and {EXPLICIT[2]} must be numbers, from 1 and from 0 on")
    num_processes, number = map(int, numbers)
    if not 0 <= number < num_processes:
        raise UserError(
            f"{EXPLICIT[2]} = {number}; it must be less than {EXPLICIT[1]} = {num_processes}"
        )
    if num_processes == 1:
        return None
    return {
        "coordinator_address": address,
        "num_processes": num_processes,
        "process_id": number,
    }
