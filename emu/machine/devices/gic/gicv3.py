"""GICv3, the interrupt controller of the virt machine (Arm IHI 0069, "GIC architecture v3/v4").

A distributor for the SPIs, a redistributor for each vCPU's own SGIs and PPIs, and a CPU interface
in system registers (icc.py); what they decide is arbiter.py. It is what a guest of KVM sees:
affinity routing always on, one security state (GICD_CTLR.DS), no LPIs and no message-based
SPIs, PPIs level-sensitive for good, SGIs enabled from reset, everything in group 1 from reset
(linux v6.12 arch/arm64/kvm/vgic/vgic-init.c). Where KVM has less than the architecture, the
architecture is followed, as QEMU does: GICD_CTLR enables each group by itself, GICR_WAKER can be
read back, GICD_IROUTER.Interrupt_Routing_Mode makes an SPI go to any one vCPU.

Group 1 is signalled as IRQ, group 0 as FIQ: `asserted` and `asserted_fiq` have a bit for each
vCPU. Nothing is delayed: RWP, and ChildrenAsleep after a write, never have to be waited for.
GICR_WAKER gates only 1-of-N SPIs, as neither KVM nor QEMU lets it gate anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from emu.arm import arbiter
from emu.arm.arbiter import Arbiter, Controller, nothing
from emu.arm.arch import MPIDR_AFFINITY, SysReg
from emu.arm.gic_registers import Words, bank_number, read_bank, write_bank
from emu.arm.icc import SystemRegisters
from emu.arm.interrupts import ALL, BANK, LINES, SGIS, Bank
from emu.base.errors import StateError

FRAME = 0x1_0000
REDISTRIBUTOR = 2 * FRAME
"""RD_base and SGI_base, 64 KiB each (IHI 0069, "GIC Redistributor register map")."""

# The distributor (IHI 0069, "GIC Distributor register map"); what is not here is gic_registers'.
GICD_CTLR, GICD_TYPER, GICD_IIDR, GICD_IROUTER, ID_REGISTERS = 0x0, 0x4, 0x8, 0x6000, 0xFFD0
CTLR_ENABLE_GROUPS, CTLR_ARE_NS, CTLR_DS = 3, 1 << 4, 1 << 6
TYPER_RSS, TYPER_A3V, TYPER_IDBITS_SHIFT = 1 << 26, 1 << 24, 19
ID_BITS = 10
"""Of an INTID (linux v6.12 arch/arm64/kvm/vgic/vgic.h: INTERRUPT_ID_BITS_SPIS)."""
IROUTER_IRM = 1 << 31
IIDR = 0x4B00_343B
"""KVM's product and revision 3 (linux v6.12 vgic-mmio-v3.c:vgic_mmio_read_v3_misc)."""
REDISTRIBUTOR_IIDR = 0x4B00_043B
IDENTIFICATION = (0x44, 0x00, 0x00, 0x00, 0x92, 0xB4, 0x3B, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
"""PIDR4-7, PIDR0-3, CIDR0-3 of a GIC-500: qemu v7.2 hw/intc/gicv3_internal.h:gicv3_idreg. PIDR2
has the architecture, 3, and is all that KVM has."""
PIDR0_REDISTRIBUTOR = 0x93

# A redistributor's RD_base frame.
GICR_CTLR, GICR_IIDR, GICR_TYPER, GICR_WAKER = 0x0, 0x4, 0x8, 0x14
GICR_CTLR_VALUE = 1 << 2 | 1 << 1
"""IR and CES, as KVM has them without LPIs too (vgic-mmio-v3.c:vgic_mmio_read_v3r_ctlr)."""
GICR_TYPER_LAST = 1 << 4
WAKER_PROCESSOR_SLEEP, WAKER_CHILDREN_ASLEEP = 1 << 1, 1 << 2


def _shared() -> arbiter.State:
    return arbiter.State(shared=[Bank(group=ALL) for _ in range(LINES // BANK - 1)])


def reset_vcpu() -> arbiter.Vcpu:
    """A redistributor and a CPU interface after reset."""
    sgis = (1 << SGIS) - 1
    return arbiter.Vcpu(Bank(enabled=sgis, edge=sgis, group=ALL))


@dataclass(slots=True)
class State:
    """All that a guest can change; the defaults are the reset values."""

    core: arbiter.State = field(default_factory=_shared)
    routers: list[int] = field(default_factory=lambda: [0] * (LINES - BANK))
    """GICD_IROUTER<n>, from INTID 32 on."""


class GicV3(Controller):
    """The controller: `distributor` and `redistributors` are the devices in front of it.

    `mpidrs` has MPIDR_EL1 of each vCPU; `changed` is called after whatever changed `asserted` or
    `asserted_fiq`. StateError when `state` is that of another machine.
    """

    def __init__(
        self,
        mpidrs: Sequence[int],
        changed: Callable[[], None] = nothing,
        state: State | None = None,
    ) -> None:
        self.affinities = [mpidr & MPIDR_AFFINITY for mpidr in mpidrs]
        self.distributor = Distributor(self)
        self.redistributors = Redistributors(self)
        self._changed = changed
        self.restore(state)

    def restore(self, state: State | None) -> None:
        """Become what another was, or as after reset."""
        if state is None:
            state = State()
            state.core.vcpus = [reset_vcpu() for _ in self.affinities]
        if len(state.routers) != LINES - BANK:
            raise StateError("the interrupt controller has another number of routes")
        self.state = state
        self.arbiter = Arbiter(state.core, len(self.affinities))
        self.registers = SystemRegisters(self.arbiter, self.affinities)
        for intid in range(BANK, LINES):
            self._route(intid)
        self.arbiter.refresh_shared()
        self.arbiter.changed = self._changed

    def route(self, intid: int, value: int) -> None:
        """Write GICD_IROUTER<n>; Aff3 exists where a vCPU has one (vgic_mmio_write_irouter)."""
        affinity = MPIDR_AFFINITY if self.registers.a3v else MPIDR_AFFINITY & ALL
        self.state.routers[intid - BANK] = value & (affinity | IROUTER_IRM)
        self._route(intid)
        self.arbiter.refresh_shared()

    def _route(self, intid: int) -> None:
        router = self.state.routers[intid - BANK]
        vcpu = self.registers.vcpu_of.get(router & MPIDR_AFFINITY)
        self.arbiter.route(intid, vcpu, one_of_n=bool(router & IROUTER_IRM))

    # -- system registers ------------------------------------------------------------------

    def read_register(self, vcpu: int, key: SysReg) -> int | None:
        """An ICC_* register of a vCPU; None when it does not exist or cannot be read."""
        return self.registers.read(vcpu, key)

    def write_register(self, vcpu: int, key: SysReg, value: int) -> bool:
        """Write it; False when it does not exist or cannot be written."""
        return self.registers.write(vcpu, key, value)


class Distributor(Words):
    """GICD_*: offsets count from its 64 KiB frame. Private INTIDs are RAZ/WI here."""

    def __init__(self, gic: GicV3) -> None:
        self.gic = gic

    def has_bytes(self, offset: int) -> bool:
        return self._bank(offset) is not None and 0x400 <= offset < 0x800

    def read_word(self, offset: int) -> int:
        if bank := self._bank(offset):
            return read_bank(bank, offset)
        if GICD_IROUTER <= offset < GICD_IROUTER + 8 * LINES:
            intid = (offset - GICD_IROUTER) // 8
            router = self.gic.state.routers[intid - BANK] if intid >= BANK else 0
            return router >> 8 * (offset & 4) & ALL
        return self._fixed(offset)

    def _fixed(self, offset: int) -> int:
        if offset == GICD_CTLR:
            return CTLR_ARE_NS | CTLR_DS | self.gic.state.core.groups
        if offset == GICD_TYPER:
            affinity = TYPER_A3V * self.gic.registers.a3v | TYPER_RSS * self.gic.registers.rss
            return affinity | ID_BITS - 1 << TYPER_IDBITS_SHIFT | LINES // BANK - 1
        if offset == GICD_IIDR:
            return IIDR
        if ID_REGISTERS <= offset < FRAME:
            return IDENTIFICATION[(offset - ID_REGISTERS) // 4]
        return 0

    def write_word(self, offset: int, value: int, mask: int) -> None:
        gic = self.gic
        if bank := self._bank(offset):
            write_bank(bank, offset, value, mask)
        elif offset == GICD_CTLR:
            gic.state.core.groups = value & CTLR_ENABLE_GROUPS
        elif GICD_IROUTER + 8 * BANK <= offset < GICD_IROUTER + 8 * LINES:
            intid, shift = (offset - GICD_IROUTER) // 8, 8 * (offset & 4)
            kept = gic.state.routers[intid - BANK] & ~(mask << shift)
            return gic.route(intid, kept | value << shift)
        gic.arbiter.refresh_shared()

    def _bank(self, offset: int) -> Bank | None:
        number = bank_number(offset)
        if number is None or not 0 < number < LINES // BANK:
            return None
        return self.gic.state.core.shared[number - 1]


class Redistributors(Words):
    """GICR_*: the frames of all vCPUs one after the other, each RD_base, then SGI_base."""

    def __init__(self, gic: GicV3) -> None:
        self.gic = gic

    def has_bytes(self, offset: int) -> bool:
        return FRAME + 0x400 <= offset % REDISTRIBUTOR < FRAME + 0x420

    def read_word(self, offset: int) -> int:
        vcpu, offset = divmod(offset, REDISTRIBUTOR)
        if vcpu >= len(self.gic.affinities):
            return 0
        if offset < FRAME:
            return self._read_control(vcpu, offset)
        if bank_number(offset - FRAME) == 0:
            return read_bank(self.gic.state.core.vcpus[vcpu].private, offset - FRAME)
        return 0

    def _read_control(self, vcpu: int, offset: int) -> int:
        if offset == GICR_CTLR:
            return GICR_CTLR_VALUE
        if offset == GICR_IIDR:
            return REDISTRIBUTOR_IIDR
        if offset & ~4 == GICR_TYPER:
            return self._type(vcpu) >> 8 * (offset & 4) & ALL
        if offset == GICR_WAKER:
            asleep = self.gic.state.core.vcpus[vcpu].asleep
            return (WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP) * asleep
        if offset == ID_REGISTERS + 0x10:
            return PIDR0_REDISTRIBUTOR
        return IDENTIFICATION[(offset - ID_REGISTERS) // 4] if offset >= ID_REGISTERS else 0

    def _type(self, vcpu: int) -> int:
        affinity = self.gic.affinities[vcpu]
        value = (affinity >> 32 << 24 | affinity & 0xFF_FFFF) << 32 | vcpu << 8
        return value | GICR_TYPER_LAST * (vcpu == len(self.gic.affinities) - 1)

    def write_word(self, offset: int, value: int, mask: int) -> None:
        vcpu, offset = divmod(offset, REDISTRIBUTOR)
        if vcpu >= len(self.gic.affinities):
            return
        cpu = self.gic.state.core.vcpus[vcpu]
        if offset >= FRAME and bank_number(offset - FRAME) == 0:
            write_bank(cpu.private, offset - FRAME, value, mask)
        elif offset == GICR_WAKER:
            cpu.asleep = bool(value & WAKER_PROCESSOR_SLEEP)
        self.gic.arbiter.refresh((vcpu,))
