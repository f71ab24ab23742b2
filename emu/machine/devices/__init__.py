"""The devices of QEMU's virt machine: one file, or one folder, each.

Every file here holds the `BoardDevice` that its board may have (device.py). They never import each
other.
"""

from __future__ import annotations

import functools
import importlib
import os

from emu.base.errors import EmuError
from emu.machine.device import BoardDevice


@functools.cache
def device_classes() -> tuple[type[BoardDevice], ...]:
    """Every device there is, in the order of the device tree."""
    entries = (entry.partition(".")[0] for entry in os.listdir(__path__[0]))
    names = sorted({entry for entry in entries if not entry.startswith("_")})
    found = [kind for name in names for kind in _devices_in(f"{__name__}.{name}")]
    return tuple(sorted(found, key=lambda kind: (kind.order, kind.name)))


def _devices_in(place: str) -> list[type[BoardDevice]]:
    module = importlib.import_module(place)
    return [
        kind for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BoardDevice) and kind.name
        and kind.__module__ == place
    ]  # fmt: skip


def with_own(own: tuple[type[BoardDevice], ...]) -> tuple[type[BoardDevice], ...]:
    """All devices of a board, a user's own behind the others; EmuError where two are at odds."""
    kinds = (*device_classes(), *own)
    for at in range(len(kinds) - len(own), len(kinds)):
        kind = kinds[at]
        if not kind.name or not kind.places:
            raise EmuError(f"device {kind.__qualname__}: give it a name and places")
        for other in kinds[:at]:
            if other.name == kind.name:
                raise EmuError(f"device {kind.__qualname__}: there is a device {kind.name}")
            for place in kind.places:
                if near := next((p for p in other.places if p.overlaps(place)), None):
                    raise EmuError(
                        f"device {kind.__qualname__}: {place.name} at {place.base:#x} lies over "
                        f"the {near.name}"
                    )
    return kinds
