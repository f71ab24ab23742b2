"""The cores a guest may run on: what names one, and whose pipeline it has."""

from __future__ import annotations

from typing import NamedTuple


class Core(NamedTuple):
    """A core by name: which one executes in its place, what the device tree calls it, and its
    MIDR_EL1 where that is not the one that executes."""

    executes: str
    compatible: str
    midr: int = 0
    design: str = ""
    """The core whose pipeline it shares, where LLVM has no model of its own."""
    timed: bool = True
    """Whether emu/cycles/cores has a model of it; no hardware is like the others."""


DEFAULT_CORE = "flat"
CORES = {
    DEFAULT_CORE: Core("cortex-a72", "arm,cortex-a72", timed=False),
    "cortex-a53": Core("cortex-a53", "arm,cortex-a53"),
    "cortex-a55": Core("max", "arm,cortex-a55", 0x412F_D050),
    "cortex-a57": Core("cortex-a57", "arm,cortex-a57"),
    "cortex-a72": Core("cortex-a72", "arm,cortex-a72", design="cortex-a57"),
    "cortex-a76": Core("max", "arm,cortex-a76", 0x414F_D0B1, design="neoverse-n1"),
    "neoverse-n1": Core("max", "arm,neoverse-n1", 0x414F_D0C1),
    "neoverse-n2": Core("max", "arm,neoverse-n2", 0x410F_D493),
    "neoverse-v1": Core("max", "arm,neoverse-v1", 0x411F_D402),
    "max": Core("max", "arm,armv8", timed=False),
}
"""Those with a MIDR_EL1 here, as QEMU's cores of these names have it (qemu v10.0
target/arm/tcg/cpu64.c), are of Armv8.2 and later: Unicorn has none but `max`, so they run as that.
"""
TIMED = tuple(name for name, core in CORES.items() if core.timed)
"""Those with a model of what they take."""
BORROWED = {name: core.design for name, core in CORES.items() if core.design}
"""Core → the core whose LLVM model it has, where there is none of its own (AArch64.td, 22.1)."""


def has_pan(core: str) -> bool:
    """PSTATE.PAN came with Armv8.1."""
    return CORES[core].executes == "max"
