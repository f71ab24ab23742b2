"""Runs many setups on this machine: in processes that may die, or in this one.

When a worker dies or hangs, the pool is ended and whatever was not answered is run again: what was
under way one at a time, each in a process of its own, so that it is known which setup it was; the
rest in a new pool. A worker's address space is bounded, so that memory runs out in the worker.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import InvalidStateError
from concurrent.futures.process import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

from emu.judge.trial import Outcome, Setup, attempt
from emu.runs.workers import Answers, Numbered, Work, WorkersDied, careful, lost, run_over

GRACE = 10.0
"""Seconds beyond its own limit until a worker counts as hung."""
HEADROOM = 4 << 30
"""Address space a local worker may take beyond its parent's and twice the guest's RAM: our choice,
far more than a run takes and far less than hurts a host that runs one worker per CPU."""


def run_here(setups: Numbered, work: Work = attempt) -> Iterator[Answers]:
    """Run setups in this process: nothing to start, and nothing between us and a hang."""
    for number, setup in setups.items():
        yield [(number, careful(work, setup))]


def run_in_processes(
    setups: Numbered, jobs: int, *, work: Work = attempt, grace: float = GRACE
) -> Iterator[Answers]:
    """Run setups in local processes that may die or hang."""
    left = dict(setups)
    beyond = HEADROOM + 2 * max((setup.memory for setup in setups.values()), default=0)
    while left:
        suspects: list[int] = []
        with pool_of(jobs, beyond) as pool:
            try:
                for answers in run_over(
                    dict(left), pool, slots=lambda: jobs, work=work, grace=grace
                ):  # fmt: skip
                    for number, _ in answers:
                        del left[number]
                    yield answers
            except WorkersDied as died:
                suspects = died.suspects
        for number in suspects:
            yield [(number, run_alone(left.pop(number), beyond, work=work, grace=grace))]


@contextlib.contextmanager
def pool_of(
    jobs: int, memory: int, begin: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Local processes, killed at the end: they have nothing to save. Each calls `begin` first."""
    before = {process.pid for process in multiprocessing.active_children()}
    pool = ProcessPoolExecutor(jobs, context(), initializer=_prepare,
                               initargs=(memory, begin, *arguments))
    try:
        yield pool
    finally:
        with _deaf_to_cancelled():
            for process in multiprocessing.active_children():
                if process.pid not in before:
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _deaf_to_cancelled() -> Iterator[None]:
    """Let the pool's own thread fail in silence while it is ended.

    Up to Python 3.12 it tells futures that their process died without asking whether they were
    cancelled meanwhile (concurrent/futures/process.py:terminate_broken), and would print that.
    """
    before = threading.excepthook

    def hear(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_type is not InvalidStateError:
            before(failure)

    threading.excepthook = hear
    try:
        yield
    finally:
        threading.excepthook = before


def context() -> BaseContext:
    """How processes are started: by fork where that is safe, for it takes 5 ms and not 300."""
    can_fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    alone = threading.active_count() == 1
    return multiprocessing.get_context("fork" if can_fork and alone else "spawn")


def run_alone(
    setup: Setup, memory: int = HEADROOM, *, work: Work = attempt, grace: float = GRACE
) -> Outcome:
    """Run one setup in a process of its own, whose death is an outcome."""
    ours, theirs = context().Pipe(duplex=False)
    process = context().Process(  # type: ignore[attr-defined]
        target=_run_and_send, args=(theirs, memory, work, setup)
    )
    process.start()
    theirs.close()
    try:
        if not ours.poll(setup.seconds + grace):
            return lost(f"no answer within {setup.seconds + grace:g} seconds: killed")
        answer: Outcome = ours.recv()
        return answer
    except EOFError:
        process.join()
        return lost(_death(process.exitcode))
    finally:
        process.kill()
        process.join()


def _run_and_send(pipe: Connection, memory: int, work: Work, setup: Setup) -> None:
    _prepare(memory)
    pipe.send(careful(work, setup))


def _death(status: int | None) -> str:
    if status is not None and status < 0:
        return f"its worker died of {signal.Signals(-status).name}"
    return f"its worker ended by itself with status {status}"


# -- inside a worker ----------------------------------------------------------------------------


def _prepare(
    memory: int, begin: Callable[..., None] | None = None, *arguments: Any
) -> None:
    """A local worker's first steps: Ctrl-C is its parent's, memory is bounded, no orphan."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(memory)
    gc.freeze()
    gc.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin:
        begin(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory(beyond: int) -> None:
    """Bound the address space to what is taken now and `beyond`; only where the host can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        pages = int(_statm().split()[0])
        limit = pages * resource.getpagesize() + beyond
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _statm() -> str:
    with open("/proc/self/statm", encoding="ascii") as file:
        return file.read()
