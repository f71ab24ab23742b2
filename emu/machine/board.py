"""The devices around the vCPUs, and how their interrupts reach them.

A device is made and mapped when the guest first reaches for it, so that a guest of ten
instructions does not pay for an interrupt controller. Where each belongs is bus.py's.

Time is the machine's: a timer or an alarm that is due is told to the interrupt controller between
two runs, `next_event` says when that will be, and `alarm` of a vCPU keeps when its own timer goes
off while it does not run. A timer's line is a level: what the guest has since taken back is found
by looking (`sync`) before the interrupt controller is asked.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from emu.arm import pmu
from emu.arm.arch import PSTATE_F, PSTATE_I, BlockEnd, SysReg, current_el
from emu.arm.identification import MIDR_EL1, REGISTERS, coherent
from emu.arm.timers import NEVER, PHYSICAL, PPI, VIRTUAL
from emu.base.bus import (
    FLASH,
    GIC_CPU_INTERFACE,
    GIC_DISTRIBUTOR,
    GIC_REDISTRIBUTOR,
    PL011,
    PL031,
    PL061,
    VIRTIO_MMIO,
    Line,
    Place,
)
from emu.base.console import Console
from emu.cycles.caches import Caches
from emu.cycles.tolls import Event, Tolls
from emu.engine.cpu import CORES
from emu.engine.engine import Engine
from emu.engine.registers import is_gic, is_monitor
from emu.machine.devices.pl011 import Pl011
from emu.machine.vcpus import Machine, Vcpu
from emu.world.service import MpState

UART, RTC, GPIO = 33, 34, 39
"""INTIDs: SPI 1, 2 and 7 (qemu v7.2 hw/arm/virt.c: a15irqmap)."""
FIRST_SPI = 32
"""IHI 0069: INTIDs below it are each vCPU's own."""
MONITOR_LINE = 4
"""Of a vCPU's `lines`, beside those of the two timers."""
GIC_VERSIONS = (2, 3)
GICV2_CPUS = 8
"""As many as a GICv2 has room for (IHI 0048, GICD_TYPER.CPUNumber)."""


class Board:
    """The devices of one machine. `devices` are those there are so far."""

    def __init__(
        self,
        engine: Engine,
        machine: Machine,
        console: Console,
        gic_version: int = 3,
        tolls: Tolls | None = None,
    ) -> None:
        self._engine, self._machine = engine, machine
        self.console = console
        self.gic_version = gic_version
        self.devices: dict[str, Any] = {}
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
        name = next((name for name, places in _PLACES.items() if _among(address, places)), None)
        if name is None or name in self.devices:
            return False
        self.make(name)
        return True

    def make(self, name: str) -> None:
        """One of the devices there can be, in its reset state."""
        _MAKERS[name](self)

    def states(self) -> dict[str, Any]:
        """What each device is in, for who saves the machine."""
        return {
            name: device.saved() if name == "flash" else device.state
            for name, device in self.devices.items()
        }

    def restore(self, states: dict[str, Any]) -> None:
        """Bring every device to a state; those not named are reset."""
        for name in states.keys() - self.devices.keys():
            self.make(name)
        # The interrupt controller last: it knows the lines as they were.
        for name, device in sorted(self.devices.items(), key=lambda item: item[0] == "gic"):
            device.restore(states.get(name))
        for vcpu in self._machine.vcpus:
            self.leave(vcpu)
        self._engine.hooks.interrupts = self.pending(self.running)

    def charge(self, event: Event) -> None:
        """Something happens that costs time above EL1."""
        if self.tolls:
            self.tolls.event(event)

    def _map(self, place: Place, device: Any, event: Event | None = Event.MMIO) -> None:
        """Map a device; an access is such an event, or none where the hardware answers."""
        tolls = self.tolls
        price = tolls.price(event) if event and tolls and tolls.costs.virtual else None
        self._engine.map_device(place.base, place.size, device, price)

    def _line(self, intid: int) -> Line:
        """An interrupt line; the controller is made with the first that goes high."""

        board = weakref.ref(self)  # no reference cycle: a machine is freed with its last reference

        def line(level: bool) -> None:
            if found := board():
                found.set_level(intid, level)

        return line

    def set_level(self, intid: int, level: bool) -> None:
        """Drive the line of an SPI."""
        if self.gic is None and level:
            self.make("gic")
        if self.gic is not None:
            self.gic.set_level(intid, level)

    def _driver(self) -> Callable[[int, int, bool], None]:
        """Drives the line of a PPI of a vCPU or of an SPI, for services."""
        board = weakref.ref(self)

        def drive(vcpu: int, intid: int, level: bool) -> None:
            found = board()
            assert found is not None
            if found.gic is None:
                found.make("gic")
            found.gic.set_level(intid, level, vcpu if intid < FIRST_SPI else 0)

        return drive

    def _make_pl011(self) -> None:
        self.devices["pl011"] = uart = Pl011(self.console, self._line(UART))
        self._map(PL011, uart)

    def _make_pl031(self) -> None:
        from emu.machine.devices.pl031 import Pl031

        self.devices["pl031"] = clock = Pl031(self._machine.clock, self._line(RTC))
        self._map(PL031, clock)

    def _make_pl061(self) -> None:
        from emu.machine.devices.pl061 import Pl061

        self.devices["pl061"] = gpio = Pl061(self._machine.clock, self._line(GPIO))
        self._map(PL061, gpio)

    def _make_flash(self) -> None:
        """The second bank, for the firmware's variables; the first is plain memory (vm.py)."""
        from emu.machine.devices.cfi_flash import CfiFlash

        self.devices["flash"] = flash = CfiFlash()
        self._map(FLASH[1], flash)

    def _make_virtio(self) -> None:
        from emu.machine.devices.virtio_mmio import VirtioSlots

        self.devices["virtio"] = slots = VirtioSlots()
        self._map(VIRTIO_MMIO, slots)

    def _make_gic(self) -> None:
        if self.gic_version == 2:
            self._make_gicv2()
        else:
            self._make_gicv3()
        for vcpu in self._machine.vcpus:
            self.sync(vcpu)

    def _make_gicv3(self) -> None:
        from emu.machine.devices.gicv3 import GicV3

        self.gic = self.devices["gic"] = gic = GicV3(self._machine.mpidrs(), self._listener())
        self._map(GIC_DISTRIBUTOR, gic.distributor, Event.GIC)
        frames = GIC_REDISTRIBUTOR._replace(size=0x2_0000 * len(self._machine.vcpus))
        self._map(frames, gic.redistributors, Event.GIC)

    def _make_gicv2(self) -> None:
        from emu.machine.devices.gicv2 import GICD_SGIR, GicV2

        self.gic = self.devices["gic"] = gic = GicV2(len(self._machine.vcpus), self._listener())
        gic.current = self.current
        self._map(GIC_DISTRIBUTOR, _Sending(self, gic.distributor, GICD_SGIR), Event.GIC)
        self._map(GIC_CPU_INTERFACE, _Synchronised(self, gic.cpu_interface), None)

    def make_console(self) -> None:
        """The UART a boot loader would have used: it is there from the start."""
        self.make("pl011")

    def listens(self) -> bool:
        """Whether an interrupt could wake the machine, such as the console's."""
        return self.gic is not None

    def poll_input(self, *, idle: bool = False) -> None:
        """Look whether console input has come; between two runs."""
        if uart := self.devices.get("pl011"):
            uart.poll(idle=idle)

    def press_power_key(self) -> None:
        """Ask the guest to switch off, as the key of a machine does."""
        if "pl061" not in self.devices:
            self.make("pl061")
        self.devices["pl061"].press_power_key()

    # -- interrupts -----------------------------------------------------------------------------

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """An access of the running vCPU (engine.py:Traps)."""
        if is_monitor(reg):
            return self._monitor(reg, is_write, value)
        if not is_gic(reg) or self.gic_version != 3:
            return None
        if self.gic is None:
            self.make("gic")
        self.sync(self.running)
        if not is_write:
            answer: int | None = self.gic.read_register(self.current, reg)
            return answer
        return 0 if self.gic.write_register(self.current, reg, value) else None

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
            if self.gic is None:
                self.make("gic")
            vcpu.lines ^= MONITOR_LINE
            self.gic.set_level(pmu.PPI, level, vcpu.index)

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

    def _listener(self) -> Callable[[], None]:
        changed = weakref.WeakMethod(self._changed)

        def listen() -> None:
            if method := changed():
                method()

        return listen

    def _changed(self) -> None:
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
        """A vCPU stops running: keep when its timer goes off."""
        if vcpu.index == self.current:
            self._count_events()
        vcpu.alarm = vcpu.timers.expiry(self._machine.clock.cycles)

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
        for device in self._timed():
            if device.next_event() <= now:
                device.advance()
        if self.next_overflow() <= now:
            self._count_events()
            self._drive_monitor(running)

    def next_event(self) -> int:
        """The cycle at which something is due next, the running vCPU's timers apart; NEVER."""
        dues = [self.next_overflow(), *(vcpu.alarm for vcpu in self._machine.vcpus)]
        return min(dues + [device.next_event() for device in self._timed()], default=NEVER)

    def _timed(self) -> list[Any]:
        """The devices in which something will become due."""
        found = [self.devices[name] for name in _TIMED if name in self.devices]
        return [device for device in found if device.next_event() is not None]

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
        if self.gic is not None and self.gic_version == 2:
            self.gic.current = vcpu.index

    def _events(self, vcpu: Vcpu) -> frozenset[int]:
        """What a vCPU's monitor counts."""
        found = pmu.ACCOUNTED if self._engine.block_costs else pmu.ALWAYS
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


class _Sending:
    """The distributor of a GICv2: a write to GICD_SGIR, `place`, sends an interrupt to a vCPU."""

    def __init__(self, board: Board, device: Any, place: int) -> None:
        self._board, self._device, self._place = weakref.ref(board), device, place

    def read(self, offset: int, width: int) -> int:
        return int(self._device.read(offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == self._place and (board := self._board()):
            board.charge(Event.IPI)
        self._device.write(offset, width, value)


class _Synchronised:
    """The CPU interface of a GICv2: it sees the timers' lines as they are now."""

    def __init__(self, board: Board, device: Any) -> None:
        self._board, self._device = weakref.ref(board), device

    def read(self, offset: int, width: int) -> int:
        self._sync()
        return int(self._device.read(offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        self._sync()
        self._device.write(offset, width, value)

    def _sync(self) -> None:
        if board := self._board():
            board.sync(board.running)


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


def _among(address: int, places: tuple[Place, ...]) -> bool:
    return any(address in place for place in places)


_PLACES: dict[str, tuple[Place, ...]] = {
    "pl011": (PL011,),
    "pl031": (PL031,),
    "pl061": (PL061,),
    "flash": (FLASH[1],),
    "virtio": (VIRTIO_MMIO,),
    "gic": (GIC_DISTRIBUTOR, GIC_REDISTRIBUTOR, GIC_CPU_INTERFACE),
}
_MAKERS: dict[str, Callable[[Board], None]] = {
    "pl011": Board._make_pl011,
    "pl031": Board._make_pl031,
    "pl061": Board._make_pl061,
    "flash": Board._make_flash,
    "virtio": Board._make_virtio,
    "gic": Board._make_gic,
}
DEVICES = tuple(_MAKERS)
"""The names of all devices there can be."""
_TIMED = ("pl031", "pl061")
"""Those in which something becomes due by itself."""
