"""`hvcemu results`, and what both commands print and write: table, reasons, files, comparison."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from emu.base.errors import EmuError
from emu.base.savefile import write_text
from emu.runs.compare import compare
from emu.runs.exports import Origin, as_json, as_junit
from emu.runs.grid import Look, reason_lines, table_lines
from emu.runs.matrix import Result, cells_text, is_good
from emu.runs.progress import wants_colour
from emu.runs.results import ResultsFile


def results(options: Any) -> int:
    """`hvcemu results`."""
    with ResultsFile(options.file) as file:
        if len(options.runs) > 2:
            raise EmuError("give no run to list them, one to show it, or two to compare them")
        if not options.runs:
            _refuse_exports(options)
            _print(_run_lines(file))
            return 0
        runs = [file.run(number) for number in options.runs]
        found = [file.results(run.id) for run in runs]
    last = runs[-1]
    export(found[-1], Origin(last.version, last.command, last.started), options)
    if len(runs) == 2:
        return show_comparison(found[0], found[1], options)
    show(found[0], look_of(options), quiet=False, shown=options.json != "-")
    return 0


def _refuse_exports(options: Any) -> None:
    if options.json or options.junit or options.html:
        raise EmuError("say which RUN is to be written")


def _run_lines(file: ResultsFile) -> Iterator[str]:
    for run in file.runs():
        state = cells_text(run.done) if run.finished else f"{run.done:,} of {run.total:,} cells"
        yield f"{run.id:>4}  {run.started}  {run.version}  {state:<20}  {run.command}"


# -- printing and writing -----------------------------------------------------------------------


def look_of(options: Any) -> Look:
    """How a table is shown on this standard output."""
    width = 0
    with contextlib.suppress(OSError, ValueError):
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    return Look(frozenset(options.allow_exit), wants_colour(sys.stdout), width)


def show(results: Sequence[Result], look: Look, *, quiet: bool, shown: bool = True) -> None:
    """The table, why cells are not good, and a closing line."""
    if not shown:  # standard output is another's
        return
    bad = [result for result in results if not is_good(result.outcome, look.allowed)]
    if not quiet:
        _print(table_lines(results, look))
        print()
    _print(reason_lines(bad, look, every=quiet))
    print(f"{cells_text(len(results))}: {len(results) - len(bad):,} good, {len(bad):,} not")


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)


def export(results: Sequence[Result], origin: Origin, options: Any) -> None:
    """Write the files that were asked for."""
    allowed = frozenset(options.allow_exit)
    if options.json == "-":
        sys.stdout.write(as_json(results, origin, allowed))
    elif options.json:
        write_text(options.json, as_json(results, origin, allowed))
    if options.junit:
        write_text(options.junit, as_junit(results, origin, allowed))
    if options.html:
        from emu.runs.webpage import page

        write_text(options.html, page(results, origin, allowed))


def show_comparison(old: Sequence[Result], new: Sequence[Result], options: Any) -> int:
    """Print what has changed; the exit status."""
    comparison = compare(old, new, options.tolerance)
    if old and new and len(comparison.new) == len(new):
        raise EmuError("the two runs have no cell in common: there is nothing to compare")
    if options.json != "-":
        _print(comparison.lines())
    return int(bool(comparison.changes))
