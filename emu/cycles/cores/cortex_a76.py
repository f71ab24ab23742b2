"""Cortex-A76: four macro-ops a cycle, three integer pipes, two for memory.

Tables: LLVM's Neoverse N1, which is this core for servers; corrections in overrides.toml. Front
end: 16 bytes are fetched and four macro-ops renamed in a cycle, of up to eight micro-ops (Arm
Neoverse N1 Software Optimization Guide §2.1). Mispredicted: eleven cycles (Arm at the launch of the
core, 2018; LLVM's N1 has the same).
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel

MISPREDICTED = 11
CORE = big.Core(
    "cortex-a76", width=4, fetch=4, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
