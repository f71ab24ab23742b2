"""Finds what Unicorn keeps to itself: syndrome, fault address and exclusive monitor.

They are in no register that Unicorn offers, only in its opaque context, whose layout is private
and changes between builds. Each is provoked once in a process with a rare value, and looked for.
A value that is found nowhere or more than once, or an HVC that does not trap, means a Unicorn
this engine does not know: it is refused, with what to install instead.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from typing import NamedTuple

from emu.arm import arch
from emu.base.errors import EngineError
from emu.engine.cpu import HOOK_INTR, INTR_CALLBACK, Context, Cpu, version
from emu.engine.exceptions import INTR_HVC, INTR_PREFETCH_ABORT

BASE = 0x7A5C_3000
SIZE = 0x1000
NOWHERE = 0x12_3456_7000
IMMEDIATE = 0xA5C3
HVC_SYNDROME = 0x5A00_0000 | IMMEDIATE
"""EC 0x16 with IL and the immediate (DDI 0487, ESR_EL2)."""
_HVC = 0xD400_0002 | IMMEDIATE << 5
_LDXR_X1_X0, _MOV_X0_0 = 0xC85F_7C01, 0xD280_0000
_UNTIL = 0xFFFF_FFFF_FFFF_FFF1


class Layout(NamedTuple):
    """Offsets in Unicorn's context, from its own address."""

    size: int
    syndrome: int
    fault_address: int
    exclusive_address: int

    def __str__(self) -> str:
        return (
            f"context of {self.size} bytes, syndrome at {self.syndrome}, "
            f"fault address at {self.fault_address}, monitor at {self.exclusive_address}"
        )


@functools.cache
def calibrate() -> Layout:
    """The layout of this Unicorn's context."""
    probe = _Probe()
    syndrome = _only(probe.hvc(), struct.pack("<I", HVC_SYNDROME), "syndrome")
    exclusive = _only(probe.exclusive(), struct.pack("<Q", BASE + 0x808), "exclusive monitor")
    fault = syndrome + 8  # struct exception { u32 syndrome, fsr; u64 vaddress; … }
    if probe.fetch_fault()[fault : fault + 8] != struct.pack("<Q", NOWHERE):
        raise _refused("fault address")
    return Layout(probe.size, syndrome, fault, exclusive)


class _Probe:
    """A CPU with one page of memory, whose context is looked at after provoking something."""

    def __init__(self) -> None:
        self.cpu = Cpu()
        self.page = mmap.mmap(-1, SIZE)
        self.pin = (ctypes.c_char * SIZE).from_buffer(self.page)
        self.cpu.map_memory(BASE, SIZE, ctypes.addressof(self.pin))
        self.context = Context(self.cpu)
        self.size = self.cpu.context_size()
        self.seen = seen = dict[int, bytes]()
        cpu, look = self.cpu, self._look

        def on_interrupt(_uc: int, intno: int, _user: int) -> None:
            seen[intno] = look()
            cpu.stop()

        self.cpu.hook(HOOK_INTR, INTR_CALLBACK(on_interrupt))

    def _look(self) -> bytes:
        self.cpu.save(self.context)
        return ctypes.string_at(self.context.address, self.size)

    def _run(self, *words: int) -> None:
        self.page[: 4 * len(words)] = struct.pack(f"<{len(words)}I", *words)
        self.cpu.forget_code()
        self.cpu.start(BASE, _UNTIL)

    def hvc(self) -> bytes:
        """The context as an HVC with a rare immediate leaves it."""
        self._run(_HVC)
        if INTR_HVC not in self.seen:
            raise EngineError(f"HVC does not trap on Unicorn {version()}: {_MEND}")
        return self.seen[INTR_HVC]

    def exclusive(self) -> bytes:
        """The context after a load-exclusive from a rare address, which no register holds."""
        self.cpu.set("X0", BASE + 0x808)
        self._run(_LDXR_X1_X0, _MOV_X0_0, arch.WORD_WFI)
        return self._look()

    def fetch_fault(self) -> bytes:
        """The context after a fetch from a rare address through an empty translation table."""
        self.page[:] = bytes(SIZE)
        self.cpu.set("TTBR0_EL1", BASE)
        self.cpu.set("TCR_EL1", arch.TCR_EL1_48_BITS)
        self.cpu.set("SCTLR_EL1", arch.SCTLR_EL1_RESET | arch.SCTLR_M)
        self.cpu.start(NOWHERE, _UNTIL)
        return self.seen.get(INTR_PREFETCH_ABORT, bytes(self.size))


def _only(blob: bytes, pattern: bytes, what: str) -> int:
    where = blob.find(pattern)
    if where < 0 or blob.find(pattern, where + 1) >= 0:
        raise _refused(what)
    return where


_MEND = "pip install 'unicorn>=2.1.4,<2.2'"


def _refused(what: str) -> EngineError:
    return EngineError(f"cannot find the {what} in Unicorn {version()}'s context: {_MEND}")
