"""The devices around the vCPUs, and how their interrupts reach them.

A device is made and mapped when the guest first reaches for it, so that a guest of ten
instructions does not pay for an interrupt controller. Where each belongs is bus.py's.

Time is the machine's: a timer or an alarm that is due is told to the interrupt controller between
two runs, `next_event` says when that will be, and `alarm` of a vCPU keeps when its own timer goes
off while it does not run. A timer's line is a level: what the guest has since taken back is found
by looking (`sync`) before the interrupt controller is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emu.arch import PSTATE_F, PSTATE_I, SysReg
from emu.bus import GIC_DISTRIBUTOR, GIC_REDISTRIBUTOR, PL011, Place
from emu.console import Console
from emu.devices.pl011 import Pl011
from emu.engine import Engine
from emu.hooks import is_gic
from emu.machine import Machine, Vcpu
from emu.timers import PHYSICAL, PPI, VIRTUAL

UART_INTID = 33
"""SPI 1 (qemu v7.2 hw/arm/virt.c: a15irqmap[VIRT_UART])."""


class Board:
    """The devices of one machine. `devices` are those there are so far."""

    def __init__(self, engine: Engine, machine: Machine, console: Console) -> None:
        self._engine, self._machine = engine, machine
        self.console = console
        self.devices: dict[str, Any] = {}
        self.current = 0
        """Index of the vCPU that has the engine."""
        self.gic: Any = None

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

    def _map(self, place: Place, device: Any) -> None:
        self._engine.map_device(place.base, place.size, device)

    def _make_pl011(self) -> None:
        self.devices["pl011"] = uart = Pl011(self.console)
        self._map(PL011, uart)

    def _make_gic(self) -> None:
        from emu.devices.gicv3 import GicV3

        self.gic = self.devices["gic"] = gic = GicV3(self._machine.mpidrs(), self._changed)
        self._map(GIC_DISTRIBUTOR, gic.distributor)
        frames = GIC_REDISTRIBUTOR._replace(size=0x2_0000 * len(self._machine.vcpus))
        self._map(frames, gic.redistributors)
        for vcpu in self._machine.vcpus:
            self.sync(vcpu)

    # -- interrupts -----------------------------------------------------------------------------

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """An access of the running vCPU (engine.py:Traps)."""
        if not is_gic(reg):
            return None
        if self.gic is None:
            self.make("gic")
        self.sync(self._machine.vcpus[self.current])
        if not is_write:
            answer: int | None = self.gic.read_register(self.current, reg)
            return answer
        return 0 if self.gic.write_register(self.current, reg, value) else None

    def pending(self, vcpu: Vcpu) -> int:
        """PSTATE.I and PSTATE.F of the interrupts signalled to a vCPU."""
        gic = self.gic
        if gic is None:
            return 0
        irq, fiq = gic.asserted >> vcpu.index & 1, gic.asserted_fiq >> vcpu.index & 1
        return (PSTATE_I if irq else 0) | (PSTATE_F if fiq else 0)

    def _changed(self) -> None:
        """The interrupt controller signals something else: the scheduler looks again."""
        vcpus = self._machine.vcpus
        self._engine.hooks.interrupts = self.pending(vcpus[self.current])
        if self._engine.running and self._sleepers():
            self._engine.stop()

    def _sleepers(self) -> list[Vcpu]:
        """The vCPUs that wait and have an interrupt to wake for."""
        signalled = self.gic.asserted | self.gic.asserted_fiq
        if not signalled:
            return []
        return [v for v in self._machine.vcpus if v.waiting and signalled >> v.index & 1]

    def wake(self) -> None:
        """WFI ends with an interrupt, masked or not (DDI 0487, WFI wake-up events)."""
        if self.gic is None:
            return
        for vcpu in self._sleepers():
            vcpu.waiting = False
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
        vcpu.alarm = vcpu.timers.expiry(self._machine.clock.cycles)

    def advance(self) -> None:
        """Tell the interrupt controller what has become due."""
        now = self._machine.clock.cycles
        vcpus = self._machine.vcpus
        running = vcpus[self.current]
        if any(running.timers.ctl):
            running.alarm = running.timers.expiry(now)
        for vcpu in vcpus:
            if vcpu.alarm <= now:
                self.sync(vcpu)

    def next_event(self) -> int:
        """The cycle at which something is due next for a vCPU that does not run; NEVER."""
        return min(v.alarm for v in self._machine.vcpus)


def _among(address: int, places: tuple[Place, ...]) -> bool:
    return any(address in place for place in places)


_PLACES: dict[str, tuple[Place, ...]] = {
    "pl011": (PL011,),
    "gic": (GIC_DISTRIBUTOR, GIC_REDISTRIBUTOR),
}
_MAKERS: dict[str, Callable[[Board], None]] = {
    "pl011": Board._make_pl011,
    "gic": Board._make_gic,
}
DEVICES = tuple(_MAKERS)
"""The names of all devices there can be."""
