"""`hvcemu linux-discovery`: a kernel below many profiles, and what it made of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emu.base.endings import STATUS_INTERRUPTED, Ending
from emu.base.errors import EmuError
from emu.cli.arguments import positive, size
from emu.cli.options import completes_profiles
from emu.cli.printing import print_lines

if TYPE_CHECKING:
    from emu.judge.trial import Setup
    from emu.runs.linux_discovery import Found

ORDER = 120
SUMMARY = "boot a Linux below many profiles: what it reports of them, and what it calls"
EXAMPLES = (
    "hvcemu linux-discovery                                the cached kernel, all profiles",
    "hvcemu linux-discovery Image --profile 'kvm-*' --cpus 4",
    "hvcemu linux-discovery --profile kvm-6.1,xen --json found.json",
    "",
    "it stops where early discovery is over and all CPUs are up (PF_NETLINK), after about",
    "0.1 s of the machine's time",
    "exit status: 0 every kernel got there; 1 otherwise; 2 your mistake; 130 Ctrl-C",
)
SECONDS = 120.0
"""Host time a kernel may take below one profile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The kernel, its machine, and the profiles."""
    from emu.runs.linux_discovery import EARLYCON, MEMORY

    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="an arm64 Linux Image (the newest that is cached)"
    )
    parser.add_argument("--initrd", metavar="FILE", help="initial RAM disk")
    completes_profiles(parser.add_argument(
        "--profile", default=[], metavar="GLOB,…", action="append",
        help="profiles by name, pattern or file, with commas or again (all)",
    ))  # fmt: skip
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="vCPUs (2)")
    parser.add_argument("--mem", type=size, default=MEMORY, metavar="SIZE", help="RAM (256M)")
    parser.add_argument(
        "--append", default="", metavar="TEXT", help=f"kernel command line, behind {EARLYCON}"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes (all processors)")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything as JSON; - is standard output, alone"
    )


def run(options: Any) -> int:
    """Boot it below each profile, and print what it reported and called."""
    from emu.cli.linux_table import look_here, report, write_json
    from emu.judge.trial import Setup
    from emu.runs.linux_discovery import CYCLES, EARLYCON, cached_kernel, setups
    from emu.runs.matrix import find_profiles

    profiles = find_profiles(",".join(options.profile) or "*")
    image = os.path.abspath(options.image or cached_kernel())
    with open(image, "rb"):
        pass  # a mistake is told now, and not by every worker
    base = Setup(
        image, cpus=options.cpus, memory=options.mem, cycles=CYCLES, seconds=SECONDS,
        append=f"{EARLYCON} {options.append}".strip(),
        initrd=os.path.abspath(options.initrd) if options.initrd else None,
    )  # fmt: skip
    results = _discover_all(setups(base, profiles), options.jobs or os.cpu_count() or 1)
    if results is None:
        print("hvcemu: interrupted: nothing was kept", file=sys.stderr)
        return STATUS_INTERRUPTED
    rows = [results[name] for name in profiles]
    if all(row.outcome.ending is Ending.REFUSED for row in rows):
        raise EmuError(rows[0].outcome.detail)
    if options.json != "-":
        print_lines(report(rows, look_here()))
    if options.json:
        write_json(options.json, image, rows)
    return int(not all(row.finished for row in rows))


def _discover_all(todo: Sequence[Setup], jobs: int) -> dict[str, Found] | None:
    """What was found below each profile; None when interrupted."""
    from emu.cli.workers import prepare_workers
    from emu.runs.linux_discovery import discover, found
    from emu.runs.processes import run_here, run_in_processes
    from emu.runs.progress import Progress

    prepare_workers()
    numbered, jobs = dict(enumerate(todo)), min(jobs, len(todo))
    done: dict[str, Found] = {}
    answered = (
        run_here(numbered, discover) if jobs == 1
        else run_in_processes(numbered, jobs, work=discover)
    )  # fmt: skip
    progress = Progress(sys.stderr, len(todo), what="profiles", bad="unfinished")
    try:
        with contextlib.closing(answered):  # type: ignore[type-var]
            for answers in answered:
                for number, outcome in answers:
                    name = todo[number].profile
                    done[name] = found(name, outcome)
                progress.update(len(done), sum(not row.finished for row in done.values()))
    except KeyboardInterrupt:
        return None
    finally:
        progress.clear()
    return done
