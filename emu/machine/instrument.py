"""Optional hooks for those who watch a run: tracing, verdicts, coverage.

An instrument changes nothing. Subclass `Instrument` and override what you want to hear of; a
run without instruments pays for none of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emu.base.exits import Exit
from emu.base.smccc import Call


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call with its answer, and who answered why.

    `answer` is a `Ret`, an `Exit` or `UNDEF`; for a forwarded call it is the reply its receiver
    gave. `pc` is the address of the HVC or SMC itself.
    """

    cycles: int
    instructions: int
    pc: int
    call: Call
    answer: Any
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class ExceptionRecord:
    """One exception taken to EL1. `far` is None where the exception does not write FAR_EL1."""

    cycles: int
    instructions: int
    vcpu: int
    pc: int
    vector: int
    esr: int
    far: int | None


class Instrument:
    """Somebody who watches."""

    def on_call(self, record: CallRecord) -> None:
        """A call was answered."""

    def on_exception(self, record: ExceptionRecord) -> None:
        """An exception was entered at EL1."""

    def on_exit(self, exit: Exit) -> None:
        """`run()` is about to return this."""
