"""The cells of `hvcemu matrix`: made of its options, run, and kept in a file on the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.cli.workers import prepare_workers
from emu.judge.trial import Setup
from emu.runs.bundled import find_image
from emu.runs.exports import Origin
from emu.runs.matrix import (
    Axes,
    Cell,
    Guest,
    Result,
    distinct,
    find_profiles,
    guest_named,
    guests_below,
    is_good,
    make_cells,
)
from emu.runs.processes import run_here, run_in_processes
from emu.runs.progress import Progress
from emu.runs.results import Recorder, ResultsFile
from emu.runs.workers import Answers, Numbered, run_over


class Database(NamedTuple):
    """An open file of results and the run in it that is written."""

    file: ResultsFile
    run: int


class Ran(NamedTuple):
    """What came of cells: all their results, in order, unless Ctrl-C came first."""

    finished: bool
    results: list[Result]
    database: Database | None


def cells_of(options: Any) -> list[Cell]:
    """Every combination of guests and worlds."""
    guests: list[Guest] = []
    for name in options.guests:
        if os.path.isdir(name):
            guests += guests_below(name)
        else:
            guests.append(guest_named(find_image(name)))
    axes = Axes(
        distinct(guests), find_profiles(options.profile), options.conduit, options.cpus,
        options.core, options.mem, options.seed, options.vary == "services",
    )  # fmt: skip
    base = Setup(
        "", services=tuple(options.services), registers=tuple(options.fw_reg),
        deny=tuple(options.deny), append=options.append, initrd=_absolute(options.initrd),
        dtb=_absolute(options.dtb), seconds=options.timeout, cycles=options.max_cycles,
        follow=options.follow,
    )  # fmt: skip
    return make_cells(axes, base)


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None


def run_cells(cells: Sequence[Cell], origin: Origin, options: Any) -> Ran:
    """Run those that have no result in the file yet."""
    digests, results = _digests(cells), dict[int, Result]()
    database = None
    with contextlib.ExitStack() as stack:
        if options.db:
            database = stack.enter_context(_open_database(options, origin, len(cells)))
        if database and options.resume:
            results = _known(database, cells, digests)
        finished = _run_rest(cells, digests, results, database, options)
        in_order = [results[number] for number in sorted(results)]
        if finished:
            _conclude(in_order, database)
    return Ran(finished, in_order, database)


def _digests(cells: Sequence[Cell]) -> dict[str, str]:
    """SHA-256 of each image, "" where it cannot be read: its cells will say so."""
    digests = {}
    for path in {cell.setup.image for cell in cells}:
        digests[path] = ""
        with contextlib.suppress(OSError), open(path, "rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


@contextlib.contextmanager
def _open_database(options: Any, origin: Origin, total: int) -> Iterator[Database]:
    """The file of --db, with the run that --resume names or a new one."""
    with ResultsFile(options.db, create=not options.resume) as file:
        if options.resume:
            run = file.run(options.resume).id
        else:
            run = file.begin(origin.started, origin.version, origin.command, total)
        yield Database(file, run)


def _known(
    database: Database, cells: Sequence[Cell], digests: Mapping[str, str]
) -> dict[int, Result]:
    """What an interrupted run has done already."""
    places = {cell.key: number for number, cell in enumerate(cells)}
    known = {}
    for result in database.file.results(database.run):
        number = places.get(result.cell.key)
        if number is None or result.digest != digests[cells[number].setup.image]:
            raise EmuError(
                f"run {database.run} of {database.file.path} is of another matrix "
                f"({result.cell} is not in this one, or its image is another): repeat its command"
            )
        known[number] = result
    return known


def _run_rest(
    cells: Sequence[Cell], digests: Mapping[str, str], results: dict[int, Result],
    database: Database | None, options: Any,
) -> bool:  # fmt: skip
    """Run the cells without a result; `results` grows. False where Ctrl-C came first."""
    known, allowed = len(results), frozenset(options.allow_exit)
    todo = {n: cell.setup for n, cell in enumerate(cells) if n not in results}
    progress = Progress(sys.stderr, len(todo))
    recorder = Recorder(*database) if database else None
    bad = 0
    try:
        with _workers(options, todo) as answered:
            for answers in answered:
                rows = [(n, Result(cells[n], o, digests[cells[n].setup.image])) for n, o in answers]
                results.update(rows)
                if recorder:
                    recorder.add(rows)
                bad += sum(not is_good(outcome, allowed) for _, outcome in answers)
                progress.update(len(results) - known, bad)
    except KeyboardInterrupt:
        return False
    finally:
        progress.clear()
        if recorder:
            recorder.flush()
    return True


@contextlib.contextmanager
def _workers(options: Any, todo: Numbered) -> Iterator[Iterator[Answers]]:
    """Who runs the cells; whatever was started is ended on the way out."""
    with contextlib.ExitStack() as stack:
        if options.dask:
            from emu.runs.cluster import dask_executor

            executor, slots = stack.enter_context(dask_executor(options.dask))
            answers = run_over(todo, executor, slots=slots)
        else:
            answers = _local(options.jobs, todo)
        stack.enter_context(contextlib.closing(answers))  # type: ignore[type-var]
        yield answers


def _local(jobs: int | None, todo: Numbered) -> Iterator[Answers]:
    prepare_workers()
    return run_here(todo) if jobs == 1 else run_in_processes(todo, jobs or os.cpu_count() or 1)


def _conclude(results: Sequence[Result], database: Database | None) -> None:
    """The run is whole. What no cell can be built with is the user's mistake, and no result."""
    refused = all(result.outcome.ending is Ending.REFUSED for result in results)
    if refused and database:
        database.file.forget(database.run)
    if refused:
        raise EmuError(results[0].outcome.detail)
    if database:
        database.file.finish(database.run)
