"""Where a machine's cycles went: by vCPU, function, exception, trap and block.

Read off the engine when a run is over (counter.py, tracks.py) and off the tolls of traps
(tolls.py). Nothing is lost between them: the vCPUs' time and the idle time are the clock's, a
vCPU's frames add up to it, and so do the blocks and the traps. Numbers are sixteenths of a cycle.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from emu.arm.arch import EC_NAMES, INSN_SIZE
from emu.base.smccc import MASK32
from emu.cycles.block_costs import Charge
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import OTHER_KEY, SMC_KEY, Event
from emu.cycles.tracks import FIQ, IRQ, SERROR, Frame, Kind
from emu.machine.vm import Vm
from emu.world.describe import subject

INTERRUPTS = {IRQ: "IRQ", FIQ: "FIQ", SERROR: "SError"}
EVENTS = {
    Event.INTERRUPT: "interrupt delivered", Event.IPI: "interrupt sent to a vCPU",
    Event.WAKE: "wake-up from WFI", Event.CPU_ON: "vCPU switched on",
    Event.MMIO: "device access, to the VMM", Event.GIC: "interrupt controller access",
}  # fmt: skip
NAMELESS = "(no symbol)"


class Use(NamedTuple):
    """How many times, and what it took; `within` counts what it called as well."""

    name: str
    times: int
    own: int
    within: int
    instructions: int


class HotBlock(NamedTuple):
    """A block where it lies, and what it has cost."""

    address: int
    charge: Charge
    runs: int
    spent: int
    instructions: int


class Ledger:
    """What one machine has spent so far."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self.frames: list[Frame] = [Frame(*frame) for frame in vm.engine.hooks.frames()]
        self.within = with_below(self.frames, (f.sixteenths for f in self.frames))
        """Of each frame, its sixteenths and those of all below it."""
        self.instructions = with_below(self.frames, (f.instructions for f in self.frames))
        """The same of instructions."""
        self.others = tuple(vm.tolls.others) if vm.tolls else ()
        """Functions by other ABIs than SMCCC, as the keys of their frames count them."""
        self.total = vm.clock.cycles * SIXTEENTHS + vm.engine.hooks.fraction

    @functools.cached_property
    def blocks(self) -> list[HotBlock]:
        """Every block that ran, the dearest first."""
        charges = self._vm.engine.block_costs
        assert charges is not None
        found = []
        for address, at, runs, refunded, less, added in self._vm.engine.hooks.lines():
            charge = charges.at(at)
            spent, words = charge.total * runs - refunded + added, len(charge.code) // INSN_SIZE
            found.append(HotBlock(address, charge, runs, spent, words * runs - less))
        return sorted(found, key=lambda block: (-block.spent, block.address, block.charge.code))

    @property
    def unknown(self) -> int:
        """How often a word came that no table knows; most of those are UNDEFINED."""
        return sum(block.charge.cost.unknown * block.runs for block in self.blocks)

    def function_at(self, address: int) -> str:
        """The function an address lies in."""
        name = self._vm.image.symbols.name(address)
        return name.partition("+")[0] if name else NAMELESS

    def name(self, frame: Frame) -> str:
        """What a frame is called in reports."""
        match frame.kind:
            case Kind.VCPU:
                return f"vCPU {frame.key}"
            case Kind.FUNCTION:
                name = self.function_at(frame.key)
                return f"{frame.key:#x}" if name is NAMELESS else name
            case Kind.EXCEPTION:
                return f"<{exception_name(frame.key)}>"
        return f"[{trap_name(frame.key, self.others)}]"

    def vcpus(self) -> Iterator[Use]:
        """Each vCPU that ran."""
        for n, frame in enumerate(self.frames):
            if frame.kind == Kind.VCPU and self.within[n]:
                time = self.within[n]
                yield Use(self.name(frame), 1, time, time, self.instructions[n])

    @property
    def idle(self) -> int:
        """Time in which no vCPU ran."""
        return self.total - sum(vcpu.within for vcpu in self.vcpus())

    def functions(self) -> list[Use]:
        """Every function whose code ran, the dearest first; calls and `within` by the tree."""
        own: dict[str, tuple[int, int]] = {}
        for block in self.blocks:
            name = self.function_at(block.address)
            spent, count = own.get(name, (0, 0))
            own[name] = spent + block.spent, count + block.instructions
        calls, within = self._by_name(Kind.FUNCTION)
        uses = [
            Use(name, calls.get(name, 0), spent, max(within.get(name, 0), spent), count)
            for name, (spent, count) in own.items()
        ]
        return sorted(uses, key=lambda use: (-use.own, use.name))

    def exceptions(self) -> list[Use]:
        """What was taken at EL1, the dearest first."""
        return self._uses(Kind.EXCEPTION)

    def events(self) -> list[Use]:
        """What else cost time above EL1, the dearest first."""
        uses = self._uses(Kind.TRAP)
        names = {f"[{name}]" for name in EVENTS.values()}
        return [use._replace(name=use.name.strip("[]")) for use in uses if use.name in names]

    def _uses(self, kind: Kind) -> list[Use]:
        calls, within = self._by_name(kind)
        own: dict[str, int] = dict.fromkeys(calls, 0)
        for frame in self.frames:
            if frame.kind == kind:
                own[self.name(frame)] += frame.sixteenths
        uses = [Use(name, calls[name], own[name], within[name], 0) for name in calls]
        return sorted(uses, key=lambda use: (-use.within, use.name))

    def _by_name(self, kind: Kind) -> tuple[dict[str, int], dict[str, int]]:
        """Calls, and time with all below, of each name; a frame inside its like counts once."""
        calls: dict[str, int] = {}
        within: dict[str, int] = {}
        inside: list[frozenset[str]] = []
        for n, frame in enumerate(self.frames):
            above = inside[frame.parent] if frame.parent != n else frozenset()
            name = self.name(frame) if frame.kind == kind else ""
            inside.append(above | {name} if name else above)
            if name:
                calls[name] = calls.get(name, 0) + frame.calls
                fresh = 0 if name in above else self.within[n]
                within[name] = within.get(name, 0) + fresh
        return calls, within


def with_below(frames: list[Frame], own: Iterable[int]) -> list[int]:
    """Of each frame, its own and that of all below it."""
    within = list(own)
    for n in range(len(frames) - 1, -1, -1):
        if frames[n].parent != n:
            within[frames[n].parent] += within[n]
    return within


def exception_name(key: int) -> str:
    """An exception by its key in the tree."""
    return INTERRUPTS.get(key) or EC_NAMES.get(key, f"class {key:#x}")


def trap_name(key: int, others: Sequence[int] = ()) -> str:
    """A trap by its key: a call by its function, or an event; `others` as in tolls.py."""
    by = "smc" if key & SMC_KEY else "hvc"
    if key & OTHER_KEY:
        number = key & MASK32
        return f"{by} {subject(others[number]).name if number < len(others) else 'others'}"
    return EVENTS[Event(key)] if key >= Event.INTERRUPT else f"{by} {subject(key & MASK32).name}"
