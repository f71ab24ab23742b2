"""Taking an exception to EL1, done by hand.

Unicorn reports an exception and stops there: it writes no ESR, FAR or ELR, and never goes to
the vector. What the architecture does on entry (DDI 0487, AArch64.TakeException) is done here on
the register names below, in an order Unicorn needs: SPSR_EL1 last, through the system
register interface, because a write to PSTATE alone neither swaps SP nor rebuilds the cached
flags and the handler would run at the old level. `_exceptions.c:take` does the same.

Not modelled, because no core of Unicorn's has it: SSBS; and AArch32 at EL0 with its vectors at
+0x600, which the identification registers do not offer (identification.py).
"""

from __future__ import annotations

from typing import Protocol

from emu.arm.arch import (
    PSTATE_AFTER_EXCEPTION,
    PSTATE_PAN,
    PSTATE_SPSEL,
    SCTLR_SPAN,
    current_el,
    vector_offset,
)


class Registers(Protocol):
    """The registers exception entry works on, by name."""

    def get(self, name: str) -> int: ...

    def set(self, name: str, value: int) -> None: ...


def take_exception(
    registers: Registers,
    kind: int,
    syndrome: tuple[int, ...],
    return_address: int,
    *,
    has_pan: bool = False,
) -> int:
    """Enter EL1; returns the address of the vector, which PC now holds.

    `kind` is VECTOR_SYNC, VECTOR_IRQ, VECTOR_FIQ or VECTOR_SERROR. `syndrome` is ESR_EL1 and
    FAR_EL1, as far as the exception writes them: an interrupt writes neither.
    """
    pstate = registers.get("PSTATE")
    bank = "SP_EL1" if current_el(pstate) and pstate & PSTATE_SPSEL else "SP_EL0"
    registers.set(bank, registers.get("SP"))
    registers.set("ELR_EL1", return_address)
    for name, value in zip(("ESR_EL1", "FAR_EL1"), syndrome, strict=False):
        registers.set(name, value)
    vector = registers.get("VBAR_EL1") + vector_offset(pstate) + kind & 0xFFFF_FFFF_FFFF_FFFF
    stack = registers.get("SP_EL1")
    registers.set("PSTATE", PSTATE_AFTER_EXCEPTION | (_pan(registers, pstate) if has_pan else 0))
    registers.set("SP", stack)
    registers.set("SPSR_EL1", pstate)
    registers.set("PC", vector)
    return vector


def _pan(registers: Registers, pstate: int) -> int:
    """PSTATE.PAN after the exception: kept where SCTLR_EL1.SPAN is set, else set."""
    if registers.get("SCTLR_EL1") & SCTLR_SPAN:
        return pstate & PSTATE_PAN
    return PSTATE_PAN
