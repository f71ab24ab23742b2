"""Runs many setups over an executor, so that each costs at most itself.

The unit of work is a chunk: a worker is given some setups, does as many as fit into a fifth of a
second (at least one) and answers; the rest is handed out anew. So tiny guests cost little
overhead, progress stays live, and a worker's time for a chunk is bounded by one setup's.

What goes wrong costs one setup and is its outcome: an `EmuError` is REFUSED; memory that runs
out, an unexpected exception and a worker that is lost are LOST, with the reason. What a lost worker
had is tried once more, one at a time. An answer is taken once only.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import NamedTuple

from emu.base.endings import STATUS_FAULT, STATUS_USER, Ending
from emu.base.errors import EmuError
from emu.judge.trial import Outcome, Setup, attempt, failed

CHUNK = 64
"""At most so many setups at once: a message of a few kilobytes."""
CHUNK_SECONDS = 0.2
TICK = 0.2
"""Seconds between two looks of the caller's at least, for its progress line."""

Work = Callable[[Setup], Outcome]
Numbered = Mapping[int, Setup]
Answers = list[tuple[int, Outcome]]


class WorkersDied(Exception):
    """Local workers are gone; the setups they had are suspects."""

    def __init__(self, suspects: list[int]) -> None:
        super().__init__(f"{len(suspects)} setups unanswered")
        self.suspects = suspects


def lost(reason: str) -> Outcome:
    """The outcome of a setup that has taken its worker with it."""
    return failed(Ending.LOST, STATUS_FAULT, reason)


# -- inside a worker ----------------------------------------------------------------------------


def careful(work: Work, setup: Setup) -> Outcome:
    """The work on one setup; whatever it raises is its outcome."""
    try:
        return work(setup)
    except EmuError as error:
        return failed(Ending.REFUSED, STATUS_USER, f"{error}{_unreadable(setup)}")
    except MemoryError:
        return lost("the worker ran out of memory")
    except Exception as error:
        return lost(f"an error of hvcemu's own: {type(error).__name__}: {error}")


def _unreadable(setup: Setup) -> str:
    if os.access(setup.image, os.R_OK):
        return ""
    return "; every worker must see the image under this path"


def do_chunk(work: Work, setups: tuple[Setup, ...]) -> list[Outcome]:
    """The first outcomes, as many as fit into `CHUNK_SECONDS`, one at least."""
    ends = time.monotonic() + CHUNK_SECONDS
    outcomes = []
    for setup in setups:
        outcomes.append(careful(work, setup))
        if time.monotonic() >= ends:
            break
    return outcomes


# -- over an executor -----------------------------------------------------------------------------


class _Flight(NamedTuple):
    """A chunk on its way: which setups, and when it is overdue."""

    numbers: list[int]
    overdue: float


def run_over(
    setups: Numbered,
    executor: Executor,
    *,
    slots: Callable[[], int] = lambda: 1,
    work: Work = attempt,
    grace: float | None = None,
) -> Iterator[Answers]:
    """Run setups over any executor that can import `emu`; yields answers as they come.

    An empty list is a tick. `slots` says how many chunks may be under way. With `grace` a chunk
    that takes so much longer than it may raises `WorkersDied`, as a broken pool does.
    """
    waiting, alone = deque(setups), deque[int]()
    flying: dict[Future[list[Outcome]], _Flight] = {}
    tried: set[int] = set()
    try:
        while waiting or alone or flying:
            free = max(slots(), 1)
            while (waiting or alone) and len(flying) < free:
                numbers = [alone.popleft()] if alone else _next_chunk(waiting, free)
                chunk = tuple(setups[n] for n in numbers)
                future = _submit(executor, work, chunk)
                flying[future] = _Flight(numbers, _overdue(chunk, grace))
            done, _ = wait(flying, TICK, FIRST_COMPLETED)
            answers: Answers = []
            for future in done:
                numbers = flying[future].numbers
                outcomes = _outcomes(future, tried.issuperset(numbers))
                answers += zip(numbers, outcomes, strict=False)
                if outcomes:
                    waiting.extendleft(reversed(numbers[len(outcomes):]))
                else:
                    tried.update(numbers)
                    alone += numbers
                del flying[future]
            if answers or not done:
                yield answers
            if any(flight.overdue < time.monotonic() for flight in flying.values()):
                raise BrokenExecutor("a worker hangs")
    except BrokenExecutor:
        raise WorkersDied([n for flight in flying.values() for n in flight.numbers]) from None
    finally:  # whoever leaves early wants no more of it
        for future in flying:
            future.cancel()


def _overdue(chunk: tuple[Setup, ...], grace: float | None) -> float:
    if grace is None:
        return math.inf
    return time.monotonic() + CHUNK_SECONDS + max(setup.seconds for setup in chunk) + grace


def _next_chunk(waiting: deque[int], slots: int) -> list[int]:
    """Fewer at a time towards the end, so that all workers end at about the same time."""
    size = min(max(len(waiting) // (2 * slots), 1), CHUNK)
    return [waiting.popleft() for _ in range(size)]


def _submit(executor: Executor, work: Work, chunk: tuple[Setup, ...]) -> Future[list[Outcome]]:
    """A future; one that has failed already where the executor is broken."""
    try:
        return executor.submit(do_chunk, work, chunk)
    except BrokenExecutor as error:
        future: Future[list[Outcome]] = Future()
        future.set_exception(error)
        return future
    except RuntimeError as error:  # shut down: there is nobody left to ask
        raise EmuError(f"the executor takes no more work: {error}") from error


def _outcomes(future: Future[list[Outcome]], again: bool) -> list[Outcome]:
    """What a chunk has given; none when its setups are to be tried once more, one at a time."""
    try:
        return future.result()
    except (BrokenExecutor, KeyboardInterrupt):
        raise
    except BaseException as error:  # a cancelled future's error is no Exception everywhere
        reason = f"its worker was lost twice: {type(error).__name__}: {error}"
        return [lost(reason)] if again else []
