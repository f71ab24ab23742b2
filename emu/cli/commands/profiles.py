"""`hvcemu profiles`: what a guest can be put above."""

from __future__ import annotations

import argparse
from typing import Any

from emu.cli.printing import print_json, print_table

ORDER = 90
SUMMARY = "list the profiles"
EXAMPLES = ("hvcemu profiles", "hvcemu profiles --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How they are listed."""
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def run(options: Any) -> int:
    """List them."""
    from emu.watch.explain import summaries

    rows = summaries()
    if options.json:
        print_json([row._asdict() for row in rows])
    else:
        print_table(("profile", "what it is", "PSCI", "SMCCC", "services", "conduits"), rows)
    return 0
