"""`hvcemu fuzz`: calls that break a promise of a service or of a callback."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from emu.base.errors import EmuError
from emu.cli.arguments import number, positive
from emu.cli.options import completes_profiles
from emu.cli.printing import print_lines
from emu.world.profile import DEFAULT_PROFILE

ORDER = 60
SUMMARY = "look for calls that a service or a callback of yours answers wrongly"
EXAMPLES = (
    "hvcemu fuzz adder.py:Adder                     a service, by its declarations",
    "hvcemu fuzz vendor.py:answer --spec calls.txt  a callback, by a description",
    "hvcemu fuzz --profile kvm-6.12                 all services of a profile",
    "",
    "a description, in the manner of TF-A-Tests (docs/fuzzing.md):",
    "  smc: ADD 0xC6000042",
    "      arg1:a",
    "          field:small:[0,7] = {0, 2-9}",
    "      arg2 = 0",
    "",
    "exit status: 0 nothing found; 1 a failing call, the smallest; 2 your mistake",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is called, and how wildly."""
    parser.add_argument(
        "target", nargs="?", metavar="FILE.py:NAME", help="a Service, or a function of a Call"
    )
    completes_profiles(parser.add_argument(
        "--profile", default=DEFAULT_PROFILE, metavar="NAME",
        help=f"whose services are beside it ({DEFAULT_PROFILE})",
    ))  # fmt: skip
    parser.add_argument("--spec", metavar="FILE", help="calls and the fields of their arguments")
    parser.add_argument(
        "--sanity", type=int, choices=range(4), default=2,
        help="0 any registers; 1 right identifiers; 2 fields of the right width; 3 described "
        "values only (2)",
    )
    parser.add_argument("--examples", type=positive, default=1000, metavar="N",
                        help="series of calls tried (1000)")  # fmt: skip
    parser.add_argument("--seed", type=number, default=0, metavar="N", help="of the drawing (0)")


def run(options: Any) -> int:
    """Call it many times; print the smallest series of calls that breaks a promise."""
    from emu.judge import fuzz as fuzzing
    from emu.judge.callspec import parse

    specs = parse(_text(options.spec), options.spec) if options.spec else None
    target = _target(options, specs)
    with fuzzing.nothing_kept():
        failure = fuzzing.fuzz(
            target, specs=specs, sanity=options.sanity, examples=options.examples,
            seed=options.seed,
        )  # fmt: skip
    name = options.target or f"the services of {options.profile}"
    if failure is None:
        print(f"{name}: {options.examples:,} series of calls, every promise kept")
        return 0
    print(f"{name} breaks a promise")
    print_lines(failure.lines())
    return 1


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise EmuError(f"{path}: is no text: write the description in UTF-8") from None


def _target(options: Any, specs: Any) -> Any:
    """What is named: nothing (the profile), a service, or a function that needs a --spec."""
    from emu.cli.runner import load_module
    from emu.judge import fuzz as fuzzing
    from emu.world.service import Service

    if not options.target:
        return fuzzing.of_profile(options.profile)
    path, _, name = options.target.rpartition(":")
    if not path or not Path(path).is_file():
        raise EmuError(f"{options.target}: give FILE.py:NAME, the file must exist")
    found = getattr(load_module(path), name, None)
    if isinstance(found, type) and issubclass(found, Service):
        return fuzzing.of_service(found, options.profile)
    if not callable(found):
        raise EmuError(f"{path} has no service and no function {name}")
    if specs is None:
        raise EmuError(f"{options.target} is a function: describe its calls with --spec FILE")
    return fuzzing.of_callback(found, specs)
