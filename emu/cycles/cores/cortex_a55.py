"""Cortex-A55: the Cortex-A53's pipeline with separate load and store pipes and an earlier address.

GCC schedules for it with the A53's stages (gcc 10 gcc/config/aarch64/aarch64-cores.def). LLVM's
AArch64SchedA55.td, made from Arm's Cortex-A55 Software Optimization Guide, differs in two points,
taken from there: an address is read one cycle later than on the A53 (so that a load feeds the next
one's address after two cycles), and a load feeds arithmetic after three.

Its first-level predictors answer without a bubble (Arm at the launch of the core, 2017), so a taken
branch costs nothing here. A mispredicted one costs LLVM's eight cycles.
"""

from __future__ import annotations

from emu.cycles.cores import llvm
from emu.cycles.cores.little import Pipeline, little
from emu.cycles.cores.overrides import load
from emu.cycles.model import CostModel

TAKEN = 0
MISPREDICTED = 8
STAGES = Pipeline(
    address=(1, 1, 2, 2, 1, 1),
    shifted=(1, 1, 0, 0, 1, 1),
    beside_shifted=(1, 2, 0, 0, 1, 1),
    plain=(2, 2, 1, 1, 2, 2),
    branch=(3, 3, 1, 1, 2, 2),
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    table = load("cortex-a55", compatible=compatible)
    return llvm.in_order(table) if compatible else little(table, STAGES, taken=TAKEN)
