"""The only time there is: cycles of the emulated machine.

No part of the emulator reads the host's clock for anything a guest can see. How many cycles an
instruction takes is the core model's (model.py), how long a cycle is the frequency's, 1 GHz unless
`--freq` says otherwise, and the generic timer's counter ticks at the 62.5 MHz that QEMU's `virt`
machine has: every count a guest reads is a function of what has been executed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from emu.base.errors import EmuError

DEFAULT_HZ = 1_000_000_000
"""A cycle of one nanosecond: our choice, so that cycles read as nanoseconds."""
MIN_HZ, MAX_HZ = 1_000_000, 10_000_000_000
COUNTER_HZ = 62_500_000
"""CNTFRQ_EL0 of QEMU's virt machine (qemu v7.2 target/arm/internals.h:GTIMER_SCALE, 16 ns)."""
NS = 1_000_000_000
EPOCH_NS = 1_767_225_600 * NS
"""Wall-clock time at cycle 0: 2026-01-01T00:00:00Z, chosen so that runs are reproducible."""


class Rate(NamedTuple):
    """The counter beside the core: `ticks` of the counter in `cycles` of the core, reduced."""

    ticks: int
    cycles: int


def rate_of(hz: int) -> Rate:
    """The rate of a core of this frequency; EmuError where none has it."""
    if not MIN_HZ <= hz <= MAX_HZ:
        raise EmuError(f"a core of {hz:,} Hz: give a frequency from 1 MHz to 10 GHz, such as 1.5G")
    common = math.gcd(COUNTER_HZ, hz)
    return Rate(COUNTER_HZ // common, hz // common)


DEFAULT_RATE = rate_of(DEFAULT_HZ)


class CycleSource(Protocol):
    """Whatever counts cycles: the engine, or the default of a clock that stands alone."""

    cycles: int


class _Still:
    """A source that never advances by itself."""

    def __init__(self) -> None:
        self.cycles = 0


class Clock:
    """Cycles, and the units guests see them in; `hz` is how many there are in a second."""

    __slots__ = ("_source", "epoch_ns", "hz", "rate")

    def __init__(
        self, source: CycleSource | None = None, *, epoch_ns: int = EPOCH_NS, hz: int = DEFAULT_HZ
    ) -> None:
        self._source: CycleSource = source or _Still()
        self.epoch_ns = epoch_ns
        self.hz, self.rate = hz, rate_of(hz)

    @property
    def cycles(self) -> int:
        """Cycles since the machine was switched on."""
        return self._source.cycles

    @property
    def nanoseconds(self) -> int:
        """The same in nanoseconds."""
        return self.nanoseconds_in(self.cycles)

    def nanoseconds_in(self, cycles: int) -> int:
        """How long so many cycles take, the part of a nanosecond left out."""
        return cycles * NS // self.hz

    def cycles_in(self, nanoseconds: int) -> int:
        """The cycles after which so many nanoseconds have passed."""
        return -(-nanoseconds * self.hz // NS)

    @property
    def counter(self) -> int:
        """CNTPCT_EL0 and, with no offset set, CNTVCT_EL0: ticks of `COUNTER_HZ`."""
        return self.cycles * self.rate.ticks // self.rate.cycles

    @property
    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as a guest would learn them from its host."""
        return self.epoch_ns + self.nanoseconds

    def jump(self, cycles: int) -> None:
        """Let time pass while nothing runs."""
        if cycles < 0:
            raise ValueError("time does not run backwards")
        self._source.cycles += cycles
