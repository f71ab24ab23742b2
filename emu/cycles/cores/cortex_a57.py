"""Cortex-A57: three micro-ops a cycle.

Tables: LLVM's AArch64SchedA57.td. Front end: 128 bits are fetched and three micro-ops dispatched in
a cycle (Cortex-A57 Software Optimization Guide, UAN 0015B, §2.1). Mispredicted: LLVM's
MispredictPenalty.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel

MISPREDICTED = 14
CORE = big.Core(
    "cortex-a57", width=3, fetch=4, renames_moves=False, micro_ops=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
