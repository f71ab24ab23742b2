"""The cores by name.

Importing this is cheap; a core's tables are read when it is first asked for.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from emu.base.errors import EmuError
from emu.cycles.model import CostModel

_FILES = {
    name: name.replace("-", "_")
    for name in (
        *("flat", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a76"),
        *("neoverse-n1", "neoverse-n2", "neoverse-v1"),
    )
}


def names() -> tuple[str, ...]:
    """The cores there are."""
    return tuple(_FILES)


@functools.cache
def core(name: str, *, compatible: bool = False) -> CostModel:
    """A core's model; EmuError with the names when there is none of this name.

    `compatible` is for comparing with llvm-mca: LLVM's numbers and rules, nothing of ours.
    """
    model: CostModel = _module(name).model(compatible=compatible)
    return model


def mispredicted(name: str) -> int:
    """What a mispredicted branch costs a core, in cycles."""
    return int(_module(name).MISPREDICTED)


def _module(name: str) -> Any:
    if name not in _FILES:
        raise EmuError(f"no core {name!r}; there are {', '.join(_FILES)}")
    return import_module(f"emu.cycles.cores.{_FILES[name]}")
