"""`hvcemu diff`: what a guest could tell two profiles apart by."""

from __future__ import annotations

import argparse
from typing import Any

from emu.cli.options import completes_profiles
from emu.cli.printing import print_json, print_table
from emu.world.profile import load_profile

ORDER = 100
SUMMARY = "compare two profiles, call by call"
EXAMPLES = ("hvcemu diff kvm-6.1 kvm-6.12", "hvcemu diff kvm-6.12 ./my-hypervisor.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two."""
    for side in ("left", "right"):
        completes_profiles(parser.add_argument(side, metavar="PROFILE"))
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def run(options: Any) -> int:
    """Print where they differ."""
    from emu.watch.explain import differences

    left, right = load_profile(options.left), load_profile(options.right)
    rows = differences(left, right)
    if options.json:
        print_json([row._asdict() for row in rows])
    elif rows:
        print_table(("", left.name, right.name), rows)
    else:
        print(f"{left.name} and {right.name}: a guest cannot tell them apart")
    return 0
