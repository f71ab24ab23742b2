"""The devices around the vCPUs, and how their interrupts reach them.

A device is made and mapped when the guest first reaches for it, so that a guest of ten
instructions does not pay for an interrupt controller. Which there are, where each belongs and how
it is made they say themselves (device.py); of the interrupt controller the board asks more.

Time is the machine's: a timer or an alarm that is due is told to the interrupt controller between
two runs, `next_event` says when that will be, and `alarm` of a vCPU keeps when its own timer goes
off while it does not run. A timer's line is a level: what the guest has since taken back is found
by looking (`sync`) before the interrupt controller is asked.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from emu.arm import pmu
from emu.arm.arch import PSTATE_F, PSTATE_I, BlockEnd, SysReg, current_el
from emu.arm.cores import CORES
from emu.arm.identification import MIDR_EL1, REGISTERS, coherent
from emu.arm.timers import NEVER, PHYSICAL, PPI, VIRTUAL
from emu.base.bus import FIRST_SPI, Line
from emu.base.clock import Clock
from emu.base.console import Console
from emu.cycles.caches import Caches
from emu.cycles.tolls import Event, Tolls
from emu.engine.engine import Engine
from emu.engine.registers import ISR_EL1, is_gic, is_monitor
from emu.machine.device import BoardDevice, Front
from emu.machine.devices import with_own
from emu.machine.vcpus import Machine, Vcpu
from emu.world.service import MpState

MONITOR_LINE = 4
"""Of a vCPU's `lines`, beside those of the two timers."""


class Board:
    """The devices of one machine. `kinds` are all there can be, `devices` those made so far."""

    def __init__(
        self,
        engine: Engine,
        machine: Machine,
        console: Console,
        gic_version: int = 3,
        tolls: Tolls | None = None,
        own: tuple[type[BoardDevice], ...] = (),
    ) -> None:
        self._engine, self._machine = engine, machine
        self.console = console
        self.gic_version = gic_version
        self.kinds = with_own(own)
        self.devices: dict[str, BoardDevice] = {}
        self._timed: list[BoardDevice] = []
        """Those in which something may become due by itself."""
        self.tolls = tolls
        self._counted = 0, 0
        """Cycles and instructions up to which the running vCPU's monitor has counted."""
        self._ends: tuple[int, ...] = ()
        """Exceptions and ends of blocks likewise, while it counts any."""
        self.current = 0
        """Index of the vCPU that has the engine."""
        self.gic: Any = None
        machine.drive = self._driver()

    @property
    def running(self) -> Vcpu:
        """The vCPU that has the engine."""
        return self._machine.vcpus[self.current]

    @property
    def clock(self) -> Clock:
        """The machine's."""
        return self._machine.clock

    @property
    def mpidrs(self) -> Sequence[int]:
        """MPIDR_EL1 of each vCPU."""
        return self._machine.mpidrs()

    def identify(self) -> None:
        """Let the guest read identification registers that agree with this machine."""
        engine = self._engine
        own = {reg: engine.cpu.get_system(reg) for reg in REGISTERS}
        midr = CORES[engine.core].midr
        for reg, value in coherent(
            own, gic_registers=self.gic_version == 3, armv8_2=bool(midr)
        ):
            engine.hooks.identify(reg.crm, reg.op2, value)
        if midr:
            engine.hooks.identify(MIDR_EL1.crm, MIDR_EL1.op2, midr)

    # -- devices ------------------------------------------------------------------------------

    def attach(self, address: int) -> bool:
        """Make and map the device at this address; False when there is none, or it is there."""
        found = next((k for k in self.kinds if any(address in place for place in k.places)), None)
        if found is None or found.name in self.devices:
            return False
        self._make(found)
        return True

    def device(self, name: str) -> BoardDevice:
        """One of the devices there can be; made, in its reset state, where it is not there yet."""
        if name not in self.devices:
            self._make(next(kind for kind in self.kinds if kind.name == name))
        return self.devices[name]

    def _make(self, kind: type[BoardDevice]) -> None:
        device = self.devices[kind.name] = kind.plug(_Socket(self))
        if kind.next_event is not BoardDevice.next_event:
            self._timed.append(device)
        for front in device.fronts():
            self._map(front)
        if kind.interrupts:
            self.gic = device.controller  # type: ignore[attr-defined]
            self._tell_current()
            for vcpu in self._machine.vcpus:
                self.sync(vcpu)

    def _controller(self) -> Any:
        """The interrupt controller, made where it is not there yet."""
        if self.gic is None:
            self.device(next(kind.name for kind in self.kinds if kind.interrupts))
        return self.gic

    def _tell_current(self) -> None:
        """A GICv2 asks who makes an access: its CPU interfaces lie at one address."""
        if self.gic_version == 2:
            self.gic.current = self.current

    def states(self) -> dict[str, Any]:
        """What each device is in, for who saves the machine."""
        return {name: device.saved() for name, device in self.devices.items()}

    def restore(self, states: dict[str, Any]) -> None:
        """Bring every device to a state; those not named are reset."""
        for name in states.keys() - self.devices.keys():
            self.device(name)
        # The interrupt controller last: it knows the lines as they were.
        for name, device in sorted(self.devices.items(), key=lambda item: item[1].interrupts):
            device.restore(states.get(name))
        for vcpu in self._machine.vcpus:
            self.leave(vcpu)
        self._engine.hooks.interrupts = self.pending(self.running)

    def charge(self, event: Event) -> None:
        """Something happens that costs time above EL1."""
        if self.tolls:
            self.tolls.event(event)

    def _map(self, front: Front) -> None:
        tolls, event = self.tolls, front.event
        price = tolls.price(event) if event and tolls and tolls.costs.virtual else None
        self._engine.map_device(front.place.base, front.place.size, front.registers, price)

    def set_level(self, intid: int, level: bool, vcpu: int = 0) -> None:
        """Drive the line of an SPI, or of a vCPU's PPI; the first that goes high makes the GIC."""
        if level or self.gic is not None:
            self._controller().set_level(intid, level, vcpu if intid < FIRST_SPI else 0)

    def _driver(self) -> Callable[[int, int, bool], None]:
        """Drives lines for services. Not a method: it would make a reference cycle."""
        board = weakref.ref(self)

        def drive(vcpu: int, intid: int, level: bool) -> None:
            if found := board():
                found.set_level(intid, level, vcpu)

        return drive

    def make_console(self) -> None:
        """What a boot loader would have printed to is there from the start."""
        for kind in self.kinds:
            if kind.console_path:
                self.device(kind.name)

    def listens(self) -> bool:
        """Whether an interrupt could wake the machine, such as the console's."""
        return self.gic is not None

    def poll_input(self, *, idle: bool = False) -> None:
        """Let devices look whether input has come; between two runs."""
        for device in self.devices.values():
            device.poll(idle=idle)

    # -- interrupts -----------------------------------------------------------------------------

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """An access of the running vCPU (engine.py:Traps)."""
        if is_monitor(reg):
            return self._monitor(reg, is_write, value)
        if reg == ISR_EL1:
            self.sync(self.running)
            return self.pending(self.running)  # I and F stand where PSTATE has them
        if not is_gic(reg) or self.gic_version != 3:
            return None
        gic = self._controller()
        self.sync(self.running)
        if not is_write:
            answer: int | None = gic.read_register(self.current, reg)
            return answer
        return 0 if gic.write_register(self.current, reg, value) else None

    def _monitor(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """An access to the performance monitor; what EL0 may not do is left to Unicorn's trap."""
        monitor, engine = self.running.pmu, self._engine
        if not current_el(engine.get("PSTATE")) and not monitor.may(reg):
            return None
        self._count_events(inside=True)
        if not is_write:
            return monitor.read(reg)
        if not monitor.write(reg, value):
            return None
        if monitor.needs_ends and not self._ends:
            self._ends = self._tallies(engine.get("PC"))
        self._drive_monitor(self.running)
        engine.hooks.deadline = min(engine.hooks.deadline, self.next_overflow())
        return 0

    def _count_events(self, *, inside: bool = False) -> None:
        """Bring the running vCPU's counters up to now; `inside` a block, to the access there."""
        hooks, monitor = self._engine.hooks, self.running.pmu
        now = hooks.cycles, hooks.instructions
        if inside:
            now = hooks.exact, hooks.exact_instructions
        before, self._counted = self._counted, now
        others = {}
        if monitor.needs_ends:
            ends = self._tallies(self._engine.get("PC") if inside else NEVER)
            others = events(*(n - m for n, m in zip(ends, self._ends or ends, strict=True)))
            self._ends = ends
        else:
            self._ends = ()
        monitor.count(now[0] - before[0], now[1] - before[1], others)

    def _drive_monitor(self, vcpu: Vcpu) -> None:
        level = vcpu.pmu.level()
        if level != bool(vcpu.lines & MONITOR_LINE):
            vcpu.lines ^= MONITOR_LINE
            self._controller().set_level(pmu.PPI, level, vcpu.index)

    def next_overflow(self) -> int:
        """The cycle at which the running vCPU's monitor interrupts at the earliest; NEVER."""
        left = self.running.pmu.next_overflow(self._engine.width)
        return NEVER if left is None else self._counted[0] + left

    def jump(self, cycles: int) -> None:
        """Let time pass in which nobody runs, and nothing counts."""
        self._count_events()
        self._machine.clock.jump(cycles)
        self._counted = self._engine.cycles, self._engine.instructions

    def pending(self, vcpu: Vcpu) -> int:
        """PSTATE.I and PSTATE.F of the interrupts signalled to a vCPU."""
        gic = self.gic
        if gic is None:
            return 0
        irq, fiq = gic.asserted >> vcpu.index & 1, gic.asserted_fiq >> vcpu.index & 1
        return (PSTATE_I if irq else 0) | (PSTATE_F if fiq else 0)

    def signalled(self) -> None:
        """The interrupt controller signals something else: the scheduler looks again."""
        self._engine.hooks.interrupts = self.pending(self.running)
        if self._engine.running and self._sleepers():
            self._engine.stop()

    def _sleepers(self) -> list[Vcpu]:
        """The vCPUs that wait and have an interrupt to wake for."""
        signalled = self.gic.asserted | self.gic.asserted_fiq
        return [v for v in self._machine.vcpus if self._may_wake(v, signalled)]

    def _may_wake(self, vcpu: Vcpu, signalled: int) -> bool:
        if vcpu.state is MpState.SUSPENDED:
            return bool(self.gic.wakes(vcpu.index))
        return vcpu.waiting and bool(signalled >> vcpu.index & 1)

    def wake(self) -> None:
        """WFI ends with an interrupt, masked or not (DDI 0487, WFI wake-up events)."""
        if self.gic is None:
            return
        for vcpu in self._sleepers():
            self.charge(Event.WAKE)
            vcpu.waiting = False
            if vcpu.state is MpState.SUSPENDED:
                vcpu.state = MpState.RUNNABLE
            if vcpu.index != self.current:
                vcpu.ready_since = self._machine.clock.cycles

    # -- time -----------------------------------------------------------------------------------

    def sync(self, vcpu: Vcpu) -> None:
        """Tell the interrupt controller the level of a vCPU's timers as it is now."""
        timers, now = vcpu.timers, self._machine.clock.cycles
        for timer in (PHYSICAL, VIRTUAL):
            level = timers.level(timer, now)
            if level != bool(vcpu.lines >> timer & 1) and self.gic is not None:
                vcpu.lines ^= 1 << timer
                self.gic.set_level(PPI[timer], level, vcpu.index)
            timers.known = timers.known & ~(1 << timer) | level << timer
        if vcpu.index == self.current:
            self._engine.use_timers(timers)
        vcpu.alarm = timers.expiry(now)

    def leave(self, vcpu: Vcpu) -> None:
        """A vCPU stops running: keep its lines, and when its timer goes off."""
        if vcpu.index == self.current:
            self._count_events()
        self.sync(vcpu)

    def advance(self) -> None:
        """Tell the interrupt controller what has become due."""
        now = self._machine.clock.cycles
        vcpus = self._machine.vcpus
        running = self.running
        if any(running.timers.ctl):
            running.alarm = running.timers.expiry(now)
        for vcpu in vcpus:
            if vcpu.alarm <= now:
                self.sync(vcpu)
        for device in self._timed:
            if (due := device.next_event()) is not None and due <= now:
                device.advance()
        if self.next_overflow() <= now:
            self._count_events()
            self._drive_monitor(running)

    def next_event(self) -> int:
        """The cycle at which something is due next, the running vCPU's timers apart; NEVER."""
        due = min([self.next_overflow(), *(vcpu.alarm for vcpu in self._machine.vcpus)])
        for device in self._timed:
            its = device.next_event()
            if its is not None and its < due:
                due = its
        return due

    def switch_to(self, vcpu: Vcpu) -> None:
        """A vCPU has got the engine."""
        self.current = vcpu.index
        self._counted = self._engine.cycles, self._engine.instructions
        self._ends = ()
        vcpu.pmu.events = self._events(vcpu)
        self._engine.use_timers(vcpu.timers)
        self._engine.hooks.run_vcpu(vcpu.index)
        if vcpu.predictor is not None:
            place = ctypes.addressof(vcpu.predictor)
            self._engine.hooks.predict(place, self._engine.misprediction)
        if vcpu.caches is not None:
            self._use_caches(vcpu.caches)
        if self.gic is not None:
            self._tell_current()

    def _events(self, vcpu: Vcpu) -> frozenset[int]:
        """What a vCPU's monitor counts."""
        found = pmu.ALWAYS if self._engine.block_costs is None else pmu.ACCOUNTED
        if vcpu.predictor is not None:
            found |= pmu.PREDICTED
        return found | pmu.CACHED if vcpu.caches is not None else found

    def _use_caches(self, caches: Caches) -> None:
        shape, last = self._machine.hierarchy, self._machine.last_level
        assert shape is not None
        assert last is not None
        self._engine.hooks.cache(*map(ctypes.addressof, (caches, shape, last)))

    def _tallies(self, pc: int) -> tuple[int, ...]:
        """What events are told from, so far, before the instruction at pc."""
        vcpu = self.running
        predictor, caches = vcpu.predictor, vcpu.caches
        branches = (0, 0) if predictor is None else (predictor.branches, predictor.misses)
        memory = (0,) * len(MEMORY_EVENTS)
        if caches is not None:
            memory = tuple(getattr(caches, name) for name in MEMORY_EVENTS.values())
        return (*branches, *memory, *self._engine.hooks.ends(pc))


class _Socket:
    """What a device is made of (device.py:Socket). It does not keep the board alive."""

    def __init__(self, board: Board) -> None:
        self._board = weakref.ref(board)
        self.clock, self.console = board.clock, board.console
        self.mpidrs, self.gic_version = board.mpidrs, board.gic_version

    def line(self, intid: int) -> Line:
        """The line of an SPI."""
        board = self._board

        def line(level: bool) -> None:
            if found := board():
                found.set_level(intid, level)

        return line

    def signalled(self) -> None:
        """The interrupt controller signals something else."""
        if board := self._board():
            board.signalled()

    def synchronise(self) -> None:
        """Bring the lines of the running vCPU's timers up to now."""
        if board := self._board():
            board.sync(board.running)

    def charge(self, event: Event) -> None:
        """Something has happened that costs time above EL1."""
        if board := self._board():
            board.charge(event)


def events(branches: int, misses: int, *others: int) -> dict[int, int]:
    """Events of the monitor from `Board._tallies` (DDI 0487, D8.11)."""
    memory = dict(zip(MEMORY_EVENTS, others, strict=False))
    return {
        pmu.BR_PRED: branches, pmu.BR_MIS_PRED: misses, pmu.BR_MIS_PRED_RETIRED: misses,
        pmu.MEM_ACCESS: memory[pmu.L1D_CACHE], **memory, **branch_events(*others[len(memory) :]),
    }  # fmt: skip


def branch_events(exceptions: int, *ends: int) -> dict[int, int]:
    """Those from exceptions taken and how blocks were left."""
    immediate = sum(ends[end] for end in (BlockEnd.JUMP, BlockEnd.CONDITIONAL, BlockEnd.CALL))
    returns = ends[BlockEnd.RETURN]
    branches = immediate + returns + ends[BlockEnd.CALL_INDIRECT] + ends[BlockEnd.JUMP_INDIRECT]
    return {
        pmu.EXC_TAKEN: exceptions, pmu.EXC_RETURN: ends[BlockEnd.EXCEPTION_RETURN],
        pmu.PC_WRITE_RETIRED: branches, pmu.BR_IMMED_RETIRED: immediate,
        pmu.BR_RETURN_RETIRED: returns, pmu.BR_RETIRED: branches,
    }  # fmt: skip


MEMORY_EVENTS = {
    pmu.L1D_CACHE: "accesses", pmu.L1D_CACHE_REFILL: "data_misses",
    pmu.L1I_CACHE_REFILL: "code_misses", pmu.L2D_CACHE_REFILL: "l2_misses",
}  # fmt: skip
"""What of caches.py:Caches they count."""
