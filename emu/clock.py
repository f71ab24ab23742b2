"""The only time there is: cycles of the emulated machine.

No part of the emulator reads the host's clock for anything a guest can see. One retired
instruction is one cycle until a core model says otherwise, a cycle is one nanosecond, and
the generic timer's counter ticks at the 62.5 MHz that QEMU's `virt` machine has, so every
count a guest reads is a function of what has been executed.
"""

from __future__ import annotations

from typing import Protocol

CYCLES_PER_SECOND = 1_000_000_000
COUNTER_HZ = 62_500_000
"""CNTFRQ_EL0 of QEMU's virt machine (qemu v7.2 target/arm/internals.h:GTIMER_SCALE, 16 ns)."""
CYCLES_PER_TICK = CYCLES_PER_SECOND // COUNTER_HZ
EPOCH_NS = 1_767_225_600 * 1_000_000_000
"""Wall-clock time at cycle 0: 2026-01-01T00:00:00Z, chosen so that runs are reproducible."""


class CycleSource(Protocol):
    """Whatever counts cycles: the engine, or the default of a clock that stands alone."""

    cycles: int


class _Still:
    """A source that never advances by itself."""

    def __init__(self) -> None:
        self.cycles = 0


class Clock:
    """Cycles, and the units guests see them in."""

    __slots__ = ("_source", "epoch_ns")

    def __init__(self, source: CycleSource | None = None, *, epoch_ns: int = EPOCH_NS) -> None:
        self._source: CycleSource = source or _Still()
        self.epoch_ns = epoch_ns

    @property
    def cycles(self) -> int:
        """Cycles since the machine was switched on."""
        return self._source.cycles

    @property
    def nanoseconds(self) -> int:
        """The same in nanoseconds."""
        return self.cycles * 1_000_000_000 // CYCLES_PER_SECOND

    @property
    def counter(self) -> int:
        """CNTPCT_EL0 and, with no offset set, CNTVCT_EL0: ticks of `COUNTER_HZ`."""
        return self.cycles // CYCLES_PER_TICK

    @property
    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as a guest would learn them from its host."""
        return self.epoch_ns + self.nanoseconds

    def jump(self, cycles: int) -> None:
        """Let time pass while nothing runs."""
        if cycles < 0:
            raise ValueError("time does not run backwards")
        self._source.cycles += cycles
