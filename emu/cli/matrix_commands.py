"""`hvcemu matrix`: from options to cells, and from results to the exit status."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from emu import __version__
from emu.base.endings import STATUS_INTERRUPTED, Ending
from emu.base.errors import EmuError
from emu.cli.results_commands import export, look_of, show, show_comparison
from emu.engine.calibrate import calibrate
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


def matrix(options: Any) -> int:
    """`hvcemu matrix`."""
    _check(options)
    cells = _cells(options)
    baseline = _baseline(options.baseline) if options.baseline else None
    origin, digests = _origin(options), _digests(cells)
    with contextlib.ExitStack() as stack:
        database = _database(options, origin, cells, stack) if options.db else None
        known = _known(database, cells, digests) if options.resume else {}
        finished, results = _run(options, cells, digests, known, database)
    if not finished:
        return _interrupted(options, cells, results, database)
    ran = [results[number] for number in range(len(cells))]
    show(ran, look_of(options), quiet=options.quiet, shown=options.json != "-")
    export(ran, origin, options)
    return _verdict(ran, options, baseline)


def _check(options: Any) -> None:
    if options.resume and not options.db:
        raise EmuError("--resume needs --db FILE, the file with the run to go on with")
    if options.dask and options.jobs:
        raise EmuError("--jobs and --dask exclude each other: the cluster has its own workers")


def _origin(options: Any) -> Origin:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Origin(__version__, shlex.join(["hvcemu", *options.argv]), started)


# -- what is run ---------------------------------------------------------------------------------


def _cells(options: Any) -> list[Cell]:
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


def _digests(cells: Sequence[Cell]) -> dict[str, str]:
    """SHA-256 of each image, "" where it cannot be read: its cells will say so."""
    digests = {}
    for path in {cell.setup.image for cell in cells}:
        digests[path] = ""
        with contextlib.suppress(OSError), open(path, "rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _database(
    options: Any, origin: Origin, cells: Sequence[Cell], stack: contextlib.ExitStack
) -> Database:
    file = stack.enter_context(ResultsFile(options.db, create=not options.resume))
    if options.resume:
        return Database(file, file.run(options.resume).id)
    return Database(file, file.begin(origin.started, origin.version, origin.command, len(cells)))


def _known(
    database: Database | None, cells: Sequence[Cell], digests: Mapping[str, str]
) -> dict[int, Result]:
    """What an interrupted run has done already."""
    assert database is not None
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


def _run(
    options: Any, cells: Sequence[Cell], digests: Mapping[str, str], known: dict[int, Result],
    database: Database | None,
) -> tuple[bool, dict[int, Result]]:
    """Run what is not known; whether all of it was, and every result by its number."""
    results, allowed = dict(known), frozenset(options.allow_exit)
    todo = {n: cell.setup for n, cell in enumerate(cells) if n not in known}
    progress = Progress(sys.stderr, len(todo))
    recorder = Recorder(*database) if database else None
    bad, finished = 0, False
    try:
        with _workers(options, todo) as answered:
            for answers in answered:
                rows = [(n, Result(cells[n], o, digests[cells[n].setup.image])) for n, o in answers]
                results.update(rows)
                if recorder:
                    recorder.add(rows)
                bad += sum(not is_good(outcome, allowed) for _, outcome in answers)
                progress.update(len(results) - len(known), bad)
        finished = True
    except KeyboardInterrupt:
        pass
    finally:
        progress.clear()
        if recorder:
            recorder.flush()
    if finished:
        _refuse_if_all_are(results, database)
        if database:
            database.file.finish(database.run)
    return finished, results


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
    # What is here before workers are forked they need not load: Unicorn, profiles, our modules.
    calibrate()
    gc.collect()
    gc.freeze()
    gc.enable()
    return run_here(todo) if jobs == 1 else run_in_processes(todo, jobs or os.cpu_count() or 1)


def _refuse_if_all_are(results: dict[int, Result], database: Database | None) -> None:
    """What no cell can be built with is the user's mistake, and no result."""
    outcomes = [result.outcome for result in results.values()]
    if all(outcome.ending is Ending.REFUSED for outcome in outcomes):
        if database:
            database.file.forget(database.run)
        raise EmuError(outcomes[0].detail)


def _interrupted(
    options: Any, cells: Sequence[Cell], results: dict[int, Result], database: Database | None
) -> int:
    done = [results[number] for number in sorted(results)]
    if done:
        show(done, look_of(options), quiet=options.quiet, shown=options.json != "-")
    how = "nothing is kept without --db FILE"
    if database:
        how = f"{database.file.path} keeps them; the same with --resume {database.run} goes on"
    print(
        f"hvcemu: interrupted after {len(done):,} of {len(cells):,} cells: {how}", file=sys.stderr
    )
    return STATUS_INTERRUPTED


# -- what came of it --------------------------------------------------------------------------


def _baseline(text: str) -> list[Result]:
    """The results of FILE or FILE:RUN, read before anything runs."""
    path, colon, number = text.rpartition(":")
    wanted = None
    if colon and number.isdecimal() and not os.path.exists(text):
        text, wanted = path, int(number)
    with ResultsFile(text) as file:
        return file.results(file.run(wanted).id)


def _verdict(
    results: Sequence[Result], options: Any, baseline: Sequence[Result] | None
) -> int:
    if baseline is None:
        allowed = frozenset(options.allow_exit)
        return int(not all(is_good(result.outcome, allowed) for result in results))
    return show_comparison(baseline, results, options)
