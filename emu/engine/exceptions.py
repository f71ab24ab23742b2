"""What Unicorn reports: who answers it, and entering EL1. `_exceptions.c` says the same in C.

There, what nobody wants to hear of is taken at once. Here every exception goes to the handler
(engine.py:Engine._on_exception), which does as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emu.arm import arch
from emu.arm.el1 import take_exception
from emu.base.smccc import Conduit
from emu.cycles.tracks import IRQ
from emu.engine.blocks import Blocks
from emu.engine.calls import Calls, Hypercall
from emu.engine.cpu import Context, Cpu
from emu.engine.registers import Registers, SystemRegister

INTR_UNDEFINED, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT = 1, 2, 3, 4
INTR_BRK, INTR_HVC, INTR_SMC = 7, 11, 13
"""Exception numbers in an INTR hook (unicorn 2.1.4 qemu/target/arm/cpu.h: EXCP_*)."""
CONDUITS = {INTR_HVC: Conduit.HVC, INTR_SMC: Conduit.SMC}
NAMED = ("PC", "PSTATE", "SP", "SP_EL0", "SP_EL1", "ELR_EL1", "ESR_EL1", "FAR_EL1", "VBAR_EL1")
"""What `_exceptions.c` takes an exception with, in the order of `_hooks.h:Numbers`."""


def exception_key(kind: int, syndrome: tuple[int, ...]) -> int:
    """What an exception is told as (tracks.py): its class, or which of those that have none."""
    if kind == arch.VECTOR_SYNC:
        return arch.exception_class(syndrome[0])
    return IRQ + kind // arch.VECTOR_IRQ - 1


class Exceptions(Blocks):
    """Blocks, and what ends them before their end."""

    def __init__(self, cpu: Cpu, context: Context, offset: int, *, has_pan: bool) -> None:
        super().__init__(cpu)
        self._registers = Registers(cpu)
        self._calls = Calls(cpu, context, offset)
        self._has_pan = has_pan

    def take(self, kind: int, syndrome: tuple[int, ...], return_address: int) -> int:
        """Enter EL1: `syndrome` is (), (ESR,) or (ESR, FAR); returns the vector's address."""
        vector = take_exception(
            self._cpu, kind, syndrome, return_address, has_pan=self._has_pan
        )
        self._exception(exception_key(kind, syndrome), return_address)
        return vector

    def on_interrupt(
        self,
        intno: int,
        hypercall: Hypercall,
        exception: Callable[[int], Any],
        system_register: SystemRegister,
    ) -> None:
        """Unicorn reports exception `intno`."""
        conduit = CONDUITS.get(intno)
        if conduit is not None:
            if not self._calls.answer(conduit, hypercall):
                self.stop()
        elif intno != INTR_UNDEFINED or not self._registers.on_undefined(system_register, self):
            exception(intno)
