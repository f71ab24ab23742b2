"""The services a profile may name: one file each, which holds the `Service` of its own name.

They never import each other.
"""

from __future__ import annotations

import functools
import importlib

from emu.base.errors import ProfileError
from emu.world.service import Service


def service_names() -> tuple[str, ...]:
    """Every service there is."""
    import pkgutil  # only lists and mistakes need it

    return tuple(module.name for module in pkgutil.iter_modules(__path__))


@functools.cache
def service_class(name: str) -> type[Service]:
    """The class that a profile's `[services.NAME]` table configures."""
    place = f"{__name__}.{name}"
    try:
        module = importlib.import_module(place if name.isidentifier() else f"{__name__}.?")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(f"{__name__}."):
            raise
        known = ", ".join(service_names())
        raise ProfileError(f"unknown service {name} (there is {known})") from None
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, Service) and found.name == name:
            return found
    raise ProfileError(f"{module.__file__} has no service of the name {name}")
