"""The command line: finds the command that is typed, and gives the exit status.

What each command takes and does is in its file in commands/.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from emu import __version__
from emu.base.endings import STATUS_INTERRUPTED, STATUS_USER
from emu.base.errors import EmuError
from emu.cli import commands
from emu.cli.printing import terminal_columns

STATUS_PIPE = 141
"""What a shell reports for a program that writes to a pipe nobody reads: 128 + SIGPIPE."""
EXAMPLES = (
    "hvcemu run smccc_discover --trace calls      a guest asks KVM what there is",
    "hvcemu call 0x8600FF01 --profile kvm-6.1     one call, no guest",
    "hvcemu explain 0xC4000053                    what an identifier means, who answers",
    "hvcemu diff kvm-6.1 kvm-6.12                 what changed between two kernels",
    "hvcemu matrix guests/bin --profile 'kvm-*'   every guest below every kernel",
)


def entry() -> NoReturn:
    """The `hvcemu` command: `main()` in a process that ends with it.

    A short run spends a fifth of its time in the garbage collector while modules load and in
    tearing the interpreter down; neither is of use to a process about to end.
    """
    gc.disable()
    status = main()
    if timing := sys.modules.get("emu.machine.timing"):  # nothing registered for the end is called
        timing.keep_block_costs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser_of(words).parse_args(words)
    options.argv = words
    try:
        status = int(options.command(options))
        sys.stdout.flush()
        return status
    except EmuError as error:
        print(f"hvcemu: {error}", file=sys.stderr)
        return STATUS_USER
    except BrokenPipeError:
        # The reader has gone; keep Python from complaining again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_PIPE
    except KeyboardInterrupt:
        print("hvcemu: interrupted", file=sys.stderr)
        return STATUS_INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"hvcemu: {where}{error.strerror or error}", file=sys.stderr)
        return STATUS_USER


def _complete() -> None:
    """Tell the shell what may come next, and end."""
    import argcomplete

    line, program = os.environ["COMP_LINE"], int(os.environ["_ARGCOMPLETE"])
    argcomplete.autocomplete(parser_of(line.split()[program:]))


# -- finding the command ------------------------------------------------------------------------


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """What understands these words.

    It knows the arguments of their command and of no other; and where they begin with it, no other
    command at all.
    """
    parser = _Parser(
        prog="hvcemu",
        description="Run AArch64 guests below a hypervisor or firmware of your choice, "
        "and see every call they make.",
        epilog=_examples(EXAMPLES),
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"hvcemu {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    names = command_names()
    first = next((word for word in words if not word.startswith("-")), "")
    for name, command in _load([first] if first in names and first == words[0] else names):
        subparser = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=f"{command.SUMMARY[0].upper()}{command.SUMMARY[1:]}.",
            epilog=_examples(command.EXAMPLES),
            formatter_class=_Formatter,
        )
        subparser.set_defaults(command=command.run)
        if name == first:
            command.add_arguments(subparser)
    return parser


def command_names() -> list[str]:
    """Every command, in no order."""
    return [
        file.removesuffix(".py").replace("_", "-")
        for file in os.listdir(commands.__path__[0])
        if file.endswith(".py") and not file.startswith("_")
    ]


def _load(names: Iterable[str]) -> list[tuple[str, Any]]:
    """Commands and their modules in the order of the help."""
    loaded = [
        (name, importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}"))
        for name in names
    ]
    return sorted(loaded, key=lambda pair: (pair[1].ORDER, pair[0]))


# -- parsing ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors are one line that ends with what to type next."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_USER, f"hvcemu: {message}; see `{self.prog} --help`\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Told its width, because argparse loads shutil and asks the terminal for each argument."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


@functools.cache
def _width() -> int:
    """Columns of the terminal less argparse's margin; 80 where there is none."""
    columns = terminal_columns()
    return 78 if columns is None else max(columns - 2, 40)


def _examples(lines: Iterable[str]) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)
