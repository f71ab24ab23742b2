"""hvcemu: AArch64 hypercall and firmware traps, emulated on Unicorn.

The public names and nothing else. Each is imported when it is first used, so that asking `El2`
one question does not load Unicorn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu.base import exits
    from emu.base.abi import Abi
    from emu.base.bus import Place
    from emu.base.console import Console
    from emu.base.errors import EmuError
    from emu.base.smccc import UNDEF, Call, Conduit, FunctionId, Ret
    from emu.machine.blocks import Block, Write
    from emu.machine.device import BoardDevice
    from emu.machine.function import Returned
    from emu.machine.instrument import Instrument
    from emu.machine.vm import Vm
    from emu.world.monitor import El2
    from emu.world.policy import Action
    from emu.world.profile import Profile, load_profile, profile_names
    from emu.world.service import Service, fn

_PLACES = {
    "Abi": "base.abi",
    "Action": "world.policy",
    "Block": "machine.blocks",
    "BoardDevice": "machine.device",
    "Call": "base.smccc",
    "Conduit": "base.smccc",
    "Console": "base.console",
    "El2": "world.monitor",
    "EmuError": "base.errors",
    "FunctionId": "base.smccc",
    "Instrument": "machine.instrument",
    "Place": "base.bus",
    "Profile": "world.profile",
    "Ret": "base.smccc",
    "Returned": "machine.function",
    "Service": "world.service",
    "UNDEF": "base.smccc",
    "Vm": "machine.vm",
    "Write": "machine.blocks",
    "fn": "world.service",
    "load_profile": "world.profile",
    "profile_names": "world.profile",
}

__all__ = [
    "UNDEF",
    "Abi",
    "Action",
    "Block",
    "BoardDevice",
    "Call",
    "Conduit",
    "Console",
    "El2",
    "EmuError",
    "FunctionId",
    "Instrument",
    "Place",
    "Profile",
    "Ret",
    "Returned",
    "Service",
    "Vm",
    "Write",
    "exits",
    "fn",
    "load_profile",
    "profile_names",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "exits":
        return importlib.import_module("emu.base.exits")
    if name in _PLACES:
        return getattr(importlib.import_module(f"emu.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'emu' has no attribute {name!r}")
