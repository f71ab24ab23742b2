"""Neoverse N1: the Cortex-A76's pipeline for servers.

Tables: LLVM's AArch64SchedNeoverseN1.td; corrections in overrides.toml. Front end: 16 bytes are
fetched and four macro-ops renamed in a cycle, of up to eight micro-ops (Arm Neoverse N1 Software
Optimization Guide §2.1). Mispredicted: LLVM's MispredictPenalty.

Caches, as hierarchies.py reads them: Ampere Altra (2999 MHz, 4kiu): 3.6, 5.4, 6.3 cycles at 128,
256 and 512 KiB: 7.2 a miss; 64.5 at 4 MiB is 84 from the system's cache; 245 at 64 MiB is 135 ns
from memory.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.cores.hierarchies import Caches, Level
from emu.cycles.model import CostModel
from emu.cycles.system_prices import N1

MISPREDICTED = 11
SYSTEM = N1
CACHES = Caches(
    "Ampere Altra", Level(64, 4), Level(64, 4), Level(1024, 8, 72, 72),
    Level(32768, 16, 840, 145), 1350, 48, width=4,
)  # fmt: skip
CORE = big.Core(
    "neoverse-n1", width=4, fetch=4, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
