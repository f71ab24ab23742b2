"""The command line. It parses, prints and chooses the exit status; all else is elsewhere.

Heavy imports (Unicorn, rich) happen in the command that needs them, since a tiny guest starts
and ends in less time than they take to load.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from emu.errors import EmuError
from emu.profile import data_folder, load_profile, profile_names
from emu.smccc import MASK32, MASK64, Call, Conduit, FunctionId

if TYPE_CHECKING:
    from emu.console import Console
    from emu.el2 import El2
    from emu.vm import Vm

DEFAULT_PROFILE = "kvm-6.12"
STATUS_USER = 2
STATUS_INTERRUPTED = 130
STATUS_PIPE = 141
"""What a shell reports for a program that writes to a pipe nobody reads: 128 + SIGPIPE."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def entry() -> NoReturn:
    """The `hvcemu` command: `main()` in a process that ends with it.

    A short run spends a fifth of its time in the garbage collector while modules load and in
    tearing the interpreter down; neither is of use to a process about to end.
    """
    gc.disable()
    status = main()
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
    """Errors are one line that ends with what to type next."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_USER, f"hvcemu: {message}; see `{self.prog} --help`\n")


def number(text: str) -> int:
    """A number as C or Python writes it: 0x84000000, 0x8400_0000, 2214592512."""
    try:
        value = int(text.replace("_", ""), 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0x84000000") from None
    if not 0 <= value <= MASK64:
        raise argparse.ArgumentTypeError(f"{text} does not fit into 64 bits")
    return value


def function_id(text: str) -> int:
    """A 32-bit function identifier."""
    value = number(text)
    if value > MASK32:
        raise argparse.ArgumentTypeError(f"{text} does not fit into the 32 bits of an identifier")
    return value


def size(text: str) -> int:
    """A size in bytes: 64M, 1G, 1048576."""
    match = re.fullmatch(r"(\d+)([KMG]?)(i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64M or 1G")
    return int(match[1]) * _UNITS[match[2].upper()]


def positive(text: str) -> int:
    """A count of one or more."""
    value = number(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give at least 1")
    return value


def seconds(text: str) -> float:
    """A time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds such as 2.5")
    return value


def id_range(text: str) -> tuple[int, int]:
    """A range of identifiers as (base, count): ID, FIRST-LAST or ID+COUNT."""
    match = re.fullmatch(r"([^-+]+)([-+]?)(.*)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is none of ID, FIRST-LAST and ID+COUNT")
    first, sign, rest = match.groups()
    base = function_id(first)
    if not sign:
        return base, 1
    last = number(rest)
    return (base, last) if sign == "+" else (base, last - base + 1)


def forward(text: str) -> tuple[int, int, str]:
    """RANGE or RANGE=FILE.py:FUNCTION."""
    which, _, target = text.partition("=")
    return *id_range(which), target


def register(text: str) -> tuple[str, int]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as STD_BMAP=0")
    return name.strip(), number(value)


def services(text: str) -> list[tuple[str, bool]]:
    """+NAME and -NAME, separated by commas."""
    switches = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if part[0] not in "+-" or len(part) < 2:
            raise argparse.ArgumentTypeError(f"{part!r}: write +{part} or -{part}")
        switches.append((part[1:], part[0] == "+"))
    return switches


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
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from emu import __version__

    parser.add_argument("--version", action="version", version=f"hvcemu {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True,
        prog="hvcemu",  # to be told saves argparse loading shutil to find out
    )
    for add in (
        _add_run, _add_call, _add_explain, _add_profiles, _add_diff, _add_migrate, _add_doctor
    ):
        add(commands)
    return parser


def _command(
    commands: Any, name: str, function: Callable[[Any], int], summary: str, *examples: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_examples(*examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _add_policy(parser: argparse.ArgumentParser) -> None:
    """Options that `run` and `call` share."""
    group = parser.add_argument_group("what lies below the guest")
    profile = group.add_argument(
        "--profile", default=DEFAULT_PROFILE, metavar="NAME",
        help=f"a profile's name, or a TOML file of your own (default {DEFAULT_PROFILE})",
    )
    profile.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
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
    group.add_argument(
        "--forward", type=forward, action="append", default=[], metavar="RANGE[=FILE.py:FUNCTION]",
        help="forward a range to a function that takes the Call and returns a Ret or an int; "
        "without one the answer is NOT_SUPPORTED",
    )
    group.add_argument("--seed", type=number, default=0, metavar="N", help="of the entropy (0)")


def _add_run(commands: Any) -> None:
    parser = _command(
        commands, "run", run, "run a guest image",
        "hvcemu run guests/bin/smccc_discover.elf --profile kvm-6.12 --trace calls",
        "hvcemu run psci_cpu_on --cpus 4          a guest that ships with hvcemu, by its name",
        "hvcemu run Image --append 'earlycon=pl011,0x9000000' --mem 256M",
        "hvcemu run code.bin --load 0x40080000",
        "hvcemu run Image --save boot.snap --max-cycles 300000000",
        "hvcemu run --restore boot.snap           goes on there, as if it had not stopped",
        "",
        "exit status: the guest's semihosting code; 0 power-off; 2 your mistake; 120 reset;",
        "  121 fault; 122 dead idle; 123 suspend; 124 time or cycle limit; 130 Ctrl-C",
    )
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?",
        help="ELF, arm64 Linux Image, raw code, or a bundled guest's name",
    )
    group = parser.add_argument_group("machine")
    group.add_argument("--cpus", type=int, default=1, metavar="N", help="vCPUs (1)")
    group.add_argument("--mem", type=size, default=64 << 20, metavar="SIZE", help="RAM (64M)")
    group.add_argument("--load", type=number, metavar="ADDRESS", help="where raw code goes")
    group.add_argument("--entry", type=number, metavar="ADDRESS", help="where it starts (--load)")
    group.add_argument("--append", default="", metavar="TEXT", help="kernel command line")
    group.add_argument("--initrd", metavar="FILE", help="initial RAM disk")
    group.add_argument("--dtb", metavar="FILE", help="a device tree instead of the generated one")
    group.add_argument(
        "--conduit", choices=[str(c) for c in Conduit], help="what the device tree says of /psci"
    )
    _add_policy(parser)
    group = parser.add_argument_group("watching and stopping")
    group.add_argument(
        "--trace", type=_trace_kinds, default=frozenset(), metavar="WHAT",
        help="calls, exceptions, or both with a comma; one line each on standard error",
    )
    group.add_argument("--trace-file", metavar="FILE", help="the same as JSON lines (emu/trace.py)")
    group.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop after this time")
    group.add_argument("--max-cycles", type=positive, metavar="N", help="stop at this cycle")
    group.add_argument("--quiet", action="store_true", help="no status line, no closing line")
    group = parser.add_argument_group("saving and going on")
    group.add_argument(
        "--save", metavar="FILE",
        help="save the machine where a limit, the time or Ctrl-C stops it",
    )
    group.add_argument(
        "--save-at", type=positive, metavar="CYCLE", help="save it there instead, and run on"
    )
    group.add_argument(
        "--restore", metavar="FILE",
        help="go on with a saved machine; it has its image, profile and policy with it. Functions "
        "that answer forwarded calls are run only if --forward names them again",
    )
    defaults = vars(parser.parse_args([]))
    parser.set_defaults(start_options={key: defaults[key] for key in _START_OPTIONS})


_START_OPTIONS = {
    "image": "IMAGE", "cpus": "--cpus", "mem": "--mem", "load": "--load", "entry": "--entry",
    "append": "--append", "initrd": "--initrd", "dtb": "--dtb", "conduit": "--conduit",
    "profile": "--profile", "services": "--services", "fw_reg": "--fw-reg", "deny": "--deny",
    "seed": "--seed",
}  # fmt: skip
"""What a machine is made of, and a saved one has."""
TRACE_KINDS = ("calls", "exceptions")


def _trace_kinds(text: str) -> frozenset[str]:
    kinds = frozenset(part.strip() for part in text.split(","))
    if not kinds <= set(TRACE_KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}: trace {' or '.join(TRACE_KINDS)}")
    return kinds


def _add_call(commands: Any) -> None:
    parser = _command(
        commands, "call", call, "make one call, without a guest",
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


def _add_explain(commands: Any) -> None:
    parser = _command(
        commands, "explain", explain, "take a function identifier apart and ask every profile",
        "hvcemu explain 0xC4000053", "hvcemu explain 0x8600FF01 --json",
    )
    parser.add_argument("id", type=function_id, metavar="ID", help="any 32-bit identifier")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_profiles(commands: Any) -> None:
    parser = _command(
        commands, "profiles", profiles, "list the profiles",
        "hvcemu profiles", "hvcemu profiles --json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def _add_diff(commands: Any) -> None:
    parser = _command(
        commands, "diff", diff, "compare two profiles, call by call",
        "hvcemu diff kvm-6.1 kvm-6.12", "hvcemu diff kvm-6.12 ./my-hypervisor.toml",
    )
    for side in ("left", "right"):
        action = parser.add_argument(side, metavar="PROFILE")
        action.completer = lambda **_: profile_names()  # type: ignore[attr-defined]
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def _add_migrate(commands: Any) -> None:
    parser = _command(
        commands, "migrate", migrate, "move a running guest to another kernel and see what breaks",
        "hvcemu migrate smccc_discover --from kvm-6.17 --to kvm-6.1",
        "hvcemu migrate smccc_discover --from kvm-6.1 --to kvm-6.17 --vmm old",
        "hvcemu migrate psci_cpu_on --cpus 4 --at 100000 --from kvm-6.1 --to kvm-6.12",
        "",
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


def _add_doctor(commands: Any) -> None:
    _command(
        commands, "doctor", doctor, "check that everything works on this host", "hvcemu doctor"
    )


# -- the commands -----------------------------------------------------------------------------


def run(options: Any) -> int:
    """`hvcemu run`."""
    from emu.console import Console, Descriptor
    from emu.runner import Limits, Runner, Saving, StatusLine, report_to, stdout_sink
    from emu.vm import Vm

    _check_run(options)
    status = StatusLine(_Nowhere() if options.quiet else sys.stderr)
    source = Descriptor(sys.stdin.fileno()) if _has_stdin() else None
    console = Console(source, stdout_sink(status))
    saved = options.restore
    vm = Vm.load(saved, console=console) if saved else _new_vm(options, console)
    say = report_to(sys.stderr, status)
    close = _attach_traces(vm, options, say)
    limits = Limits(options.timeout, options.max_cycles)
    saving = Saving(options.save, options.save_at) if options.save else None
    # A file may name a function; only the command line may have it run.
    targets = frozenset(target for *_, target in options.forward) if options.restore else None
    quiet_or_say = (lambda _: None) if options.quiet else say
    try:
        return Runner(vm, limits, quiet_or_say, status, source, saving, targets).run()
    finally:
        close()


def _check_run(options: Any) -> None:
    """Refuse options of `run` that contradict each other."""
    if options.save_at and not options.save:
        raise EmuError("--save-at needs --save FILE, the file to save to")
    if not options.restore and options.image is None:
        raise EmuError("give an IMAGE to run, or --restore FILE")
    for key, name in _START_OPTIONS.items() if options.restore else ():
        if getattr(options, key) != options.start_options[key]:
            raise EmuError(f"{name} and --restore exclude each other: a saved machine has its own")


def _new_vm(options: Any, console: Console) -> Vm:
    """The machine that the options of `run` describe."""
    from emu.vm import Vm

    vm = Vm(
        find_image(options.image),
        profile=options.profile,
        cpus=options.cpus,
        memory=options.mem,
        seed=options.seed,
        append=options.append,
        initrd=options.initrd,
        dtb=options.dtb,
        load=options.load,
        entry=options.entry,
        conduit=options.conduit,
        console=console,
    )
    apply_policy(vm.el2, options)
    return vm


class _Nowhere:
    """A stream for a status line nobody wants."""

    @staticmethod
    def isatty() -> bool:
        return False


def _has_stdin() -> bool:
    try:
        return sys.stdin is not None and sys.stdin.fileno() >= 0
    except (OSError, ValueError):
        return False


def _attach_traces(vm: Vm, options: Any, say: Callable[[str], None]) -> Callable[[], None]:
    """Add what --trace and --trace-file ask for; returns what closes the file."""
    if not options.trace and not options.trace_file:
        return lambda: None
    from emu.trace import JsonTrace, TextTrace

    if options.trace:
        vm.instruments.append(
            TextTrace(
                vm.el2,
                say,
                calls="calls" in options.trace,
                exceptions="exceptions" in options.trace,
                colour=_wants_colour(sys.stderr),
            )
        )
    if not options.trace_file:
        return lambda: None
    stream = Path(options.trace_file).open("w", encoding="utf-8")  # noqa: SIM115
    vm.instruments.append(
        JsonTrace(vm.el2, lambda line: print(line, file=stream), options.image or vm.image.path)
    )
    return stream.close


def _wants_colour(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def find_image(name: str) -> str:
    """A path, or the name of a guest that ships with hvcemu."""
    if os.path.exists(name) or os.sep in name:
        return name
    folder = data_folder("guests")
    bundled = folder / f"{name.removesuffix('.elf')}.elf"
    if bundled.is_file():
        return str(bundled)
    known = sorted(path.stem for path in folder.glob("*.elf"))
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"bundled are {', '.join(known)}"
    raise EmuError(f"{name}: no such file, and no guest of that name; {hint}")


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
            from emu.runner import load_target

            load_target(target)
        el2.add_filter(base, count, "forward", target)


def call(options: Any) -> int:
    """`hvcemu call`."""
    from emu import exits
    from emu.describe import answer_text, subject
    from emu.el2 import El2
    from emu.explain import call_lines, make_call
    from emu.paper import PaperHost
    from emu.smccc import Ret

    if len(options.args) > 7 or options.imm > 0xFFFF:
        raise EmuError("a call has at most 7 arguments, x1 to x7, and a 16-bit immediate")
    el2 = El2(options.profile, PaperHost(seed=options.seed))
    apply_policy(el2, options)
    made: Call = make_call(
        options.id, *options.args, conduit=Conduit(options.conduit), imm=options.imm
    )
    if not options.json:
        _print_lines(call_lines(el2, made, why=options.why))
        return 0
    answer = el2.answer(made)
    route = el2.route(made.x[0], made.conduit, made.imm)
    _print_json(
        {
            "profile": el2.profile.name,
            "fid": str(made.fid),
            "name": subject(made.fid, el2).name,
            "answer": "exit" if isinstance(answer, exits.Exit) else "ret"
            if isinstance(answer, Ret) else "undef",
            "ret": [hex(value) for value in answer] if isinstance(answer, Ret) else [],
            "result": answer_text(answer, subject(made.fid, el2)),
            "why": route.why,
            "source": route.source,
            "steps": list(route.steps),
        }
    )
    return 0


def explain(options: Any) -> int:
    """`hvcemu explain`."""
    from emu.describe import subject
    from emu.explain import fields, verdicts

    fid = FunctionId(options.id)
    what, parts, rows = subject(fid), fields(fid), verdicts(fid)
    if options.json:
        _print_json(
            {
                "fid": str(fid),
                "name": what.name,
                "source": what.source,
                "fields": [part._asdict() for part in parts],
                "profiles": [row._asdict() for row in rows],
            }
        )
        return 0
    named = what.name != str(fid)
    print(f"{fid}  {what.name}" if named else f"{fid}  no specification known here names it")
    if what.function and what.function.doc:
        print(f"  {what.function.doc}")
    if what.function and what.function.args:
        print(f"  arguments: {', '.join(what.function.args)}")
    if what.source:
        print(f"  source: {what.source}")
    print()
    _print_table(("bits", "field", "value", "meaning"), parts)
    print("\nwith all arguments zero:")
    shown = [(r.profile, r.hvc, r.smc, r.why) for r in rows]
    _print_table(("profile", "by HVC", "by SMC", "because"), shown)
    return 0


def profiles(options: Any) -> int:
    """`hvcemu profiles`."""
    from emu.explain import summaries

    rows = summaries()
    if options.json:
        _print_json([row._asdict() for row in rows])
        return 0
    _print_table(("profile", "what it is", "PSCI", "SMCCC", "services", "conduits"), rows)
    return 0


def diff(options: Any) -> int:
    """`hvcemu diff`."""
    from emu.explain import differences

    left, right = load_profile(options.left), load_profile(options.right)
    rows = differences(left, right)
    if options.json:
        _print_json([row._asdict() for row in rows])
    elif rows:
        _print_table(("", left.name, right.name), rows)
    else:
        print(f"{left.name} and {right.name}: a guest cannot tell them apart")
    return 0


def migrate(options: Any) -> int:
    """`hvcemu migrate`."""
    from emu.migrate import UsedCalls, lines, move
    from emu.runner import Limits, Runner, StatusLine, report_to
    from emu.vm import Vm

    target = load_profile(options.to_profile)
    used = UsedCalls()
    vm = Vm(
        find_image(options.image), profile=options.from_profile, cpus=options.cpus,
        memory=options.mem, instruments=[used],
    )  # fmt: skip
    status = StatusLine(sys.stderr)
    say = report_to(sys.stdout, status)
    limits = Limits(seconds=60, cycles=options.at)
    Runner(vm, limits, lambda _: None, status).run()
    stats = vm.stats()
    say(f"ran {options.image} on {vm.profile.name}: {stats.calls} calls, cycle {stats.cycles:,}")
    report = move(vm.el2, target, options.vmm)
    _print_lines(lines(report, used))
    if report.failed:
        print(f"the move fails: a VMM gives up where {target.name} refuses a write")
        return 1
    if options.at is not None:
        vm.move_to(report.profile, report.policy)
        ended = Runner(vm, Limits(seconds=60), say, status).run()
        print(f"ran on under {target.name} to cycle {vm.clock.cycles:,}, exit status {ended}")
    return 0


def doctor(options: Any) -> int:
    """`hvcemu doctor`."""
    from emu.doctor import checks

    healthy = True
    for check in checks():
        mark = "ok" if check.good else "BAD" if check.vital else "--"
        print(f"{mark:<4}{check.name:<22}{check.text}", flush=True)
        healthy = healthy and (check.good or not check.vital)
    print("everything vital works" if healthy else "something vital is broken, see BAD above")
    return 0 if healthy else 1


# -- printing ---------------------------------------------------------------------------------


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns: by rich on a terminal, plain and unwrapped in a pipe."""
    if not _wants_colour(sys.stdout):
        texts = [[str(cell) for cell in row] for row in (titles, *rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for cells in texts:
            print("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(highlight=False, markup=False).print(table)


