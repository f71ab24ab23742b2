"""GICv2, the older interrupt controller of the virt machine (Arm IHI 0048, "GIC architecture v2").

A distributor and a CPU interface, both in memory and both banked: what a vCPU sees at an address
depends on which one looks, so `current` must name it. What is decided is emu/arm/arbiter.py.

It is what a guest of KVM sees: no Security Extensions, so both groups and their aliased registers
are there; every interrupt is in group 0 from reset; group 0 is signalled as IRQ until
GICC_CTLR.FIQEn is set. An SPI with several targets goes to the lowest-numbered of them (linux
v6.12 arch/arm64/kvm/vgic/vgic-mmio-v2.c:vgic_mmio_write_target); with none, to nobody, as the
architecture has it, except where there is one vCPU only. SGIs are always sent by somebody: each
remembers which vCPUs did, and is taken once for each of them, the lowest-numbered first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from emu.arm import arbiter
from emu.arm.arbiter import Arbiter, Controller, Pending, nothing
from emu.arm.gic_registers import (
    ICPENDR,
    ISPENDR,
    ITARGETSR,
    Words,
    bank_number,
    read_bank,
    write_bank,
)
from emu.arm.interrupts import BANK, LINES, SGIS, SPURIOUS, U8, Bank, Interface
from emu.base.errors import StateError

MAX_VCPUS = 8
"""As many as GICD_ITARGETSR<n> has bits for."""
OTHER_GROUP = 1022
"""The interrupt is of group 1 and needs GICC_CTLR.AckCtl or GICC_AIAR (IHI 0048, GICC_IAR)."""

# The distributor (IHI 0048, "Distributor register map"); what is not here is gic_registers'.
GICD_CTLR, GICD_TYPER, GICD_IIDR = 0x0, 0x4, 0x8
GICD_SGIR, GICD_CPENDSGIR, GICD_SPENDSGIR, ID_REGISTERS = 0xF00, 0xF10, 0xF20, 0xFD0
ITARGETSR_END, DISTRIBUTOR_SIZE = 0xC00, 0x1000
CTLR_ENABLE_GROUPS = 3
IIDR = 0x4B00_343B
"""KVM's product and revision 3 (linux v6.12 vgic-mmio-v2.c:vgic_mmio_read_v2_misc)."""
IDENTIFICATION = (0x04, 0x00, 0x00, 0x00, 0x90, 0xB4, 0x2B, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
"""ICPIDR4-7, ICPIDR0-3, ICCIDR0-3 (qemu v7.2 hw/intc/arm_gic.c: gic_id_gicv2)."""
TO_LISTED, TO_OTHERS, TO_SELF = range(3)
"""GICD_SGIR.TargetListFilter."""

# The CPU interface (IHI 0048, "CPU interface register map").
GICC_CTLR, GICC_PMR, GICC_BPR, GICC_IAR, GICC_EOIR = 0x00, 0x04, 0x08, 0x0C, 0x10
GICC_RPR, GICC_HPPIR, GICC_ABPR, GICC_AIAR, GICC_AEOIR = 0x14, 0x18, 0x1C, 0x20, 0x24
GICC_AHPPIR, GICC_APR0, GICC_NSAPR0, GICC_IIDR, GICC_DIR = 0x28, 0xD0, 0xE0, 0xFC, 0x1000
GICC_CTLR_ACKCTL, GICC_CTLR_FIQEN, GICC_CTLR_CBPR = 1 << 2, 1 << 3, 1 << 4
GICC_CTLR_EOIMODE = 1 << 9
INTERFACE_IIDR = 0x04B2_043B
"""As KVM shows it, though only to its VMM (vgic-mmio-v2.c:vgic_mmio_read_vcpuif)."""
INTID_MASK, SOURCE_SHIFT = 0x3FF, 10
GROUP0, GROUP1, BOTH = 1, 2, 3


@dataclass(slots=True)
class Banked:
    """What a vCPU has besides what GICv2 and GICv3 have in common."""

    sources: list[U8] = field(default_factory=lambda: [0] * SGIS)
    """GICD_SPENDSGIR<n>: of each SGI, the vCPUs that sent it."""
    acknowledge_both: bool = False
    """GICC_CTLR.AckCtl."""


@dataclass(slots=True)
class State:
    """All that a guest can change; the defaults are the reset values."""

    core: arbiter.State = field(default_factory=arbiter.State)
    banked: list[Banked] = field(default_factory=list)
    targets: list[U8] = field(default_factory=lambda: [0] * (LINES - BANK))
    """GICD_ITARGETSR<n>, from INTID 32 on."""


def reset_vcpu() -> arbiter.Vcpu:
    """The banked registers after reset; SGIs are enabled (linux v6.12 vgic-init.c)."""
    sgis = (1 << SGIS) - 1
    return arbiter.Vcpu(Bank(enabled=sgis, edge=sgis), Interface(group0_is_fiq=False))


class GicV2(Controller):
    """The controller: `distributor` and `cpu_interface` are the devices in front of it.

    `changed` is called after whatever changed `asserted` or `asserted_fiq`. ValueError when there
    are more than 8 vCPUs, StateError when `state` is that of another machine.
    """

    def __init__(
        self, vcpus: int, changed: Callable[[], None] = nothing, state: State | None = None
    ) -> None:
        if not 1 <= vcpus <= MAX_VCPUS:
            raise ValueError(f"a GICv2 serves 1 to {MAX_VCPUS} vCPUs, not {vcpus}")
        self.vcpus = vcpus
        self.current = 0
        """The vCPU that makes the access."""
        self.distributor = Distributor(self)
        self.cpu_interface = CpuInterface(self)
        self._changed = changed
        self.restore(state)

    def restore(self, state: State | None) -> None:
        """Become what another was, or as after reset."""
        vcpus = range(self.vcpus)
        if state is None:
            state = State(banked=[Banked() for _ in vcpus])
            state.core.vcpus = [reset_vcpu() for _ in vcpus]
        if (len(state.banked), len(state.targets)) != (self.vcpus, LINES - BANK):
            raise StateError("the interrupt controller has another number of vCPUs or targets")
        if any(len(banked.sources) != SGIS for banked in state.banked):
            raise StateError("the interrupt controller has another number of SGIs")
        self.state = state
        self.arbiter = Arbiter(state.core, self.vcpus)
        for intid in range(BANK, LINES):
            self._route(intid)
        self.arbiter.refresh_shared()
        self.arbiter.changed = self._changed

    def target(self, intid: int, vcpus: int) -> None:
        """Write a byte of GICD_ITARGETSR<n>; `refresh_shared` makes it count."""
        self.state.targets[intid - BANK] = vcpus & (1 << self.vcpus) - 1
        self._route(intid)

    def _route(self, intid: int) -> None:
        targets = 1 if self.vcpus == 1 else self.state.targets[intid - BANK]
        self.arbiter.route(intid, (targets & -targets).bit_length() - 1 if targets else None)

    # -- SGIs ------------------------------------------------------------------------------

    def send(self, value: int) -> None:
        """GICD_SGIR: the current vCPU sends an SGI to those listed, all others, or itself."""
        everybody, itself = (1 << self.vcpus) - 1, 1 << self.current
        filters = {TO_LISTED: value >> 16, TO_OTHERS: ~itself, TO_SELF: itself}
        targets = filters.get(value >> 24 & 3, 0) & everybody
        for vcpu in range(self.vcpus):
            if targets >> vcpu & 1:
                sources = self.state.banked[vcpu].sources
                self.set_sources(vcpu, value & SGIS - 1, sources[value & SGIS - 1] | itself)
        self.arbiter.refresh(range(self.vcpus))

    def set_sources(self, vcpu: int, sgi: int, sources: int) -> None:
        """An SGI is pending for as long as anybody sent it that has not been answered."""
        self.state.banked[vcpu].sources[sgi] = sources
        bank = self.state.core.vcpus[vcpu].private
        bank.latch = bank.latch & ~(1 << sgi) | bool(sources) << sgi

    def with_source(self, intid: int) -> int:
        """An INTID as GICC_IAR shows it: that of an SGI with the vCPU that sent it."""
        if intid >= SGIS:
            return intid
        sources = self.state.banked[self.current].sources[intid]
        return max((sources & -sources).bit_length() - 1, 0) << SOURCE_SHIFT | intid

    # -- the interrupt that waits ----------------------------------------------------------

    def acknowledge(self, groups: int) -> int:
        """Take the interrupt that is signalled; an SGI with who sent it."""
        intid = self.arbiter.acknowledge(self.current, groups)
        value = self.with_source(intid)
        if intid < SGIS:
            sources = self.state.banked[self.current].sources[intid]
            self.set_sources(self.current, intid, sources & sources - 1 if sources else 0)
        elif intid == SPURIOUS and not groups & GROUP1 and self._signals_group1():
            return OTHER_GROUP
        return value

    def _signals_group1(self) -> bool:
        best = self.best()
        interface = self.state.core.vcpus[self.current].interface
        return best is not None and best.group == 1 and interface.admits(best.priority, 1)

    def highest_pending(self, groups: int) -> int:
        """GICC_HPPIR and GICC_AHPPIR: neither mask nor running priority count."""
        best = self.best()
        if best is None:
            return SPURIOUS
        if groups >> best.group & 1:
            return self.with_source(best.intid)
        return OTHER_GROUP if best.group == 1 else SPURIOUS

    def best(self) -> Pending | None:
        """What waits for the current vCPU."""
        return self.arbiter.best[self.current]


class Distributor(Words):
    """GICD_*: offsets count from its frame."""

    def __init__(self, gic: GicV2) -> None:
        self.gic = gic

    def has_bytes(self, offset: int) -> bool:
        return 0x400 <= offset < ITARGETSR_END or GICD_CPENDSGIR <= offset < GICD_SPENDSGIR + SGIS

    def read_word(self, offset: int) -> int:
        gic = self.gic
        if bank := self._bank(offset):
            return read_bank(bank, offset)
        if ITARGETSR <= offset < ITARGETSR + LINES:
            return sum(self._target(offset - ITARGETSR + n) << 8 * n for n in range(4))
        if GICD_CPENDSGIR <= offset < GICD_SPENDSGIR + SGIS:
            first = offset % SGIS
            sources = gic.state.banked[gic.current].sources[first : first + 4]
            return int.from_bytes(sources, "little")
        if offset == GICD_CTLR:
            return gic.state.core.groups
        if offset == GICD_TYPER:
            return gic.vcpus - 1 << 5 | LINES // BANK - 1
        if ID_REGISTERS <= offset < DISTRIBUTOR_SIZE:
            return IDENTIFICATION[(offset - ID_REGISTERS) // 4]
        return IIDR if offset == GICD_IIDR else 0

    def _target(self, intid: int) -> int:
        return self.gic.state.targets[intid - BANK] if intid >= BANK else 1 << self.gic.current

    def write_word(self, offset: int, value: int, mask: int) -> None:
        gic = self.gic
        if bank := self._bank(offset):
            if offset in (ISPENDR, ICPENDR):
                value &= ~0xFFFF  # those of SGIs are read-only: only their senders count
            write_bank(bank, offset, value, mask)
        elif ITARGETSR + BANK <= offset < ITARGETSR + LINES:
            for n in range(4):
                if mask >> 8 * n & 0xFF:
                    gic.target(offset - ITARGETSR + n, value >> 8 * n & 0xFF)
        elif GICD_CPENDSGIR <= offset < GICD_SPENDSGIR + SGIS:
            self._write_sources(offset, value)
        elif offset == GICD_CTLR:
            gic.state.core.groups = value & CTLR_ENABLE_GROUPS
        elif offset == GICD_SGIR:
            gic.send(value)
        gic.arbiter.refresh_shared()

    def _write_sources(self, offset: int, value: int) -> None:
        gic = self.gic
        for n in range(4):
            sgi, byte = offset % SGIS + n, value >> 8 * n & (1 << gic.vcpus) - 1
            old = gic.state.banked[gic.current].sources[sgi]
            new = old | byte if offset >= GICD_SPENDSGIR else old & ~byte
            gic.set_sources(gic.current, sgi, new)

    def _bank(self, offset: int) -> Bank | None:
        number = bank_number(offset)
        if number is None or number >= LINES // BANK:
            return None
        return self.gic.arbiter.bank(number * BANK, self.gic.current)


class CpuInterface(Words):
    """GICC_*: offsets count from its frame."""

    def __init__(self, gic: GicV2) -> None:
        self.gic = gic

    def read_word(self, offset: int) -> int:
        reader = _READERS.get(offset)
        return reader(self.gic, self._interface()) if reader else 0

    def write_word(self, offset: int, value: int, mask: int) -> None:
        if writer := _WRITERS.get(offset):
            writer(self.gic, self._interface(), value)
            self.gic.arbiter.refresh((self.gic.current,))

    def _interface(self) -> Interface:
        return self.gic.state.core.vcpus[self.gic.current].interface


def _groups(gic: GicV2) -> int:
    """The groups that the registers without an alias reach."""
    return BOTH if gic.state.banked[gic.current].acknowledge_both else GROUP0


def _control(gic: GicV2, interface: Interface) -> int:
    value = interface.groups | GICC_CTLR_FIQEN * interface.group0_is_fiq
    value |= GICC_CTLR_ACKCTL * gic.state.banked[gic.current].acknowledge_both
    return value | GICC_CTLR_CBPR * interface.common | GICC_CTLR_EOIMODE * interface.split


def _set_control(gic: GicV2, interface: Interface, value: int) -> None:
    interface.groups = value & BOTH
    interface.group0_is_fiq = bool(value & GICC_CTLR_FIQEN)
    interface.common = bool(value & GICC_CTLR_CBPR)
    interface.split = bool(value & GICC_CTLR_EOIMODE)
    gic.state.banked[gic.current].acknowledge_both = bool(value & GICC_CTLR_ACKCTL)


_READERS: dict[int, Callable[[GicV2, Interface], int]] = {
    GICC_CTLR: _control,
    GICC_PMR: lambda gic, interface: interface.mask,
    GICC_BPR: lambda gic, interface: interface.binary_point(0),
    GICC_IAR: lambda gic, interface: gic.acknowledge(_groups(gic)),
    GICC_RPR: lambda gic, interface: interface.running(),
    GICC_HPPIR: lambda gic, interface: gic.highest_pending(_groups(gic)),
    GICC_ABPR: lambda gic, interface: interface.binary_point(1),
    GICC_AIAR: lambda gic, interface: gic.acknowledge(GROUP1),
    GICC_AHPPIR: lambda gic, interface: gic.highest_pending(GROUP1),
    GICC_APR0: lambda gic, interface: interface.active0,
    GICC_NSAPR0: lambda gic, interface: interface.active1,
    GICC_IIDR: lambda gic, interface: INTERFACE_IIDR,
}
_WRITERS: dict[int, Callable[[GicV2, Interface, int], None]] = {
    GICC_CTLR: _set_control,
    GICC_PMR: lambda gic, interface, value: interface.set_mask(value),
    GICC_BPR: lambda gic, interface, value: interface.set_binary_point(0, value),
    GICC_EOIR: lambda gic, _, value: gic.arbiter.end(gic.current, _groups(gic), value & INTID_MASK),
    GICC_ABPR: lambda gic, interface, value: interface.set_binary_point(1, value),
    GICC_AEOIR: lambda gic, _, value: gic.arbiter.end(gic.current, GROUP1, value & INTID_MASK),
    GICC_APR0: lambda gic, interface, value: interface.set_active(0, value),
    GICC_NSAPR0: lambda gic, interface, value: interface.set_active(1, value),
    GICC_DIR: lambda gic, _, value: gic.arbiter.deactivate(gic.current, value & INTID_MASK),
}
