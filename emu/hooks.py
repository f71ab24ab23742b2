"""Unicorn's hooks in Python, and what they share with the rest of the engine.

`PythonHooks` counts, compares the deadline, reads the counter registers and turns an HVC or SMC
into one call of a Python function; `_native.c` says the same in C, and a test holds the two to
one result. It decides nothing. Hooks are registered with Unicorn's library directly: a call
through its Python class for every block costs more than the block.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from emu import arch
from emu.cpu import (
    BLOCK_CALLBACK,
    HOOK_BLOCK,
    HOOK_INSN,
    HOOK_INTR,
    INS_MRS,
    INTR_CALLBACK,
    MRS_CALLBACK,
    Context,
    Cpu,
)
from emu.smccc import Conduit

INTR_UNDEFINED, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT = 1, 2, 3, 4
INTR_BRK, INTR_HVC, INTR_SMC = 7, 11, 13
"""Exception numbers in an INTR hook (unicorn 2.1.4 qemu/target/arm/cpu.h: EXCP_*)."""
CRN_TIMER, OP2_CNTPCT, OP2_CNTVCT = arch.CNTVCT_EL0.crn, arch.CNTPCT_EL0.op2, arch.CNTVCT_EL0.op2
TIMERS, OP2_TVAL, OP2_CVAL = (2, 3), 0, 2
"""CNTPCT_EL0 and CNTVCT_EL0; CRm of CNTP_* and CNTV_*, which are not modelled: a timer keeps
nothing, compares with zero, and is not answered from the host's clock as Unicorn would."""
NEVER = (1 << 64) - 1
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


class PythonHooks:
    """The hooks without a compiler."""

    def __init__(
        self, cpu: Cpu, context: Context, syndrome_offset: int, cycles_per_tick: int
    ) -> None:
        self.instructions = self.cycles = 0
        self.deadline = NEVER
        self.asked = self.late = False
        self._cpu, self._lib, self._context = cpu, cpu.lib, context
        self._syndrome = ctypes.c_uint32.from_address(context.address + syndrome_offset)
        self._tick = cycles_per_tick
        self._block_start = self._block_size = 0
        self._failure: BaseException | None = None
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
                running[0]._on_interrupt(intno, running[1], running[2])
            except BaseException as failure:
                running[0]._fail(failure)

        def on_mrs(_uc: int, destination: int, reg: Any, _user: int) -> int:
            return int(running[0]._on_mrs(destination, *reg[0:5]))

        cpu.hook(HOOK_BLOCK, BLOCK_CALLBACK(on_block))
        cpu.hook(HOOK_INTR, INTR_CALLBACK(on_interrupt))
        cpu.hook(HOOK_INSN, MRS_CALLBACK(on_mrs), ctypes.c_int(INS_MRS))

    def start(
        self, pc: int, until: int, hypercall: Callable[..., Any], exception: Callable[[int], Any]
    ) -> int:
        """Run guest code until Unicorn stops; returns its uc_err."""
        self.asked = self.late = False
        self._running[:] = self, hypercall, exception
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

    def refund(self, pc: int) -> None:
        """Take back the part of the current block that starts at pc."""
        unexecuted = self.cycles - self._cycles_at(pc)
        self.cycles -= unexecuted
        self.instructions -= unexecuted
        self._block_size -= unexecuted * arch.INSN_SIZE

    def _cycles_at(self, pc: int) -> int:
        inside = pc - self._block_start
        if not 0 <= inside <= self._block_size:
            return self.cycles
        return self.cycles - (self._block_size - inside) // arch.INSN_SIZE

    def _on_block(self, address: int, size: int) -> None:
        if self.cycles >= self.deadline:
            self.late = True
            self._cpu.stop()
            return
        self._block_start, self._block_size = address, size
        self.instructions += size // arch.INSN_SIZE
        self.cycles += size // arch.INSN_SIZE

    def _on_mrs(
        self, destination: int, crn: int, crm: int, op0: int, op1: int, op2: int
    ) -> bool:
        if crn != CRN_TIMER or op0 != 3 or op1 != 3:
            return False
        value = self._cycles_at(self._cpu.get("PC")) // self._tick
        if crm in TIMERS and op2 == OP2_TVAL:
            value = -value & 0xFFFF_FFFF
        elif crm in TIMERS and op2 == OP2_CVAL:
            value = 0
        elif crm or op2 not in (OP2_CNTPCT, OP2_CNTVCT):
            return False
        self._cpu.write_destination(destination, value)
        return True

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self.stop()

    def _on_interrupt(
        self, intno: int, hypercall: Callable[..., Any], exception: Callable[[int], Any]
    ) -> None:
        if self._failure is not None:  # Unicorn is still unwinding: nothing more is answered
            return
        if intno in (INTR_HVC, INTR_SMC):
            self._on_hypercall(intno, hypercall)
        else:
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
