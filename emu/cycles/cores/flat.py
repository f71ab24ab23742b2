"""Flat: every instruction takes one cycle.

What the emulator has counted from the beginning: cycles are instructions. It is wrong in a way that
is easy to reason about, and makes counts of cycles comparable between all guests.
"""

from __future__ import annotations

from emu.arm.arch import INSN_SIZE
from emu.cycles.model import SIXTEENTHS, BlockCost, CostModel

MISPREDICTED = 0


class Flat:
    """The core."""

    name = "flat"
    width = 1

    def block(self, code: bytes) -> BlockCost:
        """One cycle for each word."""
        return BlockCost(tuple(range(0, len(code) // INSN_SIZE * SIXTEENTHS + 1, SIXTEENTHS)))


def model(*, compatible: bool = False) -> CostModel:
    """The core; LLVM has nothing to say about it."""
    return Flat()
