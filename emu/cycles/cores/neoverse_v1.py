"""Neoverse V1: eight macro-ops a cycle from the macro-op cache.

Tables: LLVM's AArch64SchedNeoverseV1.td. Front end: the macro-op cache hands on eight macro-ops a
cycle (Arm Neoverse V1 Software Optimization Guide §2.1); code that does not fit into it is decoded
five a cycle, which is not modelled. Mispredicted: LLVM's MispredictPenalty.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel
from emu.cycles.system_prices import N1, like

MISPREDICTED = 11
SYSTEM = like(N1, "neoverse-n1")
CORE = big.Core(
    "neoverse-v1", width=8, fetch=8, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
