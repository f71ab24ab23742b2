"""Cortex-A53: two in-order slots, eight stages.

Stages and forwarding: little.py. Latencies: LLVM's AArch64SchedA53.td with TI's measurements over
it (overrides.toml). A predicted taken branch has a shadow in the fetch, which only the last branch
target, kept in a buffer of one entry, is spared (Cortex-A53 TRM, DDI 0500, "Program flow
prediction": BTIC): a loop on one block has none, every other taken branch costs one cycle, the
least that a shadow can be. A mispredicted branch costs LLVM's nine cycles ("based on Cortex-A53
Software Optimisation Specification").

Caches, as hierarchies.py reads them: NanoPi NEO4 (RK3399, 1509 MHz, 4pCK): 6.9, 10.9, 13.3 cycles
at 64, 128 and 256 KiB, so 13.8, 14.5 and 15.2 a miss: 14 from the second level; Hennessy and
Patterson (6th ed., 2.6) have 13. Memory 151 ns at 64 MiB.
"""

from __future__ import annotations

from emu.cycles.cores import llvm
from emu.cycles.cores.hierarchies import NO_LEVEL, Caches, Level
from emu.cycles.cores.little import Halves, Pipeline, little
from emu.cycles.cores.overrides import load
from emu.cycles.model import CostModel
from emu.cycles.system_prices import A53

TAKEN = 1
MISPREDICTED = 9
SYSTEM = A53
CACHES = Caches(
    "Rockchip RK3399", Level(32, 4), Level(32, 2), NO_LEVEL, Level(512, 16, 140, 48),
    1510, 470,
)  # fmt: skip


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    table = load("cortex-a53", compatible=compatible)
    if compatible:
        return llvm.in_order(table)
    return little(table, Pipeline(), taken=TAKEN, halves=Halves())
