"""Taking an exception to EL1, done by hand.

Unicorn reports an exception and stops there: it writes no ESR, FAR or ELR, and never goes to
the vector. What the architecture does on entry (DDI 0487, AArch64.TakeException) is done here on
the register names below, in an order Unicorn needs: SPSR_EL1 last, through the system
register interface, because a write to PSTATE alone neither swaps SP nor rebuilds the cached
flags and the handler would run at the old level.

Not modelled, because the Cortex-A72 has none of it: PAN with SCTLR_EL1.SPAN, SSBS, and
AArch32 at EL0 with its vectors at +0x600.
"""

from __future__ import annotations

from typing import Protocol

from emu.arch import (
    PSTATE_AFTER_EXCEPTION,
    PSTATE_SPSEL,
    current_el,
    vector_offset,
)


class Registers(Protocol):
    """The registers exception entry works on, by name."""

    def get(self, name: str) -> int: ...

    def set(self, name: str, value: int) -> None: ...


def take_exception(registers: Registers, esr: int, far: int | None, return_address: int) -> int:
    """Enter EL1 with this syndrome; returns the address of the vector, which PC now holds.

    `far` is None for an exception that leaves FAR_EL1 as it is.
    """
    pstate = registers.get("PSTATE")
    bank = "SP_EL1" if current_el(pstate) and pstate & PSTATE_SPSEL else "SP_EL0"
    registers.set(bank, registers.get("SP"))
    registers.set("ELR_EL1", return_address)
    registers.set("ESR_EL1", esr)
    if far is not None:
        registers.set("FAR_EL1", far)
    vector = registers.get("VBAR_EL1") + vector_offset(pstate) & 0xFFFF_FFFF_FFFF_FFFF
    stack = registers.get("SP_EL1")
    registers.set("PSTATE", PSTATE_AFTER_EXCEPTION)
    registers.set("SP", stack)
    registers.set("SPSR_EL1", pstate)
    registers.set("PC", vector)
    return vector


class StormWatch:
    """Notices a guest that takes the same exception for ever.

    An exception that repeats with the same syndrome, address and return address, while the
    guest has not even moved ELR_EL1 in between, is not being handled: after `LIMIT` of them the
    run is over. SVC is exempt: it returns behind itself, so a loop around one makes progress.
    """

    LIMIT = 1000
    __slots__ = ("_last", "_repeats")

    def __init__(self) -> None:
        self._last: tuple[int, int | None, int] | None = None
        self._repeats = 0

    @property
    def state(self) -> tuple[tuple[int, int | None, int] | None, int]:
        """The last exception as (ESR, FAR, return address), and how often it has repeated."""
        return self._last, self._repeats

    @state.setter
    def state(self, state: tuple[tuple[int, int | None, int] | None, int]) -> None:
        self._last, self._repeats = state

    def repeats(self, esr: int, far: int | None, return_address: int, old_elr: int) -> bool:
        """Count one exception; True when it is one too many."""
        event = (esr, far, return_address)
        if event == self._last and old_elr == return_address:
            self._repeats += 1
        else:
            self._repeats = 0
        self._last = event
        return self._repeats >= self.LIMIT
