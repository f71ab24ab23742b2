"""Cortex-A76: four macro-ops a cycle, three integer pipes, two for memory.

Tables: LLVM's Neoverse N1, which is this core for servers; corrections in overrides.toml. Front
end: 16 bytes are fetched and four macro-ops renamed in a cycle, of up to eight micro-ops (Arm
Neoverse N1 Software Optimization Guide §2.1). Mispredicted: eleven cycles (Arm at the launch of the
core, 2018; LLVM's N1 has the same).

Caches, as hierarchies.py reads them: ROCK 5B (RK3588, 2291 MHz, 4qJr): 3.0 cycles at 128 KiB, so 6;
26.1 at 1 MiB is 47; 190 at 8 MiB is 122 ns.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.cores.hierarchies import Caches, Level
from emu.cycles.model import CostModel
from emu.cycles.system_prices import N1, like

MISPREDICTED = 11
SYSTEM = like(N1, "neoverse-n1")
CACHES = Caches(
    "Rockchip RK3588", Level(64, 4), Level(64, 4), Level(512, 8, 60, 60),
    Level(3072, 12, 470, 87), 1220, 38, width=4,
)  # fmt: skip
CORE = big.Core(
    "cortex-a76", width=4, fetch=4, renames_moves=True,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
