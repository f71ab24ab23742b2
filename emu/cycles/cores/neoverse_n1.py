"""Neoverse N1: the Cortex-A76's pipeline for servers.

Tables: LLVM's AArch64SchedNeoverseN1.td; corrections in overrides.toml. Front end: 16 bytes are
fetched and four macro-ops renamed in a cycle, of up to eight micro-ops (Arm Neoverse N1 Software
Optimization Guide §2.1). Mispredicted: LLVM's MispredictPenalty.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel

MISPREDICTED = 11
CORE = big.Core(
    "neoverse-n1", width=4, fetch=4, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
