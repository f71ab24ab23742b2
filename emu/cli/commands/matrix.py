"""`hvcemu matrix`: guests below many worlds, and whether each did well or as before."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from emu import __version__
from emu.arm.cores import CORES, DEFAULT_CORE
from emu.base.endings import STATUS_INTERRUPTED
from emu.base.errors import EmuError
from emu.base.smccc import Conduit
from emu.cli.arguments import number, one_of, positive, seconds, several, size
from emu.cli.options import add_boot, add_exports, add_judging, add_policy, completes_profiles

if TYPE_CHECKING:
    from emu.cli.cells import Ran
    from emu.runs.matrix import Result

ORDER = 20
SUMMARY = "run every combination of guests and worlds"
EXAMPLES = (
    "hvcemu matrix smccc_discover --profile 'kvm-*,none' --allow-exit 3",
    "hvcemu matrix guests/bin --profile 'kvm-*' --conduit hvc,smc --cpus 1,4 --html out.html",
    "hvcemu matrix vendor_uid --profile kvm-6.12 --vary services",
    "hvcemu matrix guests/bin --db results.sqlite         keeps the results",
    "hvcemu matrix guests/bin --baseline results.sqlite   fails where they are others now",
    "hvcemu matrix guests/bin --dask tcp://10.0.0.1:8786  on a cluster",
    "",
    "exit status: 0 every cell is good, or with --baseline as before; 1 otherwise;",
    "  2 your mistake; 130 Ctrl-C (--db keeps what was done, --resume goes on)",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The axes, what all cells share, how they are run and judged, and what is written."""
    parser.add_argument(
        "guests", metavar="GUEST", nargs="+",
        help="an image, a bundled guest's name, or a folder: every *.elf below it",
    )
    _add_axes(parser.add_argument_group("what is varied: values with commas between them"))
    _add_shared(parser.add_argument_group("what all cells share"))
    group = parser.add_argument_group("how it is run")
    group.add_argument(
        "--jobs", type=positive, metavar="N",
        help="processes (one per CPU); 1 runs all in this process, where nothing but its own "
        "limits ends a cell and a crash of the emulator is the end of all",
    )
    group.add_argument(
        "--dask", metavar="ADDRESS",
        help="run on a Dask cluster whose workers see the same files, such as tcp://host:8786",
    )
    group = parser.add_argument_group("what is good")
    add_judging(group)
    group.add_argument(
        "--baseline", metavar="FILE[:RUN]",
        help="compare with a run in a file of results, the latest finished one without RUN, and "
        "fail where a cell's ending, verdicts, calls, console or cycles are others",
    )
    group = parser.add_argument_group("what comes out")
    group.add_argument("--quiet", action="store_true", help="only the cells that are not good")
    add_exports(group)
    group.add_argument(
        "--db", metavar="FILE", help="add the run to a file of results, made if there is none"
    )
    group.add_argument(
        "--resume", type=positive, metavar="RUN",
        help="run only what an interrupted run in the file of --db lacks",
    )


def _add_axes(group: argparse._ArgumentGroup) -> None:
    completes_profiles(group.add_argument(
        "--profile", default="kvm-*", metavar="NAME,…",
        help="profiles, shell patterns and TOML files (kvm-*)",
    ))  # fmt: skip
    group.add_argument(
        "--conduit", type=several(one_of(*map(str, Conduit))), default=("",), metavar="NAME,…",
        help="what the device tree says of /psci: hvc, smc; without it what the profile promises",
    )
    group.add_argument(
        "--cpus", type=several(positive), default=(1,), metavar="N,…", help="vCPUs (1)"
    )
    group.add_argument(
        "--core", type=several(one_of(*CORES)), default=(DEFAULT_CORE,), metavar="NAME,…",
        help=f"which CPU it is, of {', '.join(CORES)} ({DEFAULT_CORE})",
    )
    group.add_argument(
        "--mem", type=several(size), default=(64 << 20,), metavar="SIZE,…", help="RAM (64M)"
    )
    group.add_argument(
        "--seed", type=several(number), default=(0,), metavar="N,…", help="of the entropy (0)"
    )
    group.add_argument(
        "--vary", choices=("services",),
        help="services: all that a profile offers, and each of its services withheld in turn",
    )


def _add_shared(group: argparse._ArgumentGroup) -> None:
    from emu.judge.trial import CYCLES, SECONDS

    add_policy(group)
    add_boot(group)
    group.add_argument(
        "--follow", action="store_true",
        help="also watch what guests do with answers in their next instructions, for some 5 ms "
        "more a cell",
    )
    group.add_argument(
        "--timeout", type=seconds, default=SECONDS, metavar="SECONDS",
        help=f"of host time for each cell ({SECONDS:g})",
    )
    group.add_argument(
        "--max-cycles", type=positive, default=CYCLES, metavar="N",
        help=f"for each cell ({CYCLES:,})",
    )


def run(options: Any) -> int:
    """Run the cells, tell and write what came of them, and judge it."""
    from emu.cli.cells import cells_of, run_cells
    from emu.cli.reporting import export, show
    from emu.runs.exports import Origin

    _check(options)
    cells = cells_of(options)
    baseline = _baseline(options.baseline) if options.baseline else None
    started = datetime.now(UTC).isoformat(timespec="seconds")
    origin = Origin(__version__, shlex.join(["hvcemu", *options.argv]), started)
    ran = run_cells(cells, origin, options)
    if ran.results:
        show(ran.results, options, quiet=options.quiet)
    if not ran.finished:
        return _interrupted(ran, len(cells))
    export(ran.results, origin, options)
    return _verdict(ran.results, baseline, options)


def _check(options: Any) -> None:
    if options.resume and not options.db:
        raise EmuError("--resume needs --db FILE, the file with the run to go on with")
    if options.dask and options.jobs:
        raise EmuError("--jobs and --dask exclude each other: the cluster has its own workers")


def _baseline(text: str) -> list[Result]:
    """The results of FILE or FILE:RUN, read before anything runs."""
    from emu.runs.results import ResultsFile

    path, colon, number = text.rpartition(":")
    wanted = None
    if colon and number.isdecimal() and not os.path.exists(text):
        text, wanted = path, int(number)
    with ResultsFile(text) as file:
        return file.results(file.run(wanted).id)


def _interrupted(ran: Ran, total: int) -> int:
    how = "nothing is kept without --db FILE"
    if ran.database:
        file, run = ran.database
        how = f"{file.path} keeps them; the same with --resume {run} goes on"
    print(
        f"hvcemu: interrupted after {len(ran.results):,} of {total:,} cells: {how}", file=sys.stderr
    )
    return STATUS_INTERRUPTED


def _verdict(results: Sequence[Result], baseline: Sequence[Result] | None, options: Any) -> int:
    from emu.cli.reporting import show_comparison
    from emu.runs.matrix import is_good

    if baseline is not None:
        return show_comparison(baseline, results, options)
    allowed = frozenset(options.allow_exit)
    return int(not all(is_good(result.outcome, allowed) for result in results))
