"""`hvcemu doctor`: whether everything works on this host; the checks are in emu/cli/doctor.py."""

from __future__ import annotations

import argparse
from typing import Any

ORDER = 130
SUMMARY = "check that everything works on this host"
EXAMPLES = ("hvcemu doctor",)


def add_arguments(_: argparse.ArgumentParser) -> None:
    """None: it checks everything."""


def run(_: Any) -> int:
    """Print a line for each check, as soon as it is known."""
    from emu.cli.doctor import checks

    healthy = True
    for check in checks():
        mark = "ok" if check.good else "BAD" if check.vital else "--"
        print(f"{mark:<4}{check.name:<22}{check.text}", flush=True)
        healthy = healthy and (check.good or not check.vital)
    print("everything vital works" if healthy else "something vital is broken, see BAD above")
    return 0 if healthy else 1
