"""hvcemu: AArch64 hypercall and firmware traps, emulated on Unicorn.

The public names and nothing else. Each is imported when it is first used, so that asking `El2`
one question does not load Unicorn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu import exits
    from emu.blocks import Block, Write
    from emu.console import Console
    from emu.el2 import El2
    from emu.errors import EmuError
    from emu.function import Returned
    from emu.instrument import Instrument
    from emu.policy import Action
    from emu.profile import Profile, load_profile, profile_names
    from emu.service import Service, fn
    from emu.smccc import UNDEF, Call, Conduit, FunctionId, Ret
    from emu.vm import Vm

_PLACES = {
    "Action": "policy",
    "Block": "blocks",
    "Call": "smccc",
    "Conduit": "smccc",
    "Console": "console",
    "El2": "el2",
    "EmuError": "errors",
    "FunctionId": "smccc",
    "Instrument": "instrument",
    "Profile": "profile",
    "Ret": "smccc",
    "Returned": "function",
    "Service": "service",
    "UNDEF": "smccc",
    "Vm": "vm",
    "Write": "blocks",
    "fn": "service",
    "load_profile": "profile",
    "profile_names": "profile",
}

__all__ = [
    "UNDEF",
    "Action",
    "Block",
    "Call",
    "Conduit",
    "Console",
    "El2",
    "EmuError",
    "FunctionId",
    "Instrument",
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
        return importlib.import_module("emu.exits")
    if name in _PLACES:
        return getattr(importlib.import_module(f"emu.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'emu' has no attribute {name!r}")
