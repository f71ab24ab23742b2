"""Cortex-A72: three instructions decoded a cycle, five micro-ops dispatched.

Tables: LLVM's AArch64SchedA57.td with TI's measurements over it (overrides.toml). Front end: 128
bits are fetched, three instructions decoded and up to five micro-ops dispatched in a cycle
(Cortex-A72 Software Optimization Guide, UAN 0016A, §2.1), so instructions bound it. Mispredicted:
LLVM's MispredictPenalty of its Cortex-A57.
"""

from __future__ import annotations

from emu.cycles.cores import big
from emu.cycles.model import CostModel

MISPREDICTED = 14
CORE = big.Core(
    "cortex-a72", width=3, fetch=4, renames_moves=False,
)


def model(*, compatible: bool = False) -> CostModel:
    """The core."""
    return big.model(CORE, compatible=compatible)
