"""A Dask cluster as an executor: `hvcemu matrix --dask tcp://scheduler:8786`.

Every worker has this version of hvcemu and sees the images, profiles and other files under the
paths of the machine that starts the matrix: a shared file system, or the same checkout. One
thread per worker (`dask worker --nthreads 1`) is best, since the emulator holds Python's lock
while a guest runs. A worker that dies is Dask's to notice: the scheduler gives its work to
another one, and gives up on work that has cost it several workers.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from emu import __version__
from emu.base.errors import EmuError

PATIENCE = 15
"""Seconds to wait for the scheduler and for the first worker."""
AHEAD = 2
"""Chunks under way per thread, so that none waits for the network."""


@contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """An executor over the cluster, and how many chunks it can use at the moment."""
    try:
        import distributed
    except ImportError:
        raise EmuError(
            "--dask needs Dask: python -m pip install 'hvcemu[dask]'"
        ) from None
    # What it would log the user is told in one line.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    connect: Any = distributed.Client  # it has no types
    try:
        client = connect(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise EmuError(f"--dask {address}: no scheduler answers there: {error}") from None
    with contextlib.closing(client):
        _check(client, address)
        yield client.get_executor(pure=False), functools.partial(_slots, client, address)


def _slots(client: Any, address: str) -> int:
    """How many chunks all workers together can use now: some come, some go."""
    try:
        return AHEAD * int(sum(client.nthreads().values()))
    except (OSError, ValueError, RuntimeError) as error:
        raise EmuError(
            f"--dask {address}: the scheduler has gone ({error}); --db keeps what was done"
        ) from None


def _version() -> str:
    return __version__


def _check(client: Any, address: str) -> None:
    """Refuse a cluster without workers, or with another version."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise EmuError(f"--dask {address}: no worker has come within {PATIENCE} s") from None
    try:
        versions = set(client.run(_version).values())
    except Exception as error:
        raise EmuError(
            f"--dask {address}: a worker cannot import hvcemu: install it there ({error})"
        ) from None
    if versions != {__version__}:
        raise EmuError(
            f"--dask {address}: workers have hvcemu {', '.join(sorted(versions))}, "
            f"this is {__version__}: install the same everywhere"
        )
