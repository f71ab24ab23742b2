"""The services a profile may name. One file each; they never import each other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from emu.base.errors import ProfileError
from emu.world.service import Service

_PLACES: Mapping[str, str] = {
    "arch": "Arch",
    "psci": "Psci",
    "trng": "Trng",
    "pvtime": "PvTime",
    "kvm_vendor": "KvmVendor",
    "asyncpf": "AsyncPf",
    "xen": "Xen",
}


def service_names() -> tuple[str, ...]:
    """Every service there is, in the order they are shown."""
    return tuple(_PLACES)


def service_class(name: str) -> type[Service]:
    """The class that a profile's `[services.NAME]` table configures."""
    if name not in _PLACES:
        raise ProfileError(f"unknown service {name} (there is {', '.join(_PLACES)})")
    module = importlib.import_module(f"emu.world.services.{name}")
    found: type[Service] = getattr(module, _PLACES[name])
    return found
