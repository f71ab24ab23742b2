"""Cortex-A57: three micro-ops a cycle.

Tables: LLVM's AArch64SchedA57.td. Front end: 128 bits are fetched and three micro-ops dispatched in
a cycle (Cortex-A57 Software Optimization Guide, UAN 0015B, §2.1). Mispredicted: LLVM's
MispredictPenalty.

Caches, as hierarchies.py reads them: Jetson Nano (Tegra X1, 1476 MHz, 4rLX): 6.2, 9.4, 11.2 ns:
18.3, 18.5, 18.9 cycles. Memory 133.5 ns.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.cores.hierarchies import NO_LEVEL, Caches, Level
from emu.cycles.model import CostModel
from emu.cycles.system_prices import A57

MISPREDICTED = 14
SYSTEM = A57
CACHES = Caches(
    "NVIDIA Tegra X1", Level(32, 2), Level(48, 3), NO_LEVEL, Level(2048, 16, 185, 73),
    1335, 136, width=3,
)  # fmt: skip
CORE = big.Core(
    "cortex-a57", width=3, fetch=4, renames_moves=False, micro_ops=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
