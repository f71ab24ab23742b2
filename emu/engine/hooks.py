"""Unicorn's hooks in Python, put together.

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
from typing import Any

from emu.engine.calls import Hypercall
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
    Context,
    Cpu,
)
from emu.engine.exceptions import Exceptions
from emu.engine.maintenance import Maintenance
from emu.engine.registers import SystemRegister
from emu.engine.taken import ExceptionLog


class PythonHooks(Exceptions):
    """The hooks without a compiler.

    `watched` is for the native half, and so is the log: here every exception goes to the handler.
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
        super().__init__(cpu, context, offsets[0], has_pan=has_pan)
        self.watched = False
        self._maintenance = Maintenance(cpu)
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
                running[0].on_block(address, size)
            except BaseException as failure:  # Ctrl-C
                running[0]._fail(failure)

        def on_interrupt(_uc: int, intno: int, _user: int) -> None:
            try:
                if running[0]._failure is None:  # else Unicorn is still unwinding
                    running[0].on_interrupt(intno, *running[1:])
            except BaseException as failure:
                running[0]._fail(failure)

        def on_access(is_write: bool) -> Any:
            def on(_uc: int, number: int, cell: Any, _user: int) -> int:
                try:
                    hooks, system_register = running[0], running[3]
                    return hooks._failure is None and hooks._registers.on_access(
                        cell[0], is_write, number, system_register, hooks
                    )
                except BaseException as failure:
                    running[0]._fail(failure)
                    return 0

            return MRS_CALLBACK(on)

        def on_sys(_uc: int, _number: int, cell: Any, _user: int) -> int:
            try:
                running[0]._maintenance.on_sys(cell[0], running[0])
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

    def use_timers(self, address: int) -> None:
        """The running vCPU's `Timers`; 0 for none."""
        self._registers.timer.use(address, self)

    def identify(self, crm: int, op2: int, value: int) -> None:
        """What MRS of the register 3, 0, c0, crm, op2 gives."""
        self._registers.identify(crm, op2, value)

    def start(
        self,
        pc: int,
        until: int,
        hypercall: Hypercall,
        exception: Callable[[int], Any],
        system_register: SystemRegister,
    ) -> int:
        """Run guest code until Unicorn stops; returns its uc_err."""
        self.asked = self.late = False
        self._registers.begin_run()
        self.look_at_steps()
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

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self.stop()
