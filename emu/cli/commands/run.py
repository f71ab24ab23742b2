"""`hvcemu run`: a guest, from its start or from where it was saved, to its end."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.base.clock import DEFAULT_HZ
from emu.base.errors import EmuError
from emu.cli.arguments import frequency, moment, number, positive, seconds, trace_kinds, typed
from emu.cli.options import add_below, add_machine, apply_policy
from emu.machine.timing import Timing
from emu.runs.bundled import find_image
from emu.runs.progress import wants_colour
from emu.world.profile import DEFAULT_PROFILE, load_profile

if TYPE_CHECKING:
    from emu.base.console import Console
    from emu.base.endings import Ending
    from emu.machine.terminal import Keyboard
    from emu.machine.vm import Vm

ORDER = 10
SUMMARY = "run a guest image"
EXAMPLES = (
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

POLICY_OPTIONS = {
    "profile": "--profile", "services": "--services", "fw_reg": "--fw-reg", "deny": "--deny",
}  # fmt: skip
"""What a saved machine has, and can be given anew, all together, while it has made no call."""
START_OPTIONS = POLICY_OPTIONS | {
    "image": "IMAGE", "cpus": "--cpus", "mem": "--mem", "load": "--load", "entry": "--entry",
    "append": "--append", "initrd": "--initrd", "dtb": "--dtb", "conduit": "--conduit",
    "core": "--core", "timing": "--timing", "freq": "--freq", "trap_costs": "--trap-costs",
    "seed": "--seed", "gic": "--gic", "kaslr": "--kaslr",
    "system_suspend": "--system-suspend",
}  # fmt: skip
"""What a machine is made of, and a saved one has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The guest and its machine, what lies below it, what is watched, and when it is saved."""
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?",
        help="ELF, arm64 Linux Image, raw code, or a bundled guest's name",
    )
    group = add_machine(parser)
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
    add_below(parser)
    _add_time(parser.add_argument_group("time"))
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
        "--why", action="store_true",
        help="with --trace calls: below each call the steps of how it was answered",
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
    parser.set_defaults(start_options={key: parser.get_default(key) for key in START_OPTIONS})


def _add_time(group: argparse._ArgumentGroup) -> None:
    """How time passes, and where it goes."""
    group.add_argument(
        "--timing", choices=list(Timing), help="how closely a --core's cycles are counted: flat is "
        "an instruction a cycle, block the core's model (the default of a core), branch also what "
        "is mispredicted, cache also what is not in a cache",
    )
    group.add_argument(
        "--freq", type=frequency, default=DEFAULT_HZ, metavar="HZ",
        help="cycles in a second, such as 1.5G (1G)",
    )
    group.add_argument(
        "--trap-costs", metavar="NAME",
        help="what a trap costs: kvm-nvhe, kvm-vhe, xen, tfa-n1, zero … (`hvcemu explain --costs` "
        "lists them; the profile's own, or zero where an instruction is a cycle)",
    )
    group.add_argument(
        "--stats", action="store_true",
        help="say at the end where the cycles went: vCPUs, functions, exceptions, calls, blocks",
    )
    group.add_argument(
        "--profile-out", metavar="FILE",
        help="keep who called whom at what cost: FILE.folded (flame graphs), FILE.json "
        "(speedscope) or any other name (callgrind)",
    )


def run(options: Any) -> int:
    """Run it to its end, and tell what was asked for."""
    from emu.base.console import Console, Dialogue
    from emu.cli.runner import Limits, Runner, Saving, StatusLine, report_to, stdout_sink

    _check_run(options)
    status = StatusLine(_Nowhere() if options.quiet else sys.stderr)
    say = report_to(sys.stderr, status)
    stdin = None if options.dialogue else _stdin(say)
    source = Dialogue(options.dialogue) if options.dialogue else stdin
    console = Console(source, stdout_sink(status))
    vm = _saved_vm(options, console, say) if options.restore else _new_vm(options, console)
    if options.symbols:
        _attach_symbols(vm, options.symbols)
    close = _attach_traces(vm, options, say)
    check = _attach_check(vm) if options.check else None
    if options.profile_out:
        _check_writable("--profile-out", options.profile_out)
    if options.stats or options.profile_out:
        vm.follow()
    limits = Limits(options.timeout, options.max_cycles)
    saving = Saving(options.save, options.save_at) if options.save else None
    # A file may name a function; only the command line may have it run.
    targets = frozenset(target for *_, target in options.forward) if options.restore else None
    quiet_or_say = (lambda _: None) if options.quiet else say
    runner = Runner(
        vm, limits, quiet_or_say, status, stdin, saving, targets, reboot=options.reboot
    )
    try:
        status_code = runner.run()
    finally:
        close()
        _tell_spending(vm, options, say)
    return check(runner.ending, status_code, say) if check else status_code


def _attach_symbols(vm: Vm, path: str) -> None:
    """Names from a file beside the image, which has none of its own or others."""
    from emu.images.symbols import Symbols

    try:
        with open(path, "rb") as file:
            symbols = Symbols.from_file(file.read())
    except OSError as error:
        raise EmuError(f"--symbols {path}: {error.strerror}") from None
    if not symbols:
        raise EmuError(f"--symbols {path}: it names nothing; give a System.map or an ELF file")
    vm.image = dataclasses.replace(vm.image, symbols=symbols)


def _check_writable(option: str, path: str) -> None:
    """Refuse a file that could not be written when the run is over."""
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise EmuError(f"{option} {path}: {error.strerror}") from None


def _tell_spending(vm: Vm, options: Any, say: Callable[[str], None]) -> None:
    """What --stats and --profile-out ask for."""
    if options.stats:
        from emu.watch.ledger_report import report

        for line in report(vm):
            say(line)
    if options.profile_out:
        from emu.watch.profile_files import write_profile

        write_profile(vm, options.profile_out, f"hvcemu run {options.image or options.restore}")


def _attach_check(vm: Vm) -> Callable[[Ending, int, Callable[[str], None]], int]:
    """Watch for broken rules; returns what reports them and gives the exit status."""
    from emu.judge.trial import Judge
    from emu.judge.verdicts import verdict_lines, verdict_summary

    judge = Judge(vm, follow=True)
    vm.instruments += judge.instruments

    def report(ending: Ending, status: int, say: Callable[[str], None]) -> int:
        verdicts = judge.verdicts(ending)
        for line in (*verdict_lines(verdicts), verdict_summary(verdicts)):
            say(line)
        return status or int(bool(verdicts))

    return report


def _check_run(options: Any) -> None:
    """Refuse options of `run` that contradict each other."""
    if options.save_at and not options.save:
        raise EmuError("--save-at needs --save FILE, the file to save to")
    if not options.restore and options.image is None:
        raise EmuError("give an IMAGE to run, or --restore FILE")
    anew = POLICY_OPTIONS if options.profile else {}
    for key, name in START_OPTIONS.items() if options.restore else ():
        if key not in anew and getattr(options, key) != options.start_options[key]:
            why = ", or goes below another --profile" if key in POLICY_OPTIONS else ""
            raise EmuError(
                f"{name} and --restore exclude each other: a saved machine has its own{why}"
            )


def _saved_vm(options: Any, console: Console, say: Callable[[str], None]) -> Vm:
    """The machine in a file, below the profile that --profile names if it does."""
    from emu.machine.vm import Vm

    # A profile that does not exist need not wait for a large file.
    profile = load_profile(options.profile) if options.profile else None
    vm = Vm.load(options.restore, console=console)
    if profile is None:
        return vm
    made, was = vm.stats().calls, vm.profile
    if made:
        raise EmuError(
            f"{options.restore}: its guest has made {made:,} calls below {was.name} and knows it: "
            "save it with --save-at first-hypercall (or see `hvcemu migrate --help`)"
        )
    vm.begin_below(profile)
    apply_policy(vm.el2, options)
    if str(was.promise) != str(profile.promise):
        say(f"the device tree stays that of {was.name}, {was.promise}; "
            f"{profile.name} would have {profile.promise}")
    return vm


def _new_vm(options: Any, console: Console) -> Vm:
    """The machine that the options of `run` describe."""
    from emu.machine.vm import Vm

    vm = Vm(
        find_image(options.image),
        profile=options.profile or DEFAULT_PROFILE,
        cpus=options.cpus,
        memory=options.mem,
        core=options.core,
        timing=options.timing,
        freq=options.freq,
        trap_costs=options.trap_costs,
        gic=options.gic,
        seed=options.seed,
        append=options.append,
        initrd=options.initrd,
        kaslr=options.kaslr,
        dtb=options.dtb,
        load=options.load,
        entry=options.entry,
        conduit=options.conduit,
        console=console,
    )
    apply_policy(vm.el2, options)
    if options.system_suspend and "psci" in vm.el2.services:
        vm.el2.set_option("psci", system_suspend=True)
    return vm


class _Nowhere:
    """A stream for a status line nobody wants."""

    @staticmethod
    def isatty() -> bool:
        return False


def _stdin(say: Callable[[str], None]) -> Keyboard | None:
    """Standard input, where there is any; a pipe or a file is a keyboard without escapes."""
    from emu.machine.terminal import Keyboard

    try:
        return Keyboard(sys.stdin.fileno(), say) if sys.stdin is not None else None
    except (OSError, ValueError):
        return None


def _attach_traces(vm: Vm, options: Any, say: Callable[[str], None]) -> Callable[[], None]:
    """Add what --trace and --trace-file ask for; returns what closes the file."""
    if options.why and "calls" not in options.trace:
        raise EmuError("--why tells about calls that are traced: add --trace calls")
    if not options.trace and not options.trace_file:
        return lambda: None
    from emu.watch.trace import JsonTrace, TextTrace

    if options.trace:
        vm.instruments.append(
            TextTrace(
                vm.el2,
                say,
                calls="calls" in options.trace,
                exceptions="exceptions" in options.trace,
                colour=wants_colour(sys.stderr),
                steps=options.why,
            )
        )
    if not options.trace_file:
        return lambda: None
    stream = open(options.trace_file, "w", encoding="utf-8")  # noqa: SIM115
    vm.instruments.append(
        JsonTrace(vm.el2, lambda line: print(line, file=stream), options.image or vm.image.path)
    )
    return stream.close
