"""Interrupts as a GIC keeps them: what is known of each INTID, and what a vCPU lets through.

A `Bank` is 32 consecutive INTIDs, one bit for each in every field, so a field *is* the register
that shows it: GICD_ISENABLER<n>, GICD_ICFGR<n> and their like in both GICv2 (Arm IHI 0048) and
GICv3 (Arm IHI 0069). What software made pending (`latch`: an edge that was seen, or a write of
ISPENDR) is kept apart from what the device drives (`line`), because a level-sensitive interrupt
is pending for as long as either holds, and only the latch can be cleared (IHI 0069,
"The interrupt lifecycle").

An `Interface` is one vCPU's CPU interface: the ICC_* system registers of GICv3, GICC_* of GICv2.
It knows which priorities run and decides whether another one may preempt them.

Priorities have five bits, as KVM's have (linux v6.12 arch/arm64/kvm/vgic/vgic.h: VGIC_PRI_BITS)
and QEMU's CPUs (qemu v7.2 hw/intc/arm_gicv3_cpuif.c, target/arm/cpu.h: gic_pribits). They are
kept bit-sliced, one word for each bit of the priority: the most urgent of any number of INTIDs
is found in five steps, without looking at one after the other.

Choices the architecture leaves are KVM's. Not here: LPIs, security states, GICv4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

U8 = Annotated[int, 8]
U32 = Annotated[int, 32]
ALL = 0xFFFF_FFFF

BANK = 32
SGIS = 16
LINES = 288
"""INTIDs: 32 private ones and 256 SPIs (qemu v7.2 include/hw/arm/virt.h: NUM_IRQS)."""
SPURIOUS = 1023
"""What an acknowledge register reads as when there is nothing to take (IHI 0069, "INTIDs")."""
IDLE = 0xFF
"""The running priority when no interrupt is active (IHI 0069, ICC_RPR_EL1)."""
PRIORITY_BITS = 5
PRIORITY_SHIFT = 8 - PRIORITY_BITS
PRIORITY_MASK = 0xFF << PRIORITY_SHIFT & 0xFF
MIN_POINT0 = PRIORITY_SHIFT - 1
MIN_POINT1 = PRIORITY_SHIFT
"""The least binary points (linux v6.12 arch/arm64/kvm/hyp/vgic-v3-sr.c: __vgic_v3_bpr_min)."""
MAX_POINT = 7


class Planes(NamedTuple):
    """The priorities of 32 INTIDs: bit n of `bit7` is bit 7 of the priority of the n-th."""

    bit7: U32 = 0
    bit6: U32 = 0
    bit5: U32 = 0
    bit4: U32 = 0
    bit3: U32 = 0


@dataclass(slots=True)
class Bank:
    """The state of 32 INTIDs; the reset value is that of SPIs of a GICv2."""

    enabled: U32 = 0
    latch: U32 = 0
    line: U32 = 0
    active: U32 = 0
    group: U32 = 0
    """Set for group 1."""
    edge: U32 = 0
    """Set for edge-triggered, clear for level-sensitive."""
    priority: Planes = field(default_factory=Planes)

    def pending(self) -> int:
        """What GICD_ISPENDR shows (linux v6.12 arch/arm64/kvm/vgic/vgic.h: irq_is_pending)."""
        return self.latch | self.line & ~self.edge

    def ready(self) -> int:
        """Pending, enabled and not active: what waits to be signalled."""
        return self.pending() & self.enabled & ~self.active

    def of_groups(self, groups: int) -> int:
        """The INTIDs of the groups in a mask of two bits."""
        return (0, ~self.group, self.group, ALL)[groups & 3]

    def drive(self, bit: int, level: bool) -> bool:
        """Set the input line of one INTID; whether it was at the other level before.

        For an edge-triggered interrupt only the rise of the line counts (IHI 0069, GICD_ICFGR<n>).
        """
        if bool(self.line & bit) == level:
            return False
        self.line ^= bit
        if level:
            self.latch |= bit & self.edge
        return True

    def take(self, bit: int) -> None:
        """Pending becomes active; a level that is still there keeps it pending besides."""
        self.active |= bit
        self.latch &= ~bit

    def most_urgent(self, candidates: int) -> int:
        """The number of the most urgent of the candidates: least priority value, least INTID.

        The architecture leaves the order of equals open; QEMU takes the least INTID
        (qemu v7.2 hw/intc/arm_gicv3.c: irqbetter).
        """
        for plane in self.priority:
            candidates = candidates & ~plane or candidates
        return (candidates & -candidates).bit_length() - 1

    def priority_of(self, number: int) -> int:
        """The priority of the n-th INTID; the bits that do not exist read as zero."""
        value = 0
        for plane in self.priority:
            value = value << 1 | plane >> number & 1
        return value << PRIORITY_SHIFT

    def set_priority(self, number: int, value: int) -> None:
        """Give the n-th INTID a priority of which the upper five bits are kept."""
        bit = 1 << number
        self.priority = Planes(*(
            plane | bit if value >> 7 - n & 1 else plane & ~bit
            for n, plane in enumerate(self.priority)
        ))  # fmt: skip


@dataclass(slots=True)
class Interface:
    """A CPU interface; the fields are registers or fields of one, the defaults their reset."""

    groups: U8 = 0
    """Bit n: group n is signalled (ICC_IGRPEN<n>_EL1; GICC_CTLR.EnableGrp<n>)."""
    mask: U8 = 0
    """ICC_PMR_EL1: only what is more urgent is signalled."""
    point0: U8 = MIN_POINT0
    point1: U8 = MIN_POINT1
    """ICC_BPR<n>_EL1: where priority ends and subpriority begins."""
    common: bool = False
    """CBPR: the binary point of group 0 counts for both groups."""
    split: bool = False
    """EOImode: the end of an interrupt only drops the priority, ICC_DIR_EL1 deactivates."""
    active0: U32 = 0
    active1: U32 = 0
    """ICC_AP<n>R0_EL1: bit m is set while priority m << 3 of group n runs."""
    group0_is_fiq: bool = True
    """Always so in GICv3; GICC_CTLR.FIQEn in GICv2."""

    def set_mask(self, value: int) -> None:
        """Write ICC_PMR_EL1, of which the upper five bits are kept."""
        self.mask = value & PRIORITY_MASK

    def set_active(self, group: int, value: int) -> None:
        """Write ICC_AP<n>R0_EL1."""
        if group == 0:
            self.active0 = value & ALL
        else:
            self.active1 = value & ALL

    def binary_point(self, group: int) -> int:
        """ICC_BPR<n>_EL1 as it reads (vgic-v3-sr.c: __vgic_v3_get_bpr1)."""
        if group == 0:
            return self.point0
        return min(self.point0 + 1, MAX_POINT) if self.common else self.point1

    def set_binary_point(self, group: int, value: int) -> None:
        """Write it; below the minimum it is the minimum (vgic-v3-sr.c: __vgic_v3_write_bpr1)."""
        if group == 0:
            self.point0 = max(value & MAX_POINT, MIN_POINT0)
        elif not self.common:
            self.point1 = max(value & MAX_POINT, MIN_POINT1)

    def group_priority(self, priority: int, group: int) -> int:
        """The part that decides on preemption (IHI 0069, "Preemption"; __vgic_v3_pri_to_pre)."""
        return priority & 0xFF << self.binary_point(group) + (group == 0)

    def running(self) -> int:
        """ICC_RPR_EL1: the most urgent group priority that is active, IDLE if none is."""
        active = self.active0 | self.active1
        return (active & -active).bit_length() - 1 << PRIORITY_SHIFT if active else IDLE

    def admits(self, priority: int, group: int) -> bool:
        """Whether an interrupt gets past the mask and what runs (__vgic_v3_read_iar)."""
        return priority < self.mask and self.group_priority(priority, group) < self.running()

    def rise(self, priority: int, group: int) -> None:
        """An interrupt was acknowledged: its group priority runs."""
        bit = 1 << (self.group_priority(priority, group) >> PRIORITY_SHIFT)
        if group == 0:
            self.active0 |= bit
        else:
            self.active1 |= bit

    def drop(self) -> int:
        """The most urgent group priority stops running; which it was, IDLE if there was none.

        Of either group, whichever register was written: __vgic_v3_clear_highest_active_priority.
        """
        dropped = self.running()
        lowest0, lowest1 = self.active0 & -self.active0, self.active1 & -self.active1
        if lowest0 and (not lowest1 or lowest0 < lowest1):
            self.active0 ^= lowest0
        else:
            self.active1 ^= lowest1
        return dropped
