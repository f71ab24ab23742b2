"""`hvcemu results`: the runs in a file that `hvcemu matrix --db` has written."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emu.base.errors import EmuError
from emu.cli.arguments import positive
from emu.cli.options import add_exports, add_judging
from emu.cli.printing import print_lines

if TYPE_CHECKING:
    from emu.runs.results import ResultsFile

ORDER = 30
SUMMARY = "list, show and compare the runs of a matrix"
EXAMPLES = (
    "hvcemu results results.sqlite               lists the runs in a file",
    "hvcemu results results.sqlite 3             the table of run 3",
    "hvcemu results results.sqlite 3 4           what run 4 does otherwise than run 3",
    "hvcemu results results.sqlite 3 --html out.html",
    "",
    "exit status: 0; 1 where two runs differ; 2 your mistake",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, which of its runs, how they are judged, and what is written."""
    parser.add_argument("file", metavar="FILE", help="a file that `hvcemu matrix --db` has made")
    parser.add_argument("runs", metavar="RUN", nargs="*", type=positive, help="one or two runs")
    add_judging(parser.add_argument_group("what is good"))
    add_exports(parser.add_argument_group("what comes out"))


def run(options: Any) -> int:
    """List all runs, show one, or compare two."""
    from emu.cli.reporting import export, show, show_comparison
    from emu.runs.exports import Origin
    from emu.runs.results import ResultsFile

    with ResultsFile(options.file) as file:
        if len(options.runs) > 2:
            raise EmuError("give no run to list them, one to show it, or two to compare them")
        if not options.runs:
            _refuse_exports(options)
            print_lines(_run_lines(file))
            return 0
        runs = [file.run(number) for number in options.runs]
        found = [file.results(run.id) for run in runs]
    last = runs[-1]
    export(found[-1], Origin(last.version, last.command, last.started), options)
    if len(runs) == 2:
        return show_comparison(found[0], found[1], options)
    show(found[0], options, quiet=False)
    return 0


def _refuse_exports(options: Any) -> None:
    if options.json or options.junit or options.html:
        raise EmuError("say which RUN is to be written")


def _run_lines(file: ResultsFile) -> Iterator[str]:
    from emu.runs.matrix import cells_text

    for run in file.runs():
        state = cells_text(run.done) if run.finished else f"{run.done:,} of {run.total:,} cells"
        yield f"{run.id:>4}  {run.started}  {run.version}  {state:<20}  {run.command}"
