"""The machine's seeded entropy: the same seed gives the same bits on every host."""

from __future__ import annotations

from dataclasses import dataclass

from emu.base.smccc import MASK64


@dataclass(slots=True)
class Splitmix:
    """The machine's seeded entropy: splitmix64 (Steele, Lea, Flood, OOPSLA 2014, fig. 17)."""

    state: int

    def word(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + 0x9E37_79B9_7F4A_7C15) & MASK64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9 & MASK64
        z = (z ^ z >> 27) * 0x94D0_49BB_1331_11EB & MASK64
        return z ^ z >> 31

    def bits(self, count: int) -> int:
        """`count` bits, whole words drawn as needed."""
        value = 0
        for shift in range(0, count, 64):
            value |= self.word() << shift
        return value & (1 << count) - 1
