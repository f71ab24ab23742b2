"""A vCPU's registers as a user sees them, between two runs.

    vm.cpu(1).x[0], vm.cpu().pc, vm.cpu()["ESR_EL1"]

Names are the architecture's: X0–X30, SP, PC, PSTATE, V0–V31 (128 bits), SP_EL0, and the system
registers of engine/cpu.py, such as ESR_EL1.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, overload

from emu.base.errors import EmuError
from emu.base.smccc import MASK64
from emu.engine.cpu import is_register

if TYPE_CHECKING:
    from emu.engine.engine import Engine
    from emu.machine.vm import Vm

GENERAL = tuple(f"X{n}" for n in range(31))
VECTORS = 32
VECTOR_BITS = 128


class Cpu(MutableMapping[str, int]):
    """One vCPU: `cpu["X0"]`, or `pc`, `sp`, `x[0]`. KeyError for a register it has not got."""

    def __init__(self, vm: Vm, index: int) -> None:
        if not 0 <= index < len(vm.machine.vcpus):
            raise EmuError(f"cpu({index}): this machine has {len(vm.machine.vcpus)} vCPUs")
        self._vm, self.index = vm, index

    def _lent(self, *, to_write: bool) -> AbstractContextManager[Engine]:
        """The engine with this vCPU's registers in it."""
        if self._vm.engine.running:
            raise EmuError("registers are read between two runs: return from the handler first")
        return self._vm.scheduler.lend(self._vm.machine.vcpus[self.index], to_write=to_write)

    def __getitem__(self, name: str) -> int:
        known = _known(name)
        with self._lent(to_write=False) as engine:
            return int(engine.read_register(known))

    def __setitem__(self, name: str, value: int) -> None:
        known = _known(name)
        bits = VECTOR_BITS if known[0] == "V" and known[1:].isdecimal() else 64
        if not 0 <= value < 1 << bits:
            raise EmuError(f"{known} holds {bits} bits, not {value:#x}")
        with self._lent(to_write=True) as engine:
            engine.write_register(known, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a register stays")

    def __iter__(self) -> Iterator[str]:
        return iter((*GENERAL, "SP", "PC", "PSTATE"))

    def __len__(self) -> int:
        return len(GENERAL) + 3

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self["PC"]

    @pc.setter
    def pc(self, value: int) -> None:
        self["PC"] = value

    @property
    def sp(self) -> int:
        """The stack pointer in use."""
        return self["SP"]

    @sp.setter
    def sp(self, value: int) -> None:
        self["SP"] = value

    @property
    def x(self) -> General:
        """x0–x30 by number."""
        return General(self)


class General(MutableSequence[int]):
    """The general registers; negative values are taken as two's complement."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> MutableSequence[int]: ...

    def __getitem__(self, index: int | slice) -> int | MutableSequence[int]:
        if isinstance(index, slice):
            return [self._cpu[name] for name in GENERAL[index]]
        return self._cpu[GENERAL[index]]

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            raise TypeError("registers are written one by one")
        self._cpu[GENERAL[index]] = value & MASK64

    def __delitem__(self, index: int | slice) -> None:
        raise TypeError("a register stays")

    def __len__(self) -> int:
        return len(GENERAL)

    def insert(self, index: int, value: int) -> None:
        """There are always 31."""
        raise TypeError("there are always 31")


def _known(name: str) -> str:
    """A register's name as the engine writes it; KeyError for one that it has not got."""
    upper = name.upper()
    if upper[:1] == "V" and upper[1:].isdecimal():
        if int(upper[1:]) < VECTORS:
            return upper
        raise KeyError(name)
    if not is_register(upper):
        raise KeyError(name)
    return upper
