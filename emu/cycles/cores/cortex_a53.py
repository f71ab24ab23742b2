"""Cortex-A53: two in-order slots, eight stages.

Stages and forwarding: little.py. Latencies: LLVM's AArch64SchedA53.td with TI's measurements over
it (overrides.toml). A predicted taken branch has a shadow in the fetch, which only the last branch
target, kept in a buffer of one entry, is spared (Cortex-A53 TRM, DDI 0500, "Program flow
prediction": BTIC): a loop on one block has none, every other taken branch costs one cycle, the
least that a shadow can be. A mispredicted branch costs LLVM's nine cycles ("based on Cortex-A53
Software Optimisation Specification").
"""

from __future__ import annotations

from emu.cycles.cores import llvm
from emu.cycles.cores.little import Halves, Pipeline, little
from emu.cycles.cores.overrides import load
from emu.cycles.model import CostModel

TAKEN = 1
MISPREDICTED = 9


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    table = load("cortex-a53", compatible=compatible)
    if compatible:
        return llvm.in_order(table)
    return little(table, Pipeline(), taken=TAKEN, halves=Halves())
