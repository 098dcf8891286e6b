"""How the processes of a run find each other, and that none outlives the others."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

import jax
import orbax.checkpoint as ocp

from experiments.trainer.config import DETECT, Train

# For what one process does while the others wait: pretraining on a large source may
# take hours. One that dies is noticed sooner.
PATIENCE_SECONDS = 24 * 3600
# A process that ends with an error waits so long for the others to end, in vain. All is
# done when the others do, as they have met before.
SHUTDOWN_SECONDS = 10


@contextmanager
def joined(config: Train) -> Iterator[None]:
    """Connects this process with the others; to be entered before JAX is used.

    When one of them dies, those that wait for it fail at once where its connections
    break, and after ``config.heartbeat`` seconds where it only falls silent.
    """
    if config.coordinator is None:
        yield
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    place = {}
    if config.coordinator != DETECT:
        place = {
            "coordinator_address": config.coordinator,
            "num_processes": config.processes,
            "process_id": config.process_id,
        }
    if config.coordinator.startswith(("127.0.0.1:", "localhost:")):
        # By default it listens on all of the machine's addresses.
        place["coordinator_bind_address"] = config.coordinator
    jax.distributed.initialize(
        **place,
        heartbeat_timeout_seconds=config.heartbeat,
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
    yield
    # Not after an error: the others may never come.
    meet("end")
    jax.distributed.shutdown()


def meet(name: str) -> None:
    """Waits until every process has called this; each name may be used once.

    Not by a collective: Gloo's first one waits for 30 seconds only.
    """
    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key=name, timeout_ms=1000 * PATIENCE_SECONDS)


def end_with_parent() -> None:
    """Lets this process end when the one that started it does, by whatever cause.

    Otherwise workers of a launcher that was killed would go on writing into a folder
    in which the next run has begun.
    """
    parent = parent_process()
    assert parent is not None, "not started by multiprocessing"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
