"""One guest in one world, and what came of it: the unit of matrices, mutants and tests.

A `Setup` says everything a run depends on, so that it can be sent to another process, kept in a
file and compared; an `Outcome` says everything that was seen. The same setup gives the same
outcome on every host, but for `seconds`. Nothing a guest does leaves this module as an exception:
it costs its own trial, as a fault, a limit or a flood. Only the user's mistakes are `EmuError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from emu.arm.cores import DEFAULT_CORE
from emu.base import exits
from emu.base.endings import STATUS_LIMIT, Ending, ending_of
from emu.base.smccc import Ret
from emu.judge.discovery import LOOK, Inspector, Verdict
from emu.judge.following import Follower
from emu.machine.instrument import CallRecord, Instrument
from emu.machine.vm import Vm
from emu.watch.trace import exit_detail
from emu.world.describe import answer_text, by_text, call_text, subject_of
from emu.world.monitor import El2
from emu.world.profile import DEFAULT_PROFILE

MIB = 1 << 20
SECONDS, CYCLES = 60.0, 1_000_000_000
"""Our choice of how long a guest may take: host time, and a second of its own."""
STRETCH = LOOK
"""Cycles between two looks at the clock of the host and at the console: a few milliseconds."""
FIRST_PIECE = 50_000
"""Cycles of the first piece of a stretch: more than most tiny guests take."""
SLOW = 0.05
"""Seconds of the host a piece of a stretch should not take."""
MAX_OUTPUT = 1 * MIB
MAX_CALLS = 10_000
"""How many calls an outcome keeps: a guest that polls for ever costs no memory."""


class Setup(NamedTuple):
    """A guest and its world. `services` are the switches of `--services`, `registers` those of
    `--fw-reg`, `deny` ranges as (base, count); `seconds` and `cycles` limit the run. An empty
    `conduit` is what the profile promises. `follow` watches what the guest does with answers, too
    (following.py), for a few milliseconds more."""

    image: str
    profile: str = DEFAULT_PROFILE
    conduit: str = ""
    cpus: int = 1
    core: str = DEFAULT_CORE
    services: tuple[tuple[str, bool], ...] = ()
    registers: tuple[tuple[str, int], ...] = ()
    deny: tuple[tuple[int, int], ...] = ()
    memory: int = 64 * MIB
    seed: int = 0
    append: str = ""
    initrd: str | None = None
    dtb: str | None = None
    seconds: float = SECONDS
    cycles: int | None = CYCLES
    follow: bool = False


class CallLine(NamedTuple):
    """A call as text, for people and for comparing runs; `cycles` is when it was answered."""

    cycles: int
    vcpu: int
    by: str
    call: str
    result: str
    why: str


class Outcome(NamedTuple):
    """What came of a trial. `total_calls` counts all, `calls` holds the first `MAX_CALLS`."""

    ending: Ending
    status: int
    detail: str
    console: str
    calls: tuple[CallLine, ...]
    verdicts: tuple[Verdict, ...]
    total_calls: int
    cycles: int
    instructions: int
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether the guest ended by its own will, with success and without breaking a rule."""
        return self.status == 0 and not self.verdicts


def failed(ending: Ending, status: int, detail: str, seconds: float = 0.0) -> Outcome:
    """The outcome of a trial that has nothing to show."""
    return Outcome(ending, status, detail, "", (), (), 0, 0, 0, seconds)


class CallLog(Instrument):
    """Keeps the calls of a run; `functions` are all that were called, `total` counts all."""

    def __init__(self) -> None:
        self.functions: set[int] = set()
        self.records: list[CallRecord] = []
        self.total = 0

    def on_call(self, record: CallRecord) -> None:
        self.total += 1
        if self.total <= MAX_CALLS:
            self.records.append(record)
        if len(self.functions) < MAX_CALLS:
            self.functions.add(record.call.id)


class Judge:
    """All that judges a run: the rules, and the follower where it is wanted."""

    def __init__(self, vm: Vm, *, follow: bool) -> None:
        self._inspector = Inspector(vm)
        self._follower = Follower(vm) if follow else None

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What the machine must tell."""
        return (self._inspector, self._follower) if self._follower else (self._inspector,)

    def verdicts(self, ending: Ending) -> tuple[Verdict, ...]:
        """Every rule broken, in the order of the first time."""
        found = self._inspector.verdicts(ending)
        if self._follower:
            found += self._follower.verdicts()
        return tuple(sorted(found, key=lambda verdict: verdict.cycles))


def call_lines(records: Iterable[CallRecord], el2: El2) -> tuple[CallLine, ...]:
    """Records as text."""
    lines = []
    for record in records:
        what = subject_of(record.call, el2)
        lines.append(
            CallLine(
                record.cycles, record.call.vcpu, by_text(record.call), call_text(record.call, what),
                answer_text(record.answer, what), record.why,
            )
        )  # fmt: skip
    return tuple(lines)


def build(setup: Setup, **options: Any) -> Vm:
    """The machine of a setup; EmuError where there can be none."""
    vm = Vm(
        setup.image, profile=setup.profile, cpus=setup.cpus, core=setup.core,
        memory=setup.memory, seed=setup.seed, append=setup.append, initrd=setup.initrd,
        dtb=setup.dtb, conduit=setup.conduit or None, **options,
    )  # fmt: skip
    for name, on in setup.services:
        vm.el2.switch_feature(name, on=on)
    for name, value in setup.registers:
        vm.el2.set_register(name, value)
    for base, count in setup.deny:
        vm.el2.add_filter(base, count, "deny")
    return vm


def attempt(setup: Setup, **options: Any) -> Outcome:
    """Run a setup to its end; EmuError where it cannot be started."""
    started = time.perf_counter()
    vm = build(setup, **options)
    log, judge = CallLog(), Judge(vm, follow=setup.follow)
    vm.instruments += (log, *judge.instruments)
    exit, flooded = run_within(vm, setup.seconds, setup.cycles)
    ending, _ = (Ending.FLOOD, STATUS_LIMIT) if flooded else ending_of(exit)
    return outcome_of(vm, log, exit, flooded, judge.verdicts(ending), started)


def outcome_of(
    vm: Vm, log: CallLog, exit: exits.Exit, flooded: bool, verdicts: tuple[Verdict, ...],
    started: float,
) -> Outcome:
    """What came of a run that is over; `started` by `time.perf_counter`."""
    ending, status = (Ending.FLOOD, STATUS_LIMIT) if flooded else ending_of(exit)
    stats = vm.stats()
    return Outcome(
        ending=ending,
        status=status,
        detail=f"more than {MAX_OUTPUT >> 20} MiB of output" if flooded else exit_detail(exit),
        console=vm.console.text(MAX_OUTPUT),
        calls=call_lines(log.records, vm.el2),
        verdicts=verdicts,
        total_calls=log.total,
        cycles=stats.cycles,
        instructions=stats.instructions,
        seconds=time.perf_counter() - started,
    )


def run_to_first_call(vm: Vm, seconds: float, cycles: int | None) -> bool:
    """Stop with PC on the guest's first HVC or SMC; False where it ends or is stopped before."""
    ends = time.monotonic() + seconds
    vm.traps.stops_before_call = True
    while vm.traps.stops_before_call:
        left = STRETCH if cycles is None else min(STRETCH, cycles - vm.clock.cycles)
        if left <= 0 or time.monotonic() >= ends:
            break
        if not isinstance(vm.run(left), exits.Deadline):
            break
    stopped, vm.traps.stops_before_call = not vm.traps.stops_before_call, False
    return stopped


def _never() -> bool:
    return False


def run_within(
    vm: Vm, seconds: float, cycles: int | None, enough: Callable[[], bool] = _never
) -> tuple[exits.Exit, bool]:
    """Run to an end or a limit; the exit, and whether it was stopped for printing too much.

    A call that is forwarded to nobody is answered NOT_SUPPORTED. `enough` ends the run as the
    limits do. It is asked where output is measured, every `STRETCH` cycles, so that the answer is
    the same on every host when it depends on the guest alone; the host's clock is looked at more
    often where the guest is slow.
    """
    ends = time.monotonic() + seconds
    piece, next_look = FIRST_PIECE, vm.clock.cycles + STRETCH
    while True:
        until = next_look if cycles is None else min(next_look, cycles)
        started = time.monotonic()
        exit = vm.run(max(min(piece, until - vm.clock.cycles), 0))
        if isinstance(exit, exits.Hypercall):
            exit.ret = Ret.not_supported()
        elif not isinstance(exit, exits.Deadline):
            return exit, False
        if cycles is not None and vm.clock.cycles >= cycles:
            return exit, False
        if vm.clock.cycles >= next_look:
            next_look = vm.clock.cycles + STRETCH
            if vm.console.printed > MAX_OUTPUT:
                return exit, True
            if enough():
                return exit, False
        now = time.monotonic()
        if now >= ends:
            return exit, False
        if now - started > SLOW:
            piece = max(piece // 2, 1)
        elif now - started < SLOW / 4:
            piece = min(piece * 2, STRETCH)
