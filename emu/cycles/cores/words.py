"""From a word to its timing, with a documented default for what no table knows.

A word without a row costs what most instructions do: one micro-op, its results one cycle later, no
port of its own. Those are SVE, SME, instructions newer than the core's LLVM model, and words that
are none at all; they are counted in `BlockCost.unknown`. System instructions have their own table
(system_prices.py) and stall for what it says.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from emu.arm.a64 import Flag, Insn, Role, Slot, decode
from emu.arm.arch import INSN_SIZE
from emu.cycles.cores import system_costs
from emu.cycles.cores.tables import CoreTable, Issue, Timing
from emu.cycles.model import SIXTEENTHS

UNKNOWN = Timing(
    uops=1, throughput=SIXTEENTHS, ports=(), latency=(SIXTEENTHS,) * len(Slot),
    writes=(0,) * len(Slot), reads=(0,) * len(Role), issue=Issue.NONE,
)  # fmt: skip
"""The default."""


class Word(NamedTuple):
    """An instruction with its timing; `stall` in cycles, for system instructions."""

    insn: Insn
    timing: Timing
    stall: int
    known: bool


def look_up(table: CoreTable, word: int, *, compatible: bool) -> Word:
    """What a word is and costs on a core."""
    insn = decode(word)
    timing = table.lookup(insn.key)
    if timing is None and insn.key.startswith("sys_"):
        cost = system_costs(table.name).get(insn.key) if not compatible else None
        return Word(insn, UNKNOWN, cost.cycles if cost else 0, True)
    if timing is None:
        return Word(insn, UNKNOWN, 0, bool(insn.flags & Flag.NOP))
    return Word(insn, timing, 0, True)


def words_of(code: bytes) -> tuple[int, ...]:
    """The words of a block, on every host."""
    return struct.unpack(f"<{len(code) // INSN_SIZE}I", code)


def cycles(sixteenths: int) -> int:
    """Whole cycles, to the nearest."""
    return (sixteenths + SIXTEENTHS // 2) // SIXTEENTHS
