"""Several processes on this machine, as if each were one machine of a cluster."""

import dataclasses
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess

from experiments.trainer.config import Train
from experiments.trainer.processes import end_with_parent

Work = Callable[[Train], int]


def launch(config: Train, work: Work) -> None:
    """Runs ``work`` in ``config.processes`` new processes until all are done.

    SIGTERM is handed on to them, so that they save and end.

    Args:
      config: what each is given, with the place it has among the others.
      work: gives the exit code of its process; has to be importable.

    Raises:
      ChildProcessError: as soon as one ends with an error; the others are stopped.
    """
    address = f"127.0.0.1:{_free_port()}"
    # One process imports what takes seconds, and forks before JAX has started threads.
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    workers = [
        context.Process(
            target=_worker,
            args=(
                work,
                dataclasses.replace(config, coordinator=address, process_id=index),
            ),
        )
        for index in range(config.processes)
    ]

    def hand_on(*_: object) -> None:
        for worker in workers:
            worker.terminate()

    for worker in workers:
        worker.start()
    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        _wait(workers)
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            worker.kill()
            worker.join()


def _wait(workers: Sequence[BaseProcess]) -> None:
    running = dict(enumerate(workers))
    while running:
        connection.wait([worker.sentinel for worker in running.values()])
        ended = {i: x.exitcode for i, x in running.items() if x.exitcode is not None}
        for index, code in ended.items():
            del running[index]
            if code:
                how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
                raise ChildProcessError(
                    f"process {index} of {len(workers)} ended {how}, and the others "
                    "were stopped; the same command goes on from the last checkpoint"
                )


def _worker(work: Work, config: Train) -> None:
    end_with_parent()
    # Of a Ctrl-C the launcher alone takes care: the terminal sends it to all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(work(config))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
