"""The cores by name: each has a file of its own, which holds what it costs.

Importing this is cheap; a core's file and tables are read when it is first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from emu.arm.cores import DEFAULT_CORE, TIMED
from emu.base.errors import EmuError
from emu.cycles.model import Cost, CostModel

if TYPE_CHECKING:
    from emu.cycles.cores.hierarchies import Caches


def names() -> tuple[str, ...]:
    """The cores there are."""
    return (DEFAULT_CORE, *TIMED)


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


def system_costs(name: str) -> Mapping[str, Cost]:
    """What each class of system instructions costs a core that has a model."""
    costs: Mapping[str, Cost] = _module(name).SYSTEM
    return costs


def caches(name: str) -> Caches | None:
    """A core's caches; None where nobody whom we can cite has measured them."""
    found: Caches | None = getattr(_module(name), "CACHES", None)
    return found


def cached() -> tuple[str, ...]:
    """The cores whose caches are known."""
    return tuple(name for name in TIMED if caches(name) is not None)


@functools.cache
def _module(name: str) -> Any:
    if name not in names():
        raise EmuError(f"no core {name!r}; there are {', '.join(names())}")
    return import_module(f"emu.cycles.cores.{name.replace('-', '_')}")
