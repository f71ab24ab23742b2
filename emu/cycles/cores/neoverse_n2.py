"""Neoverse N2: five macro-ops a cycle.

Tables: LLVM's AArch64SchedNeoverseN2.td. Front end: five macro-ops renamed in a cycle (Arm Neoverse
N2 Software Optimization Guide §2.1), from a macro-op cache. Mispredicted: LLVM's
MispredictPenalty.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel
from emu.cycles.system_prices import N1, like

MISPREDICTED = 10
SYSTEM = like(N1, "neoverse-n1")
CORE = big.Core(
    "neoverse-n2", width=5, fetch=8, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
