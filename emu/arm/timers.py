"""The generic timer of one vCPU, driven by the cycles of the machine and nothing else.

Two timers, physical (CNTP_*) and virtual (CNTV_*), each with one compare value seen as CVAL and
as TVAL, and a control register (DDI 0487, D11 "The Generic Timer"). The state is memory that both
halves of the engine share: `_timer_hook.c` reads and writes it as this file does, and a test holds
the two to one result. CNTFRQ_EL0, the counters' frequency, and the rate of the two are clock.py's.

`offset` is CNTVOFF_EL2 and CNTPOFF_EL2, which EL2 sets. `known` has a bit for each timer whose
line the interrupt controller already knows to be high: it is no event any more.
"""

from __future__ import annotations

import ctypes

from emu.arm.arch import SysReg
from emu.base.clock import DEFAULT_RATE, Rate

PHYSICAL, VIRTUAL = 0, 1
PPI = (30, 27)
"""INTIDs of the EL1 physical and virtual timers (BSA 1.0 §B.1; qemu v7.2 include/hw/arm/virt.h:
ARCH_TIMER_NS_EL1_IRQ, ARCH_TIMER_VIRT_IRQ)."""
CRN, CRM_COUNTER, CRM_TIMERS = 14, 0, {2: PHYSICAL, 3: VIRTUAL}
OP2_TVAL, OP2_CTL, OP2_CVAL = 0, 1, 2
OP2_COUNTERS = {1: PHYSICAL, 2: VIRTUAL}
CTL_ENABLE, CTL_IMASK, CTL_ISTATUS = 1, 2, 4
NEVER = (1 << 64) - 1
MASK64 = NEVER
COUNTER_ENABLE = (1 << 0, 1 << 1)
TIMER_ENABLE = (1 << 9, 1 << 8)
"""CNTKCTL_EL1: EL0PCTEN, EL0VCTEN; EL0PTEN, EL0VTEN (DDI 0487)."""


class Timers(ctypes.Structure):
    """Two timers; index 0 is the physical one, 1 the virtual one."""

    _fields_ = [
        ("ctl", ctypes.c_uint64 * 2),
        ("cval", ctypes.c_uint64 * 2),
        ("offset", ctypes.c_uint64 * 2),
        ("known", ctypes.c_uint64),
        ("_ticks", ctypes.c_uint64),
        ("_cycles", ctypes.c_uint64),
    ]

    def __init__(self, rate: Rate = DEFAULT_RATE) -> None:
        super().__init__()
        self._ticks, self._cycles = rate

    @property
    def state(self) -> tuple[int, ...]:
        """CTL, CVAL, offset of both timers, and `known`: for who saves a machine."""
        return (*self.ctl, *self.cval, *self.offset, int(self.known))

    @state.setter
    def state(self, values: tuple[int, ...]) -> None:
        self.ctl[:], self.cval[:], self.offset[:] = values[:2], values[2:4], values[4:6]
        self.known = values[6]

    def count(self, timer: int, cycles: int) -> int:
        """CNTPCT_EL0 or CNTVCT_EL0."""
        return (self._ticks_at(cycles) - int(self.offset[timer])) & MASK64

    def _ticks_at(self, cycles: int) -> int:
        return cycles * int(self._ticks) // int(self._cycles)

    def condition(self, timer: int, cycles: int) -> bool:
        """ISTATUS of an enabled timer: the counter has reached the compare value."""
        return self.count(timer, cycles) >= int(self.cval[timer])

    def level(self, timer: int, cycles: int) -> bool:
        """The interrupt line."""
        active = self.ctl[timer] & (CTL_ENABLE | CTL_IMASK) == CTL_ENABLE
        return active and self.condition(timer, cycles)

    def expiry(self, cycles: int) -> int:
        """The cycle at which a line goes high that is not known to be, NEVER without one."""
        return min(self._expiry(timer, cycles) for timer in (PHYSICAL, VIRTUAL))

    def _expiry(self, timer: int, cycles: int) -> int:
        active = self.ctl[timer] & (CTL_ENABLE | CTL_IMASK) == CTL_ENABLE
        if not active or self.known >> timer & 1:
            return NEVER
        left = max(int(self.cval[timer]) - self.count(timer, cycles), 0)
        ticks = self._ticks_at(cycles) + left
        return min(-(-ticks * int(self._cycles) // int(self._ticks)), NEVER)

    def read(self, reg: SysReg, cycles: int) -> int | None:
        """A register of the counters and timers; None where it is none of them."""
        timer = OP2_COUNTERS.get(reg.op2) if reg.crm == CRM_COUNTER else None
        if timer is not None:
            return self.count(timer, cycles)
        timer = CRM_TIMERS.get(reg.crm)
        if timer is None:
            return None
        if reg.op2 == OP2_TVAL:
            return (int(self.cval[timer]) - self.count(timer, cycles)) & 0xFFFF_FFFF
        if reg.op2 == OP2_CVAL:
            return int(self.cval[timer])
        if reg.op2 != OP2_CTL:
            return None
        status = self.ctl[timer] & CTL_ENABLE and self.condition(timer, cycles)
        return int(self.ctl[timer] | (CTL_ISTATUS if status else 0))

    def write(self, reg: SysReg, value: int, cycles: int) -> bool:
        """Write one; False where it is none of them."""
        timer = CRM_TIMERS.get(reg.crm)
        if timer is None or reg.op2 > OP2_CVAL:
            return False
        if reg.op2 == OP2_CTL:
            self.ctl[timer] = value & (CTL_ENABLE | CTL_IMASK)
        elif reg.op2 == OP2_CVAL:
            self.cval[timer] = value
        else:
            signed = (value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
            self.cval[timer] = self.count(timer, cycles) + signed & MASK64
        if not self.level(timer, cycles):
            self.known &= ~(1 << timer)
        return True
