"""What an instruction, its immediate and the registers mean, where it is not the SMC calling
convention: an `Abi` is a class of calls, and each instance is one call read its way.

A subclass says which registers it needs, where its number and its arguments are, what a number
gets that nobody knows, and how it is told in words. Its reply is a `Ret`, as everybody's.

    class Jailhouse(Abi):
        name = "jailhouse"
        instructions = frozenset({(Conduit.HVC, 0x4A48)})

A class enters the list of ABIs by being defined; a profile may name it from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeGuard

from emu.base.errors import EmuError
from emu.base.smccc import NOT_SUPPORTED, Call, Conduit, Ret

SMCCC = "smccc"
"""The convention of `Call` itself."""
NUMBER_BITS = 64
"""Of an id: the number; above them are the letters of the ABI's name, none for SMCCC."""
RESERVED = (SMCCC, "other", "undef", "enosys", "down")
"""Names with another meaning in a profile's rules (world/schema.py)."""
ABIS: dict[str, type[Abi]] = {}
"""Those that were defined so far, by their names; world/abis has more to load."""


class AbiError(TypeError, EmuError):
    """An ABI cannot be what its class says."""


class Abi(Call):
    """A call that is none by SMCCC. What a subclass leaves alone is read from x0 onward."""

    __slots__ = ()

    name: ClassVar[str] = ""
    """What a profile's `[hvc]` and `[smc]` tables call it: lower-case letters, digits and _."""
    title: ClassVar[str] = ""
    """What a report calls it."""
    source: ClassVar[str] = ""
    instructions: ClassVar[frozenset[tuple[Conduit, int]]] = frozenset()
    """The conduits and immediates that are its own, whoever is below the guest."""
    registers: ClassVar[int] = 8
    """How many registers from x0 on it reads: at most 31."""
    number_register: ClassVar[int | None] = 0
    """Where its number is; None where it is the immediate."""
    first: ClassVar[int] = 1
    """The register of its first argument; the others follow."""
    arguments: ClassVar[int] = 6
    """How many arguments a call has at most."""
    unknown: ClassVar[Ret] = Ret.only(NOT_SUPPORTED)
    """The reply to a number that nobody has."""
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}
    """Names of its error codes."""
    numbers: ClassVar[Mapping[int, str]] = {}
    """Functions by name that its specification has and no service may answer."""

    def __init_subclass__(cls) -> None:
        known = ABIS.get(cls.name, cls)
        same = (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
        plain = cls.name.replace("_", "").isalnum() and cls.name.isascii() and cls.name.islower()
        if not plain or cls.name in RESERVED or not same:
            whose = "" if same else f", which is that of {known.__module__}.{known.__qualname__}"
            raise AbiError(
                f"{cls.__module__}.{cls.__qualname__}: an ABI needs a name of its own, not "
                f"{cls.name!r}{whose}"
            )
        ABIS[cls.name] = cls  # the same one again: its file was loaded anew

    @property
    def number(self) -> int:
        """Which function it is, all 64 bits of the register, or the immediate."""
        return self.imm if self.number_register is None else self.x[self.number_register]

    def arg(self, n: int) -> int:
        """Argument n, counted from 1, all 64 bits of the register."""
        return self.x[self.first + n - 1]

    @property
    def id(self) -> int:
        return self.id_of(self.number)

    @classmethod
    def id_of(cls, number: int) -> int:
        """A number among those of every ABI: the name of this one stands above its 64 bits."""
        return int.from_bytes(cls.name.encode(), "big") << NUMBER_BITS | number

    @classmethod
    def make(cls, number: int, *arguments: int) -> Abi:
        """A call of this number by its own instruction, the other registers zero.

        AbiError where none of its instructions makes such a call.
        """
        x = [0] * cls.registers
        if cls.number_register is not None:
            x[cls.number_register] = number
        x[cls.first : cls.first + len(arguments)] = arguments
        for conduit, imm in sorted(cls.instructions) or [(Conduit.HVC, 0)]:
            call = cls(tuple(x[: cls.registers]), conduit, imm)
            if call.number == number:
                return call
        raise AbiError(f"no instruction of {cls.name} makes a call of {number:#x}")


def is_abi(kind: type[Call]) -> TypeGuard[type[Abi]]:
    """Whether a class of calls is another ABI's than SMCCC."""
    return issubclass(kind, Abi)


def apart(id: int) -> tuple[str, int]:
    """The ABI's name and the number of an id."""
    tag = id >> NUMBER_BITS
    if not tag:
        return SMCCC, id
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big").decode(), id & (1 << NUMBER_BITS) - 1
