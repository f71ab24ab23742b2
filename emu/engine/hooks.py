"""Unicorn's hooks in Python, and what they share with the rest of the engine.

`PythonHooks` counts, compares deadlines, keeps the generic timer's registers, enters the exceptions
that nobody wants to hear of, notices an interrupt that is no longer masked, and turns an HVC, an
SMC or an access to a system register that is not modelled here into one call of a Python
function; `_hooks.c` says the same in C, and a test holds the two to one result. Hooks are
registered with Unicorn's library directly: a call through its Python class for every block costs
more than the block.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from emu.arm import arch, pmu, timers
from emu.arm.arch import SysReg
from emu.arm.el1 import take_exception
from emu.arm.timers import NEVER, Timers
from emu.base.smccc import Conduit
from emu.cycles.counter import Counter
from emu.cycles.tracks import IRQ
from emu.engine.cpu import (
    BLOCK_CALLBACK,
    HOOK_BLOCK,
    HOOK_INSN,
    HOOK_INTR,
    HOOK_MEM,
    INS_MRS,
    INS_MSR,
    INS_SYS,
    INTR_CALLBACK,
    MEM_WRITE,
    MEMORY_CALLBACK,
    MRS_CALLBACK,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    Context,
    CpReg,
    Cpu,
)
from emu.engine.taken import ExceptionLog

INTR_UNDEFINED, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT = 1, 2, 3, 4
INTR_BRK, INTR_HVC, INTR_SMC = 7, 11, 13
"""Exception numbers in an INTR hook (unicorn 2.1.4 qemu/target/arm/cpu.h: EXCP_*)."""
CRN_IDENTIFICATION, CRN_PRIORITY, CRN_MONITOR, CRN_GIC = 0, 4, 9, 12
CRM_PRIORITY, CRM_EVENTS = 6, 8
KNOWN_COUNTERS = 4
"""Of the monitor, in Unicorn (2.1.4 qemu/target/arm/helper.c:define_pmu_regs, pmcrn)."""
"""System registers: ID_AA64*, ICC_PMR_EL1, PM*, ICC_*; and PMEV*, behind the timers' of CRn 14."""
LINE, LOOP = 64, 4
"""Bytes of an instruction cache line (CTR_EL0.IminLine of every core here), and at most how many
instructions a loop over lines has from one IC IVAU to the next."""
IC_IVAU = SysReg(1, 3, 7, 5, 1)
IC_IALLU, IC_IALLUIS = SysReg(1, 0, 7, 5, 0), SysReg(1, 0, 7, 1, 0)
MDSCR_STEPS = 1 << 13 | 1 << 0
"""MDSCR_EL1.KDE and SS (DDI 0487, D2 "Software Step exceptions")."""
ARGUMENTS, REPLIES = 8, 18
"""x0–x7 are read for a call; a reply writes at most x0–x17 (DEN0028)."""


def check_reply(reply: object) -> None:
    """Refuse what no register can hold, as `_native.c:write_reply` does."""
    if not isinstance(reply, tuple) or len(reply) > REPLIES:
        raise TypeError("a reply is None or a tuple of at most 18 integers")
    for value in reply:
        if not isinstance(value, int):
            raise TypeError(f"a register holds an integer, not {value!r}")
        if not 0 <= value <= NEVER:
            raise OverflowError(f"a register holds 64 bits, not {value:#x}")


def exception_key(kind: int, syndrome: tuple[int, ...]) -> int:
    """What an exception is told as (tracks.py): its class, or which of those that have none."""
    if kind == arch.VECTOR_SYNC:
        return arch.exception_class(syndrome[0])
    return IRQ + kind // arch.VECTOR_IRQ - 1


class RegisterAccess(NamedTuple):
    """An MRS or MSR that Unicorn may not know: Unicorn's number of the register it names in Xt."""

    pc: int
    reg: SysReg
    is_write: bool
    number: int
    value: int


SystemRegister = Callable[[SysReg, bool, int], int | None]
"""Reads a register, or writes it and gives anything; None where there is no such register."""


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


class PythonHooks(Counter):
    """The hooks without a compiler.

    `interrupts` has PSTATE.I and PSTATE.F of interrupts that are pending: no block starts where
    one of them is clear. `exact` is the cycle of the access a system register's handler is asked
    about. `watched` is for the native half: here every exception goes to the handler.
    """

    def __init__(
        self,
        cpu: Cpu,
        context: Context,
        offsets: tuple[int, int],
        log: ExceptionLog,
        *,
        has_pan: bool,
    ) -> None:
        super().__init__(cpu.read_code)
        self.exact = self.exact_instructions = 0
        self.deadline = self._expiry = NEVER
        self.interrupts = 0
        self.asked = self.late = self.stale = self.watched = False
        self._steps = self._looked = False
        self._cleaned = self._cleaned_at = NEVER
        self._cpu, self._lib, self._context = cpu, cpu.lib, context
        self._syndrome = ctypes.c_uint32.from_address(context.address + offsets[0])
        self._has_pan = has_pan
        self._timers: Timers | None = None
        self._identification: dict[tuple[int, int], int] = {}
        self._access: RegisterAccess | None = None
        self._failure: BaseException | None = None
        self._hears_memory = False
        # The callbacks find the hooks through this cell, filled only while start() runs, so
        # that no reference cycle keeps a finished engine and its memory alive.
        self._running: list[Any] = []
        self._add_hooks(cpu, self._running)

    @staticmethod
    def _add_hooks(cpu: Cpu, running: list[Any]) -> None:
        def on_block(_uc: int, address: int, size: int, _user: int) -> None:
            try:
                running[0]._on_block(address, size)
            except BaseException as failure:  # Ctrl-C
                running[0]._fail(failure)

        def on_interrupt(_uc: int, intno: int, _user: int) -> None:
            try:
                running[0]._on_interrupt(intno, *running[1:])
            except BaseException as failure:
                running[0]._fail(failure)

        def on_access(is_write: bool) -> Any:
            def on(_uc: int, number: int, cell: Any, _user: int) -> int:
                try:
                    return int(running[0]._on_access(cell[0], is_write, number, running[3]))
                except BaseException as failure:
                    running[0]._fail(failure)
                    return 0

            return MRS_CALLBACK(on)

        def on_sys(_uc: int, _number: int, cell: Any, _user: int) -> int:
            try:
                running[0]._on_sys(cell[0])
            except BaseException as failure:
                running[0]._fail(failure)
            return 0

        cpu.hook(HOOK_BLOCK, BLOCK_CALLBACK(on_block))
        cpu.hook(HOOK_INTR, INTR_CALLBACK(on_interrupt))
        cpu.hook(HOOK_INSN, on_access(False), ctypes.c_int(INS_MRS))
        cpu.hook(HOOK_INSN, on_access(True), ctypes.c_int(INS_MSR))
        cpu.hook(HOOK_INSN, MRS_CALLBACK(on_sys), ctypes.c_int(INS_SYS))

    def cache(self, mine: int, hierarchy: int, shared: int) -> None:
        """As `Counter` does; loads and stores are heard of from the first time on."""
        super().cache(mine, hierarchy, shared)
        if not mine or self._hears_memory:
            return
        self._hears_memory, running = True, self._running

        def on_memory(_uc: int, kind: int, address: int, *_: int) -> None:
            try:
                running[0].access(address, kind == MEM_WRITE)
            except BaseException as failure:
                running[0]._fail(failure)

        self._cpu.hook(HOOK_MEM, MEMORY_CALLBACK(on_memory))

    def _physical(self, address: int) -> int:
        found = self._cpu.translate(address, PROT_EXEC)
        return address if found is None else found

    def start(
        self,
        pc: int,
        until: int,
        hypercall: Callable[..., Any],
        exception: Callable[[int], Any],
        system_register: SystemRegister,
    ) -> int:
        """Run guest code until Unicorn stops; returns its uc_err."""
        self.asked = self.late = False
        self._access = None
        self._look_at_steps()
        self._running[:] = self, hypercall, exception, system_register
        previous = sys.unraisablehook

        def keep(unraisable: sys.UnraisableHookArgs) -> None:
            # Ctrl-C on the way into a callback, before its `try`: ctypes would print and forget it.
            if unraisable.exc_value and "ctypes callback" in (unraisable.err_msg or ""):
                self._fail(unraisable.exc_value)
            else:
                previous(unraisable)

        sys.unraisablehook = keep
        try:
            error = self._cpu.start(pc, until)
        finally:
            sys.unraisablehook = previous
            self._running.clear()
        try:
            if self._failure is not None:
                raise self._failure
        finally:
            self._failure = None
        return error

    def stop(self) -> None:
        """Ask the running start() to return after this hook."""
        self.asked = True
        self._cpu.stop()

    def use_timers(self, address: int) -> None:
        """The running vCPU's `Timers`; 0 for none."""
        self._timers = Timers.from_address(address) if address else None
        self._rearm(self.cycles)

    def identify(self, crm: int, op2: int, value: int) -> None:
        """What MRS of the register 3, 0, c0, crm, op2 gives."""
        self._identification[crm, op2] = value

    def take(self, kind: int, syndrome: tuple[int, ...], return_address: int) -> int:
        """Enter EL1: `syndrome` is (), (ESR,) or (ESR, FAR); returns the vector's address."""
        vector = take_exception(
            self._cpu, kind, syndrome, return_address, has_pan=self._has_pan
        )
        self._exception(exception_key(kind, syndrome), return_address)
        return vector

    # -- time -------------------------------------------------------------------------------

    def _on_block(self, address: int, size: int) -> None:
        if (
            self.cycles >= self.deadline or self.cycles >= self._expiry or self.stale
            or (self.interrupts and self.interrupts & ~self._cpu.get("PSTATE"))
            or (self._steps and not self._looked and not self._cpu.get("PSTATE") & arch.PSTATE_D)
        ):
            self.late = True
            self._cpu.stop()
            return
        self._looked = False
        self.begin(address, size)

    def _look_at_steps(self) -> None:
        """Have Unicorn see that MDSCR_EL1 asks for software step at EL1.

        It works that out when a system register is written and at ERET, and forgets to at MSR
        DAIFClr (unicorn 2.1.4 qemu/target/arm/helper-a64.c:msr_i_daifclear). So, while both bits
        are set, a block with PSTATE.D clear starts only right after the register was written.
        """
        value = self._cpu.get("MDSCR_EL1")
        self._steps = self._looked = value & MDSCR_STEPS == MDSCR_STEPS
        if self._steps:
            self._cpu.set("MDSCR_EL1", value)

    def _rearm(self, cycles: int) -> None:
        self._expiry = self._timers.expiry(cycles) if self._timers else NEVER

    # -- system registers -------------------------------------------------------------------

    def _on_access(
        self, cell: CpReg, is_write: bool, number: int, system_register: SystemRegister
    ) -> bool:
        """One MRS or MSR; True when it is done."""
        self._access = None
        if self._failure is not None:
            return False
        reg = SysReg(cell.op0, cell.op1, cell.crn, cell.crm, cell.op2)
        if reg.crn == timers.CRN and reg.crm < CRM_EVENTS:
            return self._on_timer(reg, is_write, number, cell.value)
        if reg.crn == CRN_IDENTIFICATION and not is_write:
            return self._on_identification(reg, number)
        if is_write and reg == arch.VCPU_REGISTERS["MDSCR_EL1"]:
            self._steps = cell.value & MDSCR_STEPS == MDSCR_STEPS
        if reg.op0 != 3 or not (is_monitor(reg) or is_gic(reg)):
            return False
        access = RegisterAccess(self._cpu.get("PC"), reg, is_write, number, cell.value)
        if is_monitor(reg) and not is_unknown_counter(reg):
            return self._ask(access, system_register)
        # Unicorn would skip what it does not know for ever: it is answered when it reports it.
        self._access = access
        return False

    def _on_timer(self, reg: SysReg, is_write: bool, number: int, value: int) -> bool:
        if reg.op0 != 3 or reg.op1 != 3 or self._timers is None or not self._may_use(reg):
            return False
        cycles = self.cycles_at(self._cpu.get("PC"))
        if is_write:
            done = self._timers.write(reg, value, cycles)
            self._rearm(cycles)
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

    def _on_identification(self, reg: SysReg, number: int) -> bool:
        value = self._identification.get((reg.crm, reg.op2))
        if reg.op0 != 3 or reg.op1 or value is None:
            return False
        if not arch.current_el(self._cpu.get("PSTATE")):
            return False
        self._cpu.write_destination(number, value)
        return True

    def _ask(self, access: RegisterAccess, system_register: SystemRegister) -> bool:
        self.exact = self.cycles_at(access.pc)
        self.exact_instructions = self.instructions_at(access.pc)
        answer = system_register(
            access.reg, access.is_write, access.value if access.is_write else 0
        )
        if answer is not None and not access.is_write:
            self._cpu.write_destination(access.number, answer)
        return answer is not None

    def _on_undefined(self, system_register: SystemRegister) -> bool:
        """An instruction that is UNDEFINED to Unicorn: whether it was an access, now answered."""
        access, self._access = self._access, None
        pc = self._cpu.get("PC")
        if access is None or access.pc != pc:
            return False
        if not (is_monitor(access.reg) or arch.current_el(self._cpu.get("PSTATE"))):
            return False
        if not self._ask(access, system_register):
            return False
        self._cpu.set("PC", pc + arch.INSN_SIZE)
        self.refund(pc + arch.INSN_SIZE)
        return True

    # -- caches -----------------------------------------------------------------------------

    def _on_sys(self, cell: CpReg) -> None:
        """Cache maintenance by which a guest says that it has changed code."""
        instruction = SysReg(cell.op0, cell.op1, cell.crn, cell.crm, cell.op2)[1:]
        if instruction == IC_IVAU[1:]:
            self._forget_line(cell.value & ~(LINE - 1))
        elif instruction in (IC_IALLU[1:], IC_IALLUIS[1:]):
            self.stale = True  # no block starts before all code is forgotten (engine.py)
        else:
            self._cleaned = NEVER

    def _forget_line(self, line: int) -> None:
        """IC IVAU: drop what was translated from the page of a line.

        Unicorn itself notices stores to code only through mappings that are executable too
        (unicorn 2.1.4 qemu/accel/tcg/cputlb.c:notdirty_write); Linux writes a program through
        another. Unicorn looks the page up as for a fetch: where that is not allowed, for a
        moment without the MMU. A loop over the lines of one page is one.
        """
        now = self.instructions_at(self._cpu.get("PC"))
        goes_on = line == self._cleaned + LINE and line % PAGE and now - self._cleaned_at <= LOOP
        self._cleaned, self._cleaned_at = line, now
        if goes_on:
            return
        if self._cpu.translate(line, PROT_EXEC) is not None:
            self._cpu.forget_page(line)
        elif (physical := self._cpu.translate(line, PROT_READ)) is not None:
            sctlr = self._cpu.get("SCTLR_EL1")
            self._cpu.set("SCTLR_EL1", sctlr & ~arch.SCTLR_M)
            self._cpu.forget_page(physical)
            self._cpu.set("SCTLR_EL1", sctlr)

    # -- traps ------------------------------------------------------------------------------

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self.stop()

    def _on_interrupt(
        self,
        intno: int,
        hypercall: Callable[..., Any],
        exception: Callable[[int], Any],
        system_register: SystemRegister,
    ) -> None:
        if self._failure is not None:  # Unicorn is still unwinding: nothing more is answered
            return
        if intno in (INTR_HVC, INTR_SMC):
            self._on_hypercall(intno, hypercall)
        elif intno != INTR_UNDEFINED or not self._on_undefined(system_register):
            exception(intno)

    def _on_hypercall(self, intno: int, hypercall: Callable[..., Any]) -> None:
        self._lib.uc_context_save(self._cpu.handle, self._context.pointer)
        conduit = Conduit.HVC if intno == INTR_HVC else Conduit.SMC
        x = self._cpu.read_x(ARGUMENTS)
        reply = hypercall(conduit, self._syndrome.value & 0xFFFF, x)
        if reply is None:
            self.stop()
        else:
            check_reply(reply)
            self._cpu.write_x(reply)


NAMED = ("PC", "PSTATE", "SP", "SP_EL0", "SP_EL1", "ELR_EL1", "ESR_EL1", "FAR_EL1", "VBAR_EL1")
"""What `_hooks.c` takes an exception with, in the order of its `Numbers`."""
