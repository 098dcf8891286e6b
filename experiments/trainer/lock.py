"""One run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from experiments.errors import InputError

FILE = "lock"
# So long the processes of a run that was just killed may take to end.
PATIENCE_SECONDS = 5


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keeps other runs out of the folder ``out``, which is made where it is missing.

    Process 0 holds the lock for all. The operating system lets go of it when that
    process ends, by whatever cause: no lock is ever left over.

    Raises:
      InputError: if another run is in there.
    """
    if jax.process_index() > 0:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / FILE, timeout=PATIENCE_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run is under way in {out}: wait for it, end it, or give another "
            "--out"
        ) from None
    try:
        yield
    finally:
        lock.release()
