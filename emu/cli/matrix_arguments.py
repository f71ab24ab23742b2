"""What can be typed after `hvcemu matrix` and `hvcemu results`."""

from __future__ import annotations

import argparse

from emu.base.smccc import Conduit
from emu.cli.arguments import (
    add_boot,
    add_policy,
    guest_status,
    number,
    one_of,
    percent,
    positive,
    seconds,
    several,
    size,
)
from emu.engine.cpu import CORES, DEFAULT_CORE
from emu.judge.trial import CYCLES, SECONDS
from emu.world.profile import profile_names


def fill_matrix(parser: argparse.ArgumentParser) -> None:
    """`hvcemu matrix`."""
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
    _add_judging(group)
    group.add_argument(
        "--baseline", metavar="FILE[:RUN]",
        help="compare with a run in a file of results, the latest finished one without RUN, and "
        "fail where a cell's ending, verdicts, calls, console or cycles are others",
    )
    group = parser.add_argument_group("what comes out")
    group.add_argument("--quiet", action="store_true", help="only the cells that are not good")
    _add_outputs(group)
    group.add_argument(
        "--db", metavar="FILE", help="add the run to a file of results, made if there is none"
    )
    group.add_argument(
        "--resume", type=positive, metavar="RUN",
        help="run only what an interrupted run in the file of --db lacks",
    )


def _add_axes(group: argparse._ArgumentGroup) -> None:
    profile = group.add_argument(
        "--profile", default="kvm-*", metavar="NAME,…",
        help="profiles, shell patterns and TOML files (kvm-*)",
    )
    profile.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
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


def _add_judging(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--allow-exit", type=several(guest_status), default=(), metavar="N,…",
        help="exit statuses of a guest that are good besides 0",
    )
    group.add_argument(
        "--tolerance", type=percent, default=0.0, metavar="PERCENT",
        help="by how much cycles may differ from the baseline's (0%%)",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", metavar="FILE", help="everything as one JSON object; - prints it")
    group.add_argument("--junit", metavar="FILE", help="a JUnit XML report")
    group.add_argument(
        "--html", metavar="FILE", help="one page that opens from disk: grid, filters, traces"
    )


def fill_results(parser: argparse.ArgumentParser) -> None:
    """`hvcemu results`."""
    parser.add_argument("file", metavar="FILE", help="a file that `hvcemu matrix --db` has made")
    parser.add_argument("runs", metavar="RUN", nargs="*", type=positive, help="one or two runs")
    _add_judging(parser.add_argument_group("what is good"))
    _add_outputs(parser.add_argument_group("what comes out"))
