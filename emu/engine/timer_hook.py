"""The generic timer's registers, as a guest accesses them; `_timer_hook.c` says the same in C.

What they hold and when a timer is due is emu/arm/timers.py's; who may access them, and when an
access is, is decided here.
"""

from __future__ import annotations

from emu.arm import arch, timers
from emu.arm.arch import SysReg
from emu.arm.timers import NEVER, Timers
from emu.engine.blocks import Blocks
from emu.engine.cpu import Cpu


class TimerHook:
    """The timer of the running vCPU, which is told when it is accessed."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._timers: Timers | None = None

    def use(self, address: int, blocks: Blocks) -> None:
        """The running vCPU's `Timers`; 0 for none."""
        self._timers = Timers.from_address(address) if address else None
        blocks.expiry = self._timers.expiry(blocks.cycles) if self._timers else NEVER

    def on_access(
        self, reg: SysReg, is_write: bool, number: int, value: int, blocks: Blocks
    ) -> bool:
        """An MRS or MSR of CRn 14, below the monitor's; True when it is done."""
        if reg.op0 != 3 or reg.op1 != 3 or self._timers is None or not self._may_use(reg):
            return False
        cycles = blocks.cycles_at(self._cpu.get("PC"))
        if is_write:
            done = self._timers.write(reg, value, cycles)
            blocks.expiry = self._timers.expiry(cycles)
            return done
        answer = self._timers.read(reg, cycles)
        if answer is not None:
            self._cpu.write_destination(number, answer)
        return answer is not None

    def _may_use(self, reg: SysReg) -> bool:
        """Whether CNTKCTL_EL1 lets EL0 use it: otherwise Unicorn gives the trap."""
        if arch.current_el(self._cpu.get("PSTATE")):
            return True
        enabled = self._cpu.get("CNTKCTL_EL1")
        if reg.crm == timers.CRM_COUNTER:
            timer = timers.OP2_COUNTERS.get(reg.op2)
            return timer is not None and bool(enabled & timers.COUNTER_ENABLE[timer])
        timer = timers.CRM_TIMERS.get(reg.crm)
        return timer is not None and bool(enabled & timers.TIMER_ENABLE[timer])
