"""Options that several commands share, and what those that change a hypervisor's answers do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from emu.arm.cores import CORES, DEFAULT_CORE
from emu.base.smccc import Conduit
from emu.cli.arguments import (
    forward,
    guest_status,
    id_range,
    number,
    percent,
    register,
    services,
    several,
    size,
)
from emu.world.profile import DEFAULT_PROFILE, profile_names

if TYPE_CHECKING:
    from emu.world.monitor import El2


def completes_profiles(action: argparse.Action) -> None:
    """The shell offers the profiles' names there."""
    action.completer = lambda **_: profile_names()  # type: ignore[attr-defined]


# -- what lies below a guest ----------------------------------------------------------------------


def add_below(
    parser: argparse.ArgumentParser, *, forward_too: bool = True, seeded: str = "the entropy"
) -> None:
    """Options that `run`, `call` and, but for --forward, `mutate` share."""
    group = parser.add_argument_group("what lies below the guest")
    completes_profiles(group.add_argument(
        "--profile", default=DEFAULT_PROFILE, metavar="NAME",
        help=f"a profile's name, or a TOML file of your own (default {DEFAULT_PROFILE})",
    ))  # fmt: skip
    add_policy(group)
    if forward_too:
        group.add_argument(
            "--forward", type=forward, action="append", default=[],
            metavar="RANGE[=FILE.py:FUNCTION]",
            help="forward a range to a function that takes the Call and returns a Ret or an int; "
            "without one the answer is NOT_SUPPORTED",
        )
    group.add_argument("--seed", type=number, default=0, metavar="N", help=f"of {seeded} (0)")


def add_policy(group: argparse._ArgumentGroup) -> None:
    """What lies below a guest, besides the profile."""
    group.add_argument(
        "--services", type=services, default=[], metavar="±NAME,…",
        help="elect or withhold services, such as --services=-trng,+ptp",
    )
    group.add_argument(
        "--fw-reg", type=register, action="append", default=[], metavar="NAME=VALUE",
        help="write a firmware register before the start, such as STD_BMAP=0",
    )
    group.add_argument(
        "--deny", type=id_range, action="append", default=[], metavar="RANGE",
        help="let the SMCCC filter deny ID, FIRST-LAST or ID+COUNT",
    )


def apply_policy(el2: El2, options: Any) -> None:
    """Do what --services, --fw-reg, --deny and --forward ask for."""
    for name, on in options.services:
        el2.switch_feature(name, on=on)
    for name, value in options.fw_reg:
        el2.set_register(name, value)
    for base, count in options.deny:
        el2.add_filter(base, count, "deny")
    for base, count, target in options.forward:
        if target:
            from emu.cli.runner import load_target

            load_target(target)
        el2.add_filter(base, count, "forward", target)


# -- the machine ----------------------------------------------------------------------------------


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options of the machine that `run` and `mutate` share."""
    group = parser.add_argument_group("machine")
    group.add_argument("--cpus", type=int, default=1, metavar="N", help="vCPUs (1)")
    group.add_argument(
        "--mem", type=size, metavar="SIZE", help="RAM (64M; 512M for a Linux Image or firmware)"
    )
    group.add_argument(
        "--core", choices=CORES, default=DEFAULT_CORE, metavar="NAME",
        help=f"which CPU it is and whose cycles it takes, of {', '.join(CORES)} ({DEFAULT_CORE}: "
        "an instruction is a cycle)",
    )
    add_boot(group)
    group.add_argument(
        "--conduit", choices=[str(c) for c in Conduit], help="what the device tree says of /psci"
    )
    return group


def add_boot(group: argparse._ArgumentGroup) -> None:
    """What a boot loader hands to a guest."""
    group.add_argument("--append", default="", metavar="TEXT", help="kernel command line")
    group.add_argument("--initrd", metavar="FILE", help="initial RAM disk")
    group.add_argument("--dtb", metavar="FILE", help="a device tree instead of the generated one")


# -- the results of a matrix ----------------------------------------------------------------------


def add_judging(group: argparse._ArgumentGroup) -> None:
    """Which results are good, and which are those of the baseline."""
    group.add_argument(
        "--allow-exit", type=several(guest_status), default=(), metavar="N,…",
        help="exit statuses of a guest that are good besides 0",
    )
    group.add_argument(
        "--tolerance", type=percent, default=0.0, metavar="PERCENT",
        help="by how much cycles may differ from the baseline's (0%%)",
    )


def add_exports(group: argparse._ArgumentGroup) -> None:
    """The files that results are written to."""
    group.add_argument("--json", metavar="FILE", help="everything as one JSON object; - prints it")
    group.add_argument("--junit", metavar="FILE", help="a JUnit XML report")
    group.add_argument(
        "--html", metavar="FILE", help="one page that opens from disk: grid, filters, traces"
    )
