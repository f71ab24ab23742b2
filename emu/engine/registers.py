"""MRS and MSR: identification registers, and those that a handler is asked for.

Unicorn tells of every access before it makes it, and makes it itself unless the hook says that it
is done. `_registers.c` says the same in C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emu.arm import arch, pmu, timers
from emu.arm.arch import SysReg
from emu.engine.blocks import Blocks
from emu.engine.cpu import CpReg, Cpu
from emu.engine.timer_hook import TimerHook

CRN_IDENTIFICATION, CRN_PRIORITY, CRN_MONITOR, CRN_GIC = 0, 4, 9, 12
CRM_PRIORITY, CRM_EVENTS = 6, 8
"""System registers: ID_AA64*, ICC_PMR_EL1, PM*, ICC_*; and PMEV*, behind the timers' of CRn 14."""
KNOWN_COUNTERS = 4
"""Of the monitor, in Unicorn (2.1.4 qemu/target/arm/helper.c:define_pmu_regs, pmcrn)."""

SystemRegister = Callable[[SysReg, bool, int], int | None]
"""Reads a register, or writes it and gives anything; None where there is no such register."""


class RegisterAccess(NamedTuple):
    """An MRS or MSR that Unicorn may not know: Unicorn's number of the register it names in Xt."""

    pc: int
    reg: SysReg
    is_write: bool
    number: int
    value: int


ISR_EL1 = SysReg(3, 0, 12, 1, 0)
"""What is pending: Unicorn has no interrupts, and reads zero (DDI 0487, ISR_EL1)."""


def is_monitor(reg: SysReg) -> bool:
    """The performance monitor's registers, which Unicorn has and answers wrongly."""
    return reg.crn == CRN_MONITOR or (reg.crn == timers.CRN and reg.crm >= CRM_EVENTS)


def is_unknown_counter(reg: SysReg) -> bool:
    """PMEVCNTR<n> and PMEVTYPER<n> that Unicorn has not got."""
    number = (reg.crm & 3) << 3 | reg.op2
    return reg.crn == timers.CRN and reg.crm >= CRM_EVENTS and KNOWN_COUNTERS <= number < pmu.CYCLE


def is_gic(reg: SysReg) -> bool:
    """The interrupt controller's CPU interface, which Unicorn has not got: ICC_*."""
    return (reg.crn == CRN_GIC and reg.crm >= 8) or (
        reg.crn == CRN_PRIORITY and reg.crm == CRM_PRIORITY
    )


class Registers:
    """Answers accesses, or leaves them to Unicorn."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.timer = TimerHook(cpu)
        self._identification: dict[tuple[int, int], int] = {}
        self._access: RegisterAccess | None = None

    def begin_run(self) -> None:
        """No access of the last run is answered in this one."""
        self._access = None

    def identify(self, crm: int, op2: int, value: int) -> None:
        """What MRS of the register 3, 0, c0, crm, op2 gives."""
        self._identification[crm, op2] = value

    def on_access(
        self,
        cell: CpReg,
        is_write: bool,
        number: int,
        system_register: SystemRegister,
        blocks: Blocks,
    ) -> bool:
        """One MRS or MSR; True when it is done."""
        self._access = None
        reg = SysReg(cell.op0, cell.op1, cell.crn, cell.crm, cell.op2)
        if reg.crn == timers.CRN and reg.crm < CRM_EVENTS:
            return self.timer.on_access(reg, is_write, number, cell.value, blocks)
        if reg.crn == CRN_IDENTIFICATION and not is_write:
            return self._on_identification(reg, number)
        if is_write and reg == arch.VCPU_REGISTERS["MDSCR_EL1"]:
            blocks.note_steps(cell.value)
        if reg.op0 != 3 or not (is_monitor(reg) or is_gic(reg) or reg == ISR_EL1):
            return False
        if reg == ISR_EL1 and (is_write or not arch.current_el(self._cpu.get("PSTATE"))):
            return False
        access = RegisterAccess(self._cpu.get("PC"), reg, is_write, number, cell.value)
        if reg == ISR_EL1 or (is_monitor(reg) and not is_unknown_counter(reg)):
            return self._ask(access, system_register, blocks)
        # Unicorn would skip what it does not know for ever: it is answered when it reports it.
        self._access = access
        return False

    def on_undefined(self, system_register: SystemRegister, blocks: Blocks) -> bool:
        """An instruction that is UNDEFINED to Unicorn: whether it was an access, now answered."""
        access, self._access = self._access, None
        pc = self._cpu.get("PC")
        if access is None or access.pc != pc:
            return False
        if not (is_monitor(access.reg) or arch.current_el(self._cpu.get("PSTATE"))):
            return False
        if not self._ask(access, system_register, blocks):
            return False
        self._cpu.set("PC", pc + arch.INSN_SIZE)
        blocks.refund(pc + arch.INSN_SIZE)
        return True

    def _on_identification(self, reg: SysReg, number: int) -> bool:
        value = self._identification.get((reg.crm, reg.op2))
        if reg.op0 != 3 or reg.op1 or value is None:
            return False
        if not arch.current_el(self._cpu.get("PSTATE")):
            return False
        self._cpu.write_destination(number, value)
        return True

    def _ask(
        self, access: RegisterAccess, system_register: SystemRegister, blocks: Blocks
    ) -> bool:
        blocks.note_moment(access.pc)
        answer = system_register(
            access.reg, access.is_write, access.value if access.is_write else 0
        )
        if answer is not None and not access.is_write:
            self._cpu.write_destination(access.number, answer)
        return answer is not None
