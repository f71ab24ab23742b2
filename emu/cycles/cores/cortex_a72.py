"""Cortex-A72: three instructions decoded a cycle, five micro-ops dispatched.

Tables: LLVM's AArch64SchedA57.td with TI's measurements over it (overrides.toml). Front end: 128
bits are fetched, three instructions decoded and up to five micro-ops dispatched in a cycle
(Cortex-A72 Software Optimization Guide, UAN 0016A, §2.1), so instructions bound it. Mispredicted:
LLVM's MispredictPenalty of its Cortex-A57.

Caches, as hierarchies.py reads them: NanoPi NEO4 (RK3399, 2014 MHz, 4pCK): 8.3, 12.5, 14.7 cycles
at 64, 128 and 256 KiB: 16.6, 16.7, 16.8 a miss. Memory 155 ns.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.cores.hierarchies import NO_LEVEL, Caches, Level
from emu.cycles.model import CostModel
from emu.cycles.system_prices import A57

MISPREDICTED = 14
SYSTEM = A57
CACHES = Caches(
    "Rockchip RK3399", Level(32, 2), Level(48, 3), NO_LEVEL, Level(1024, 16, 167, 73),
    1550, 104, width=3,
)  # fmt: skip
CORE = big.Core(
    "cortex-a72", width=3, fetch=4, renames_moves=False,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
