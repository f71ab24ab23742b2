"""Guest-physical RAM: memory of the host that costs nothing until it is touched."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from emu.engine.cpu import Cpu

_PRIVATE: dict[str, int] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)
"""Private, so that the host can tell which pages were touched (pages.py)."""


class Memory:
    """Every RAM of a machine, by guest-physical addresses."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._ram: list[tuple[int, int, mmap.mmap, Any]] = []

    def ram(self) -> list[tuple[int, mmap.mmap, int]]:
        """Each RAM as (guest-physical base, memory, the host's address of it)."""
        return [(base, block, ctypes.addressof(pin)) for base, _, block, pin in self._ram]

    def map(self, base: int, size: int) -> None:
        """One more RAM."""
        block = mmap.mmap(-1, size, **_PRIVATE)
        pin = (ctypes.c_char * size).from_buffer(block)
        self._cpu.map_memory(base, size, ctypes.addressof(pin))
        self._ram.append((base, size, block, pin))

    def holes(self) -> list[tuple[int, int]]:
        """The ranges outside RAM as (first, last), of 64 bits of addresses."""
        found, free = [], 0
        for base, size in sorted((base, size) for base, size, _, _ in self._ram):
            if base > free:
                found.append((free, base - 1))
            free = base + size
        return [*found, (free, (1 << 64) - 1)]

    def read(self, address: int, size: int) -> bytes:
        """What lies there; raises IndexError outside RAM."""
        block, offset = self._locate(address, size)
        return block[offset : offset + size]

    def write(self, address: int, data: bytes) -> None:
        """Write what is no code: translations stay as they are."""
        block, offset = self._locate(address, len(data))
        block[offset : offset + len(data)] = data

    def overlaps(self, address: int, size: int) -> bool:
        """Whether any of [address, address + size) is RAM."""
        return any(
            base < address + size and address < base + length for base, length, _, _ in self._ram
        )

    def has(self, address: int, size: int) -> bool:
        """Whether RAM covers all of [address, address + size)."""
        return any(
            base <= address and address + size <= base + length
            for base, length, _, _ in self._ram
        )

    def _locate(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        for base, length, block, _ in self._ram:
            if base <= address and address + size <= base + length:
                return block, address - base
        raise IndexError(f"no RAM at {address:#x}")
