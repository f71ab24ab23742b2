"""The command line: what can be typed, and the exit status. What it does is in commands.py."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from emu.base.endings import STATUS_INTERRUPTED, STATUS_USER
from emu.base.errors import EmuError
from emu.base.smccc import Conduit
from emu.cli import commands
from emu.cli.arguments import (
    add_boot,
    add_policy,
    add_time,
    forward,
    function_id,
    moment,
    number,
    positive,
    seconds,
    size,
    trace_kinds,
    typed,
)
from emu.engine.cpu import CORES, DEFAULT_CORE
from emu.world.profile import DEFAULT_PROFILE, profile_names

STATUS_PIPE = 141
"""What a shell reports for a program that writes to a pipe nobody reads: 128 + SIGPIPE."""


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
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(argv)
    options.argv = list(sys.argv[1:] if argv is None else argv)
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


# -- parsing ----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors are one line that ends with what to type next.

    `fill` adds the arguments when they are first needed: no other command pays for them.
    """

    fill: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.fill:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_USER, f"hvcemu: {message}; see `{self.prog} --help`\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Told its width, because argparse loads shutil and asks the terminal for each argument."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


@functools.cache
def _width() -> int:
    """Columns of the terminal less argparse's margin; 80 where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return max(os.get_terminal_size(sys.stdout.fileno()).columns - 2, 40)
    return 78


def _examples(*lines: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hvcemu",
        description="Run AArch64 guests below a hypervisor or firmware of your choice, "
        "and see every call they make.",
        epilog=_examples(
            "hvcemu run smccc_discover --trace calls      a guest asks KVM what there is",
            "hvcemu call 0x8600FF01 --profile kvm-6.1     one call, no guest",
            "hvcemu explain 0xC4000053                    what an identifier means, who answers",
            "hvcemu diff kvm-6.1 kvm-6.12                 what changed between two kernels",
            "hvcemu matrix guests/bin --profile 'kvm-*'   every guest below every kernel",
        ),
        formatter_class=_Formatter,
    )
    from emu import __version__

    parser.add_argument("--version", action="version", version=f"hvcemu {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_run, _add_matrix, _add_results, _add_mutate, _add_rules, _add_fuzz, _add_call,
        _add_explain, _add_profiles, _add_diff, _add_migrate, _add_linux_discovery, _add_doctor,
    ):  # fmt: skip
        add(subparsers)
    return parser


def _command(
    subparsers: Any, name: str, function: Callable[[Any], int], summary: str, *examples: str
) -> _Parser:
    parser: _Parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_examples(*examples),
        formatter_class=_Formatter,
    )
    parser.set_defaults(command=function)
    return parser


def _later(module: str, name: str) -> Callable[[Any], Any]:
    """A function of a module that is loaded when it is called: most commands need few."""

    def call(argument: Any) -> Any:
        return getattr(importlib.import_module(f"emu.cli.{module}"), name)(argument)

    return call


def _add_policy(
    parser: argparse.ArgumentParser, *, forward_too: bool = True, seeded: str = "the entropy"
) -> None:
    """Options that `run`, `call` and, but for --forward, `mutate` share."""
    group = parser.add_argument_group("what lies below the guest")
    profile = group.add_argument(
        "--profile", default=DEFAULT_PROFILE, metavar="NAME",
        help=f"a profile's name, or a TOML file of your own (default {DEFAULT_PROFILE})",
    )
    profile.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
    add_policy(group)
    if forward_too:
        group.add_argument(
            "--forward", type=forward, action="append", default=[],
            metavar="RANGE[=FILE.py:FUNCTION]",
            help="forward a range to a function that takes the Call and returns a Ret or an int; "
            "without one the answer is NOT_SUPPORTED",
        )
    group.add_argument("--seed", type=number, default=0, metavar="N", help=f"of {seeded} (0)")


def _add_machine(parser: argparse.ArgumentParser) -> Any:
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


def _add_run(subparsers: Any) -> None:
    parser = _command(
        subparsers, "run", commands.run, "run a guest image",
        "hvcemu run guests/bin/smccc_discover.elf --profile kvm-6.12 --trace calls",
        "hvcemu run psci_cpu_on --cpus 4          a guest that ships with hvcemu, by its name",
        "hvcemu run Image --append 'earlycon=pl011,0x9000000' --mem 256M",
        "hvcemu run code.bin --load 0x40080000",
        "hvcemu run Image --initrd root.cpio --type '~ # =>uname -a\\n'",
        "hvcemu run Image --save boot.snap --max-cycles 300000000",
        "hvcemu run --restore boot.snap           goes on there, as if it had not stopped",
        "hvcemu run Image --save-at first-hypercall --save boot.snap",
        "hvcemu run --from boot.snap --profile kvm-6.1    goes on below another hypervisor",
        "hvcemu run hvc_loop --core cortex-a57 --trap-costs kvm-nvhe --stats   where time goes",
        "",
        "exit status: the guest's semihosting code; 0 power-off; 2 your mistake; 120 reset;",
        "  121 fault; 122 dead idle; 123 suspend; 124 time or cycle limit; 130 Ctrl-C",
    )
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?",
        help="ELF, arm64 Linux Image, raw code, or a bundled guest's name",
    )
    group = _add_machine(parser)
    group.add_argument(
        "--gic", type=int, choices=(2, 3), default=3, help="which interrupt controller (3)"
    )
    group.add_argument(
        "--system-suspend", action="store_true",
        help="offer SYSTEM_SUSPEND, as a VMM of KVM's may; the guest sleeps until an interrupt",
    )
    group.add_argument(
        "--kaslr", action="store_true", help="let Linux choose its addresses, by --seed"
    )
    group.add_argument(
        "--reboot", action="store_true", help="SYSTEM_RESET starts the machine again"
    )
    group.add_argument(
        "--load", type=number, metavar="ADDRESS",
        help="where raw code goes; 0 for firmware, which runs from the flash",
    )
    group.add_argument("--entry", type=number, metavar="ADDRESS", help="where it starts (--load)")
    _add_policy(parser)
    add_time(parser.add_argument_group("time"))
    group = parser.add_argument_group("watching and stopping")
    group.add_argument(
        "--type", type=typed, action="append", default=[], metavar="WHEN=>WHAT", dest="dialogue",
        help="when the guest has printed WHEN, type WHAT; again for each step. \\n \\r \\t \\xNN "
        "are understood; without WHEN it is typed at once. Standard input is then not read",
    )
    group.add_argument(
        "--trace", type=trace_kinds, default=frozenset(), metavar="WHAT",
        help="calls, exceptions, or both with a comma; one line each on standard error",
    )
    group.add_argument(
        "--trace-file", metavar="FILE",
        help="the same as JSON lines (their schema: emu/watch/trace.py)"
    )
    group.add_argument(
        "--check", action="store_true",
        help="say which rules of discovery the guest breaks (`hvcemu rules`); then a run that "
        "would end with 0 ends with 1",
    )
    group.add_argument(
        "--symbols", metavar="FILE",
        help="names of the guest's functions: a System.map or an ELF, such as vmlinux",
    )
    group.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop after this time")
    group.add_argument("--max-cycles", type=positive, metavar="N", help="stop at this cycle")
    group.add_argument("--quiet", action="store_true", help="no status line, no closing line")
    group = parser.add_argument_group("saving and going on")
    group.add_argument(
        "--save", metavar="FILE",
        help="save the machine where a limit, the time or Ctrl-C stops it",
    )
    group.add_argument(
        "--save-at", "--checkpoint-at", type=moment, metavar="WHEN",
        help="save it there instead, and run on: first-hypercall (just before it), console:TEXT "
        "(when that was printed), cycle:N or N",
    )
    group.add_argument(
        "--restore", "--from", metavar="FILE",
        help="go on with a saved machine; it has its image, profile and policy with it. With "
        "--profile (and --services, --fw-reg, --deny) it goes on below that one, if it has made "
        "no call yet; its device tree stays as it was. Functions "
        "that answer forwarded calls are run only if --forward names them again",
    )
    # To tell `--restore FILE` from `--restore FILE --profile` with the default's name.
    parser.set_defaults(profile=None)
    defaults = vars(parser.parse_args([]))
    parser.set_defaults(start_options={key: defaults[key] for key in commands.START_OPTIONS})


def _add_matrix(subparsers: Any) -> None:
    _command(
        subparsers, "matrix", _later("matrix_commands", "matrix"),
        "run every combination of guests and worlds",
        "hvcemu matrix smccc_discover --profile 'kvm-*,none' --allow-exit 3",
        "hvcemu matrix guests/bin --profile 'kvm-*' --conduit hvc,smc --cpus 1,4 --html out.html",
        "hvcemu matrix vendor_uid --profile kvm-6.12 --vary services",
        "hvcemu matrix guests/bin --db results.sqlite         keeps the results",
        "hvcemu matrix guests/bin --baseline results.sqlite   fails where they are others now",
        "hvcemu matrix guests/bin --dask tcp://10.0.0.1:8786  on a cluster",
        "",
        "exit status: 0 every cell is good, or with --baseline as before; 1 otherwise;",
        "  2 your mistake; 130 Ctrl-C (--db keeps what was done, --resume goes on)",
    ).fill = _later("matrix_arguments", "fill_matrix")


def _add_results(subparsers: Any) -> None:
    _command(
        subparsers, "results", _later("results_commands", "results"),
        "list, show and compare the runs of a matrix",
        "hvcemu results results.sqlite               lists the runs in a file",
        "hvcemu results results.sqlite 3             the table of run 3",
        "hvcemu results results.sqlite 3 4           what run 4 does otherwise than run 3",
        "hvcemu results results.sqlite 3 --html out.html",
        "",
        "exit status: 0; 1 where two runs differ; 2 your mistake",
    ).fill = _later("matrix_arguments", "fill_results")


def _add_call(subparsers: Any) -> None:
    parser = _command(
        subparsers, "call", commands.call, "make one call, without a guest",
        "hvcemu call 0x8600FF01 --profile kvm-6.1",
        "hvcemu call 0x84000053 96 --seed 7",
        "hvcemu call 0x84000053 0x40 --profile kvm-6.12 --why",
        "hvcemu call 0x84000000 --conduit smc --imm 1 --json",
    )
    parser.add_argument("id", type=number, metavar="ID", help="x0: the function identifier")
    parser.add_argument("args", type=number, nargs="*", metavar="ARG", help="x1 onward")
    parser.add_argument("--conduit", choices=[str(c) for c in Conduit], default="hvc")
    parser.add_argument("--imm", type=number, default=0, metavar="N", help="the immediate (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--why", action="store_true",
        help="print the way through conduit rule, filter, firmware register and service",
    )
    _add_policy(parser)


def _add_explain(subparsers: Any) -> None:
    parser = _command(
        subparsers, "explain", commands.explain,
        "take a function identifier apart and ask every profile, or tell what traps cost and why",
        "hvcemu explain 0xC4000053", "hvcemu explain 0x8600FF01 --json",
        "hvcemu explain --costs                what traps cost below whom, and who says so",
        "hvcemu explain --costs kvm-vhe        one profile of costs",
        "hvcemu explain --costs cortex-a53     a core's system instructions likewise",
    )
    parser.add_argument(
        "id", nargs="?", type=function_id, metavar="ID", help="any 32-bit identifier"
    )
    parser.add_argument(
        "--costs", nargs="?", const="", metavar="NAME",
        help="what traps cost: all profiles of costs, one of them, or one core's instructions",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_profiles(subparsers: Any) -> None:
    parser = _command(
        subparsers, "profiles", commands.profiles, "list the profiles",
        "hvcemu profiles", "hvcemu profiles --json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def _add_diff(subparsers: Any) -> None:
    parser = _command(
        subparsers, "diff", commands.diff, "compare two profiles, call by call",
        "hvcemu diff kvm-6.1 kvm-6.12", "hvcemu diff kvm-6.12 ./my-hypervisor.toml",
    )
    for side in ("left", "right"):
        action = parser.add_argument(side, metavar="PROFILE")
        action.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def _add_migrate(subparsers: Any) -> None:
    parser = _command(
        subparsers, "migrate", commands.migrate,
        "move a running guest to another kernel and see what breaks",
        "hvcemu migrate smccc_discover --from kvm-6.17 --to kvm-6.1",
        "hvcemu migrate smccc_discover --from kvm-6.1 --to kvm-6.17 --vmm old",
        "hvcemu migrate psci_cpu_on --cpus 4 --at 100000 --from kvm-6.1 --to kvm-6.12",
        "",
        "the guest has 60 seconds on either side",
        "exit status: 0 the move went through; 1 a register write failed; 2 your mistake",
    )
    parser.add_argument("image", metavar="IMAGE", help="a guest, as `run` takes it")
    for side, help in (("from", "the kernel it starts on"), ("to", "the kernel it moves to")):
        action = parser.add_argument(
            f"--{side}", dest=f"{side}_profile", required=True, metavar="NAME", help=help
        )
        action.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
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


def _add_linux_discovery(subparsers: Any) -> None:
    _command(
        subparsers, "linux-discovery", _later("linux_commands", "linux_discovery"),
        "boot a Linux below many profiles: what it reports of them, and what it calls",
        "hvcemu linux-discovery                                the cached kernel, all profiles",
        "hvcemu linux-discovery Image --profile 'kvm-*' --cpus 4",
        "hvcemu linux-discovery --profile kvm-6.1,xen --json found.json",
        "",
        "it stops where early discovery is over and all CPUs are up (PF_NETLINK), after about",
        "0.1 s of the machine's time",
        "exit status: 0 every kernel got there; 1 otherwise; 2 your mistake; 130 Ctrl-C",
    ).fill = _later("linux_commands", "fill")


def _add_rules(subparsers: Any) -> None:
    parser = _command(
        subparsers, "rules", _later("testing", "rules"),
        "list the rules of discovery, or explain some of them",
        "hvcemu rules", "hvcemu rules conduit-unknown", "hvcemu rules --json",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="a rule")
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def _add_mutate(subparsers: Any) -> None:
    parser = _command(
        subparsers, "mutate", _later("testing", "mutate"),
        "give a guest wrong answers, one in each run, and see how it takes them",
        "hvcemu mutate smccc_discover",
        "hvcemu mutate probe_blind --profile kvm-6.1 --json",
        "hvcemu mutate guest.elf --budget 1000 --seed 7 --out guest.mutants",
        "",
        "with --out an interrupted campaign goes on where it was",
        "exit status: 0 no survivors and no rule broken; 1 otherwise; 2 your mistake",
    )
    parser.add_argument("image", metavar="IMAGE", help="a guest, as `run` takes it")
    _add_machine(parser)
    _add_policy(parser, forward_too=False, seeded="the entropy and of the choice")
    group = parser.add_argument_group("the campaign")
    group.add_argument(
        "--budget", type=positive, metavar="N",
        help="run so many mutants: a choice, or more (all systematic ones)",
    )
    group.add_argument("--jobs", type=positive, metavar="N", help="processes (all processors)")
    group.add_argument("--out", metavar="FILE", help="keep results as JSON lines, and go on there")
    group.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="host time a mutant may take (60)"
    )
    group.add_argument(
        "--max-cycles", type=positive, metavar="N",
        help="cycle at which a mutant hangs (four times the guest's own and 20 million)",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("--quiet", action="store_true", help="no progress, no list of survivors")


def _add_fuzz(subparsers: Any) -> None:
    parser = _command(
        subparsers, "fuzz", _later("testing", "fuzz"),
        "look for calls that a service or a callback of yours answers wrongly",
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
    parser.add_argument(
        "target", nargs="?", metavar="FILE.py:NAME", help="a Service, or a function of a Call"
    )
    profile = parser.add_argument("--profile", default=DEFAULT_PROFILE, metavar="NAME",
                                  help=f"whose services are beside it ({DEFAULT_PROFILE})")
    profile.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
    parser.add_argument("--spec", metavar="FILE", help="calls and the fields of their arguments")
    parser.add_argument(
        "--sanity", type=int, choices=range(4), default=2,
        help="0 any registers; 1 right identifiers; 2 fields of the right width; 3 described "
        "values only (2)",
    )
    parser.add_argument("--examples", type=positive, default=1000, metavar="N",
                        help="series of calls tried (1000)")
    parser.add_argument("--seed", type=number, default=0, metavar="N", help="of the drawing (0)")


def _add_doctor(subparsers: Any) -> None:
    _command(
        subparsers, "doctor", commands.doctor, "check that everything works on this host",
        "hvcemu doctor",
    )
