"""What each command does: it collects, prints and returns the exit status; all else is elsewhere.

Heavy imports (Unicorn, rich) happen in the command that needs them, since a tiny guest starts
and ends in less time than they take to load.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit, FunctionId
from emu.runs.bundled import find_image
from emu.runs.progress import wants_colour
from emu.world.profile import DEFAULT_PROFILE, load_profile

if TYPE_CHECKING:
    from emu.base.console import Console
    from emu.base.endings import Ending
    from emu.machine.terminal import Keyboard
    from emu.machine.vm import Vm
    from emu.world.monitor import El2


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
MIGRATE_SECONDS = 60.0
"""How long a guest of `migrate` may run on either side before it is stopped."""


def run(options: Any) -> int:
    """`hvcemu run`."""
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
        symbols = Symbols.from_file(Path(path).read_bytes())
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
            )
        )
    if not options.trace_file:
        return lambda: None
    stream = Path(options.trace_file).open("w", encoding="utf-8")  # noqa: SIM115
    vm.instruments.append(
        JsonTrace(vm.el2, lambda line: print(line, file=stream), options.image or vm.image.path)
    )
    return stream.close


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


def call(options: Any) -> int:
    """`hvcemu call`."""
    from emu.base import exits
    from emu.base.smccc import Ret
    from emu.watch.explain import call_lines, make_call
    from emu.world.describe import answer_text, subject_of
    from emu.world.monitor import El2
    from emu.world.paper import PaperHost

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
    print_json(
        {
            "profile": el2.profile.name,
            "fid": str(made.fid),
            "name": subject_of(made, el2).name,
            "answer": "exit" if isinstance(answer, exits.Exit) else "ret"
            if isinstance(answer, Ret) else "undef",
            "ret": [hex(value) for value in answer] if isinstance(answer, Ret) else [],
            "result": answer_text(answer, subject_of(made, el2)),
            "why": route.why,
            "source": route.source,
            "steps": list(route.steps),
        }
    )
    return 0


def explain(options: Any) -> int:
    """`hvcemu explain`."""
    if options.costs is not None:
        return _explain_costs(options)
    if options.id is None:
        raise EmuError("give an identifier such as 0xC4000053, or --costs")
    from emu.watch.explain import fields, verdicts
    from emu.world.describe import subject

    fid = FunctionId(options.id)
    what, parts, rows = subject(fid), fields(fid), verdicts(fid)
    if options.json:
        print_json(
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
    print_table(("bits", "field", "value", "meaning"), parts)
    print("\nwith all arguments zero:")
    shown = [(r.profile, r.hvc, r.smc, r.why) for r in rows]
    print_table(("profile", "by HVC", "by SMC", "because"), shown)
    return 0


def _explain_costs(options: Any) -> int:
    """`hvcemu explain --costs`."""
    from emu.watch import price_list as costs_report

    name = options.costs
    if options.id is not None:
        raise EmuError("explain either an identifier or --costs")
    if options.json:
        print_json(costs_report.as_json() if not name else {
            event: cost._asdict() for event, cost in costs_report.figures(name).items()
        })  # fmt: skip
    else:
        if not name:
            print("cycles there and back:")
            print_table(costs_report.SUMMARY, costs_report.summary())
        for one in [name] if name else costs_report.names():
            print("" if name else "\n", end="")
            print(costs_report.about(one))
            print_table(costs_report.TITLES, costs_report.rows(one))
    return 0


def profiles(options: Any) -> int:
    """`hvcemu profiles`."""
    from emu.watch.explain import summaries

    rows = summaries()
    if options.json:
        print_json([row._asdict() for row in rows])
        return 0
    print_table(("profile", "what it is", "PSCI", "SMCCC", "services", "conduits"), rows)
    return 0


def diff(options: Any) -> int:
    """`hvcemu diff`."""
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


def migrate(options: Any) -> int:
    """`hvcemu migrate`."""
    from emu.base.endings import STATUS_INTERRUPTED
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
    ended = Runner(vm, Limits(MIGRATE_SECONDS, options.at), told.append, status).run()
    reached = options.at is not None and vm.clock.cycles >= options.at
    if not reached:  # where it was to stop is no news
        _print_lines(told)
    if ended == STATUS_INTERRUPTED:
        return ended
    stats = vm.stats()
    say(f"ran {options.image} on {vm.profile.name}: {stats.calls} calls, cycle {stats.cycles:,}")
    report = move(vm.el2, target, options.vmm)
    _print_lines(lines(report, used))
    if report.failed:
        print(f"the move fails: a VMM gives up where {target.name} refuses a write")
        return 1
    if options.at is not None and not reached:
        print(f"it ended before cycle {options.at:,}: nothing is left to run on")
    if reached:
        vm.move_to(report.profile, report.policy)
        ended = Runner(vm, Limits(MIGRATE_SECONDS), say, status).run()
        print(f"ran on under {target.name} to cycle {vm.clock.cycles:,}, exit status {ended}")
    return 0


def doctor(options: Any) -> int:
    """`hvcemu doctor`."""
    from emu.cli.doctor import checks

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


def print_json(value: Any) -> None:
    import json  # only where it is asked for

    print(json.dumps(value, indent=2))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns: by rich on a terminal, plain and unwrapped in a pipe."""
    if not wants_colour(sys.stdout):
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


