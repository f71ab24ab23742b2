"""The last exceptions a machine has taken, in the memory that both halves of the engine share.

Exceptions are entered in C or in Python (exceptions.py) and asked about afterwards: for the report
of a fault, and to notice a guest that takes the same one for ever.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from emu.arm.arch import EC_SVC64, exception_class


class Taken(NamedTuple):
    """An exception that was entered: the instruction, ESR_EL1, and FAR_EL1 where it was written."""

    pc: int
    esr: int
    far: int | None


class _Entry(ctypes.Structure):
    """`Taken` as C has it; all zero is none."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("pc", "esr", "far", "has_far", "valid")]

    def get(self) -> Taken | None:
        return Taken(self.pc, self.esr, self.far if self.has_far else None) if self.valid else None

    def set(self, taken: Taken | None) -> None:
        values = (0, 0, 0, 0, 0) if taken is None else (
            taken.pc, taken.esr, taken.far or 0, taken.far is not None, 1
        )
        self.pc, self.esr, self.far, self.has_far, self.valid = values


class ExceptionLog(ctypes.Structure):
    """The last exception, the one before it that was different, and how often it has repeated.

    An exception that repeats with the same syndrome, address and return address, while the
    guest has not even moved ELR_EL1 in between, is not being handled: after `LIMIT` of them the
    run is over. SVC is exempt: it returns behind itself, so a loop around one makes progress.
    """

    LIMIT = 1000
    _fields_ = [("_last", _Entry), ("_earlier", _Entry), ("repeats", ctypes.c_uint64)]

    repeats: int

    @property
    def last(self) -> Taken | None:
        last: Taken | None = self._last.get()
        return last

    @last.setter
    def last(self, taken: Taken | None) -> None:
        self._last.set(taken)

    @property
    def earlier(self) -> Taken | None:
        """The last one that differs from `last`."""
        earlier: Taken | None = self._earlier.get()
        return earlier

    @earlier.setter
    def earlier(self, taken: Taken | None) -> None:
        self._earlier.set(taken)

    @property
    def state(self) -> tuple[Taken | None, Taken | None, int]:
        """The last exception, the one before, the repetitions: for who puts a machine back."""
        return self.last, self.earlier, self.repeats

    @state.setter
    def state(self, state: tuple[Taken | None, Taken | None, int]) -> None:
        self.last, self.earlier, self.repeats = state

    def note(self, taken: Taken, old_elr: int) -> bool:
        """Keep one; True when it is one too many. `old_elr` is ELR_EL1 before it."""
        before = self.last
        if taken != before:
            self.earlier, self.last = before, taken
        stuck = taken == before and old_elr == taken.pc
        self.repeats = self.repeats + 1 if stuck and not _is_svc(taken.esr) else 0
        return self.repeats >= self.LIMIT


def _is_svc(esr: int) -> bool:
    return exception_class(esr) == EC_SVC64
