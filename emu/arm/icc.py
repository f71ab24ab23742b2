"""The CPU interface of a GICv3: the ICC_* system registers (Arm IHI 0069).

All that EL1 has with one security state (GICD_CTLR.DS), where ICC_SGI1R_EL1 reaches either group;
bits that decide nothing are as KVM shows them. A register that does not exist, is written though
it can only be read, or read though it can only be written, is undefined to the guest. Of the
active priorities only the first register of each group exists, as priorities have five bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emu.arm.arbiter import Arbiter
from emu.arm.arch import SysReg
from emu.arm.interrupts import PRIORITY_BITS, SGIS, SPURIOUS, Interface

ICC_PMR_EL1 = SysReg(3, 0, 4, 6, 0)
ICC_IAR0_EL1 = SysReg(3, 0, 12, 8, 0)
ICC_EOIR0_EL1 = SysReg(3, 0, 12, 8, 1)
ICC_HPPIR0_EL1 = SysReg(3, 0, 12, 8, 2)
ICC_BPR0_EL1 = SysReg(3, 0, 12, 8, 3)
ICC_AP0R0_EL1 = SysReg(3, 0, 12, 8, 4)
ICC_AP1R0_EL1 = SysReg(3, 0, 12, 9, 0)
ICC_DIR_EL1 = SysReg(3, 0, 12, 11, 1)
ICC_RPR_EL1 = SysReg(3, 0, 12, 11, 3)
ICC_SGI1R_EL1 = SysReg(3, 0, 12, 11, 5)
ICC_ASGI1R_EL1 = SysReg(3, 0, 12, 11, 6)
ICC_SGI0R_EL1 = SysReg(3, 0, 12, 11, 7)
ICC_IAR1_EL1 = SysReg(3, 0, 12, 12, 0)
ICC_EOIR1_EL1 = SysReg(3, 0, 12, 12, 1)
ICC_HPPIR1_EL1 = SysReg(3, 0, 12, 12, 2)
ICC_BPR1_EL1 = SysReg(3, 0, 12, 12, 3)
ICC_CTLR_EL1 = SysReg(3, 0, 12, 12, 4)
ICC_SRE_EL1 = SysReg(3, 0, 12, 12, 5)
ICC_IGRPEN0_EL1 = SysReg(3, 0, 12, 12, 6)
ICC_IGRPEN1_EL1 = SysReg(3, 0, 12, 12, 7)
GROUP0, GROUP1 = 1, 2
INTID_MASK = 0xFF_FFFF
ICC_CTLR_CBPR, ICC_CTLR_EOIMODE, ICC_CTLR_A3V, ICC_CTLR_RSS = 1 << 0, 1 << 1, 1 << 15, 1 << 18
ICC_CTLR_PRIBITS = PRIORITY_BITS - 1 << 8
ICC_SRE_VALUE = 7
"""SRE, DFB and DIB, which cannot be cleared (linux v6.12 vgic-v3.c:vgic_v3_enable)."""



class SystemRegisters:
    """The CPU interfaces of all vCPUs, whose `affinities` are those of their MPIDR_EL1."""

    def __init__(self, arbiter: Arbiter, affinities: Sequence[int]) -> None:
        self.arbiter = arbiter
        self.vcpu_of = {affinity: n for n, affinity in enumerate(affinities)}
        self.a3v = any(affinity >> 32 for affinity in affinities)
        """Whether Aff3 exists."""
        self.rss = any(affinity & 0xF0 for affinity in affinities)
        """Whether an SGI's list of targets can begin at another Aff0 than 0."""

    def read(self, vcpu: int, key: SysReg) -> int | None:
        """A register of a vCPU; None when it does not exist or cannot be read."""
        reader = _READERS.get(key)
        return None if reader is None else reader(self, vcpu)

    def write(self, vcpu: int, key: SysReg, value: int) -> bool:
        """Write it; False when it does not exist or cannot be written."""
        if key in _FIELDS:
            _FIELDS[key](self.interface(vcpu), value)
            self.arbiter.refresh((vcpu,))
        elif key in _ACTIONS:
            _ACTIONS[key](self, vcpu, value)
        else:
            return False
        return True

    def interface(self, vcpu: int) -> Interface:
        """The CPU interface of a vCPU."""
        return self.arbiter.state.vcpus[vcpu].interface

    def highest_pending(self, vcpu: int, group: int) -> int:
        """ICC_HPPIR<n>_EL1: neither mask nor running priority count (__vgic_v3_read_hppir)."""
        best = self.arbiter.best[vcpu]
        return SPURIOUS if best is None or best.group != group else best.intid

    def control(self, vcpu: int) -> int:
        """ICC_CTLR_EL1; INTIDs have 16 bits, SEIS is 0 (__vgic_v3_read_ctlr)."""
        interface = self.interface(vcpu)
        value = ICC_CTLR_PRIBITS | ICC_CTLR_CBPR * interface.common
        value |= ICC_CTLR_EOIMODE * interface.split
        return value | ICC_CTLR_A3V * self.a3v | ICC_CTLR_RSS * self.rss

    def send(self, vcpu: int, value: int, group1: bool) -> None:
        """ICC_SGI1R_EL1 generates SGIs of either group, the other two of group 0 only.

        Source: linux v6.12 arch/arm64/kvm/sys_regs.c:access_gic_sgi, vgic_v3_queue_sgi.
        """
        bit = 1 << (value >> 24 & SGIS - 1)
        targets = self._targets(vcpu, value)
        for target in targets:
            bank = self.arbiter.state.vcpus[target].private
            if group1 or not bank.group & bit:
                bank.latch |= bit
        self.arbiter.refresh(targets)

    def _targets(self, vcpu: int, value: int) -> tuple[int, ...]:
        """All but oneself, or those of a list of 16 whose affinities differ in Aff0[3:0]."""
        if value >> 40 & 1:
            return tuple(n for n in range(len(self.arbiter.best)) if n != vcpu)
        aff3, aff2, aff1 = value >> 48 & 0xFF, value >> 32 & 0xFF, value >> 16 & 0xFF
        first = aff3 << 32 | aff2 << 16 | aff1 << 8 | (value >> 44 & 0xF) * 16
        listed = (self.vcpu_of.get(first + n) for n in range(16) if value >> n & 1)
        return tuple(n for n in listed if n is not None)


def _set_control(interface: Interface, value: int) -> None:
    interface.common = bool(value & ICC_CTLR_CBPR)
    interface.split = bool(value & ICC_CTLR_EOIMODE)


def _enable(interface: Interface, group: int, value: int) -> None:
    interface.groups = interface.groups & ~group | group * (value & 1)


_READERS: dict[SysReg, Callable[[SystemRegisters, int], int]] = {
    ICC_PMR_EL1: lambda icc, vcpu: icc.interface(vcpu).mask,
    ICC_IAR0_EL1: lambda icc, vcpu: icc.arbiter.acknowledge(vcpu, GROUP0),
    ICC_IAR1_EL1: lambda icc, vcpu: icc.arbiter.acknowledge(vcpu, GROUP1),
    ICC_HPPIR0_EL1: lambda icc, vcpu: icc.highest_pending(vcpu, 0),
    ICC_HPPIR1_EL1: lambda icc, vcpu: icc.highest_pending(vcpu, 1),
    ICC_BPR0_EL1: lambda icc, vcpu: icc.interface(vcpu).binary_point(0),
    ICC_BPR1_EL1: lambda icc, vcpu: icc.interface(vcpu).binary_point(1),
    ICC_AP0R0_EL1: lambda icc, vcpu: icc.interface(vcpu).active0,
    ICC_AP1R0_EL1: lambda icc, vcpu: icc.interface(vcpu).active1,
    ICC_RPR_EL1: lambda icc, vcpu: icc.interface(vcpu).running(),
    ICC_CTLR_EL1: lambda icc, vcpu: icc.control(vcpu),
    ICC_SRE_EL1: lambda icc, vcpu: ICC_SRE_VALUE,
    ICC_IGRPEN0_EL1: lambda icc, vcpu: icc.interface(vcpu).groups & 1,
    ICC_IGRPEN1_EL1: lambda icc, vcpu: icc.interface(vcpu).groups >> 1,
}
_FIELDS: dict[SysReg, Callable[[Interface, int], None]] = {
    ICC_PMR_EL1: Interface.set_mask,
    ICC_BPR0_EL1: lambda interface, value: interface.set_binary_point(0, value),
    ICC_BPR1_EL1: lambda interface, value: interface.set_binary_point(1, value),
    ICC_AP0R0_EL1: lambda interface, value: interface.set_active(0, value),
    ICC_AP1R0_EL1: lambda interface, value: interface.set_active(1, value),
    ICC_CTLR_EL1: _set_control,
    ICC_SRE_EL1: lambda interface, value: None,
    ICC_IGRPEN0_EL1: lambda interface, value: _enable(interface, GROUP0, value),
    ICC_IGRPEN1_EL1: lambda interface, value: _enable(interface, GROUP1, value),
}
_ACTIONS: dict[SysReg, Callable[[SystemRegisters, int, int], None]] = {
    ICC_EOIR0_EL1: lambda icc, vcpu, value: icc.arbiter.end(vcpu, GROUP0, value & INTID_MASK),
    ICC_EOIR1_EL1: lambda icc, vcpu, value: icc.arbiter.end(vcpu, GROUP1, value & INTID_MASK),
    ICC_DIR_EL1: lambda icc, vcpu, value: icc.arbiter.deactivate(vcpu, value & INTID_MASK),
    ICC_SGI1R_EL1: lambda icc, vcpu, value: icc.send(vcpu, value, group1=True),
    ICC_ASGI1R_EL1: lambda icc, vcpu, value: icc.send(vcpu, value, group1=False),
    ICC_SGI0R_EL1: lambda icc, vcpu, value: icc.send(vcpu, value, group1=False),
}
