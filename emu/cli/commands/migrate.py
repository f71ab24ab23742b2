"""`hvcemu migrate`: a running guest is moved to another kernel, as a VMM would."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from emu.base.endings import STATUS_INTERRUPTED
from emu.cli.arguments import positive, size
from emu.cli.options import completes_profiles
from emu.cli.printing import print_lines
from emu.runs.bundled import find_image
from emu.world.profile import load_profile

ORDER = 110
SUMMARY = "move a running guest to another kernel and see what breaks"
EXAMPLES = (
    "hvcemu migrate smccc_discover --from kvm-6.17 --to kvm-6.1",
    "hvcemu migrate smccc_discover --from kvm-6.1 --to kvm-6.17 --vmm old",
    "hvcemu migrate psci_cpu_on --cpus 4 --at 100000 --from kvm-6.1 --to kvm-6.12",
    "",
    "the guest has 60 seconds on either side",
    "exit status: 0 the move went through; 1 a register write failed; 2 your mistake",
)
SECONDS = 60.0
"""How long the guest may run on either side before it is stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The guest, from where to where, and when."""
    parser.add_argument("image", metavar="IMAGE", help="a guest, as `run` takes it")
    for side, help in (("from", "the kernel it starts on"), ("to", "the kernel it moves to")):
        completes_profiles(parser.add_argument(
            f"--{side}", dest=f"{side}_profile", required=True, metavar="NAME", help=help
        ))  # fmt: skip
    parser.add_argument(
        "--vmm", choices=("new", "old"), default="new",
        help="new writes every register the source lists; old knows none of the bitmaps (new)",
    )
    parser.add_argument(
        "--at", type=positive, metavar="CYCLE",
        help="move at this cycle and run on; without it, where the guest leaves by itself",
    )
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="vCPUs (1)")
    parser.add_argument("--mem", type=size, default=64 << 20, metavar="SIZE", help="RAM (64M)")


def run(options: Any) -> int:
    """Run the guest on one, move it, and run it on on the other."""
    from emu.cli.runner import Limits, Runner, StatusLine, report_to
    from emu.kvm.migrate import UsedCalls, lines, move
    from emu.machine.vm import Vm

    target = load_profile(options.to_profile)
    used = UsedCalls()
    vm = Vm(
        find_image(options.image), profile=options.from_profile, cpus=options.cpus,
        memory=options.mem, instruments=[used],
    )  # fmt: skip
    status = StatusLine(sys.stderr)
    say = report_to(sys.stdout, status)
    told: list[str] = []
    ended = Runner(vm, Limits(SECONDS, options.at), told.append, status).run()
    reached = options.at is not None and vm.clock.cycles >= options.at
    if not reached:  # where it was to stop is no news
        print_lines(told)
    if ended == STATUS_INTERRUPTED:
        return ended
    stats = vm.stats()
    say(f"ran {options.image} on {vm.profile.name}: {stats.calls} calls, cycle {stats.cycles:,}")
    report = move(vm.el2, target, options.vmm)
    print_lines(lines(report, used))
    if report.failed:
        print(f"the move fails: a VMM gives up where {target.name} refuses a write")
        return 1
    if options.at is not None and not reached:
        print(f"it ended before cycle {options.at:,}: nothing is left to run on")
    if reached:
        vm.move_to(report.profile, report.policy)
        ended = Runner(vm, Limits(SECONDS), say, status).run()
        print(f"ran on under {target.name} to cycle {vm.clock.cycles:,}, exit status {ended}")
    return 0
