"""How `matrix` and `results` tell results: table, reasons, files, comparison."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from emu.base.errors import EmuError
from emu.base.savefile import write_text
from emu.cli.printing import print_lines, terminal_columns
from emu.runs.compare import compare
from emu.runs.exports import Origin, as_json, as_junit
from emu.runs.grid import Look, reason_lines, table_lines
from emu.runs.matrix import Result, cells_text, is_good
from emu.runs.progress import wants_colour


def show(results: Sequence[Result], options: Any, *, quiet: bool) -> None:
    """The table, why cells are not good, and a closing line."""
    if options.json == "-":  # standard output is another's
        return
    allowed = frozenset(options.allow_exit)
    look = Look(allowed, wants_colour(sys.stdout), terminal_columns() or 0)
    bad = [result for result in results if not is_good(result.outcome, allowed)]
    if not quiet:
        print_lines(table_lines(results, look))
        print()
    print_lines(reason_lines(bad, look, every=quiet))
    print(f"{cells_text(len(results))}: {len(results) - len(bad):,} good, {len(bad):,} not")


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
        print_lines(comparison.lines())
    return int(bool(comparison.changes))
