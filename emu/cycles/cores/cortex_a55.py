"""Cortex-A55: the Cortex-A53's pipeline with separate load and store pipes and an earlier address.

GCC schedules for it with the A53's stages (gcc 10 gcc/config/aarch64/aarch64-cores.def). LLVM's
AArch64SchedA55.td, made from Arm's Cortex-A55 Software Optimization Guide, differs in two points,
taken from there: an address is read one cycle later than on the A53 (so that a load feeds the next
one's address after two cycles), and a load feeds arithmetic after three.

Its first-level predictors answer without a bubble (Arm at the launch of the core, 2017), so a taken
branch costs nothing here. A mispredicted one costs LLVM's eight cycles.

Caches, as hierarchies.py reads them: ROCK 5B (RK3588, 1797 MHz, 4qJr, small pages): 2.9 and 5.2
cycles at 64 and 128 KiB, so 6 a miss; 22.3 at 512 KiB is 28 from the third level; 159 at 8 MiB is
133 ns from memory.
"""

from __future__ import annotations

from emu.cycles.cores import llvm
from emu.cycles.cores.hierarchies import Caches, Level
from emu.cycles.cores.little import Pipeline, little
from emu.cycles.cores.overrides import load
from emu.cycles.model import CostModel
from emu.cycles.system_prices import A53, like

TAKEN = 0
MISPREDICTED = 8
SYSTEM = like(A53, "cortex-a53")
CACHES = Caches(
    "Rockchip RK3588", Level(32, 4), Level(32, 4), Level(128, 4, 60, 60),
    Level(3072, 12, 280, 185), 1330, 103,
)  # fmt: skip
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
