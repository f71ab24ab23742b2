"""The ABIs that ship beside SMCCC: one file each, which defines the `Abi` of its own name."""

from __future__ import annotations

import importlib

from emu.base.abi import ABIS, RESERVED, SMCCC, Abi, apart, is_abi
from emu.base.smccc import Call, Conduit, FunctionId


def abi_class(name: str) -> type[Call]:
    """The class of calls of a name: `Call` itself for SMCCC; KeyError where there is none."""
    if name == SMCCC:
        return Call
    if name not in ABIS and name not in RESERVED and name.isidentifier():
        place = f"{__name__}.{name}"
        try:
            importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name != place:
                raise
    return ABIS[name]


def abi_names() -> tuple[str, ...]:
    """Every ABI there is: those that ship, and those that were defined so far."""
    import pkgutil  # only lists and mistakes need it

    shipped = (module.name for module in pkgutil.iter_modules(__path__))
    return (SMCCC, *dict.fromkeys((*shipped, *ABIS)))


def knows_abi(name: str) -> bool:
    """Whether there is an ABI of this name."""
    try:
        abi_class(name)
    except KeyError:
        return False
    return True


def abi_of(id: int) -> type[Abi] | None:
    """The ABI of an id; None for SMCCC's and for one that is not known here."""
    name = apart(id)[0]
    if not knows_abi(name):
        return None
    found = abi_class(name)
    return found if is_abi(found) else None


def id_text(id: int) -> str:
    """A function by its number, where it has no name."""
    name, number = apart(id)
    return str(FunctionId(id)) if name == SMCCC else f"{name} {number:#x}"


_owners: dict[tuple[Conduit, int], type[Abi]] = {}
_owned_by: dict[str, type[Abi]] = {}
"""The list as it was when they were worked out."""


def owner_of(conduit: Conduit, imm: int) -> type[Abi] | None:
    """The ABI to which an instruction belongs by itself, whoever is below the guest."""
    if not _owned_by or _owned_by != ABIS:
        _owners.clear()
        for name in abi_names():
            found = abi_class(name)
            if is_abi(found):
                _owners.update(dict.fromkeys(found.instructions, found))
        _owned_by.clear()
        _owned_by.update(ABIS)
    return _owners.get((conduit, imm))
