"""Arm semihosting for A64: HLT #0xF000 with the operation in w0 and its parameters behind x1.

Source: "Semihosting for AArch32 and AArch64" (ARM-software/abi-aa, semihosting.rst). Only the
terminal exists (`:tt`); files do not, and opening one fails as the specification allows. A
parameter block the guest has not mapped gives −1, like any failed operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from emu.base.clock import Clock
from emu.base.console import Console
from emu.base.smccc import MASK64

SYS_OPEN, SYS_CLOSE, SYS_WRITEC, SYS_WRITE0, SYS_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05
SYS_READ, SYS_READC, SYS_ISTTY, SYS_CLOCK, SYS_ERRNO = 0x06, 0x07, 0x09, 0x10, 0x13
SYS_EXIT, SYS_EXIT_EXTENDED = 0x18, 0x20
ADP_STOPPED_APPLICATION_EXIT = 0x2_0026
TERMINAL = b":tt"
STDIN, STDOUT, STDERR = 1, 2, 3
"""Handles of :tt by mode: 0–3 read, 4–7 write, 8–11 append (semihosting.rst, SYS_OPEN)."""
FAILED = MASK64
WORD = 8
LONGEST_STRING = 1 << 20
_PAGE = 256


class Memory(Protocol):
    """Guest memory as the calling vCPU sees it."""

    def read_virtual(self, address: int, size: int) -> bytes | None: ...

    def write_virtual(self, address: int, data: bytes) -> bool: ...


class Semihosting:
    """The debugger's side of the terminal; `exit_code` is set when the guest asked to end."""

    def __init__(self, memory: Memory, console: Console, clock: Clock) -> None:
        self.memory, self.console, self.clock = memory, console, clock
        self.exit_code: int | None = None

    def call(self, operation: int, parameter: int) -> int:
        """Serve one call; returns what goes into x0."""
        serve = _OPERATIONS.get(operation & 0xFFFF_FFFF)
        return FAILED if serve is None else serve(self, parameter) & MASK64

    def _words(self, address: int, count: int) -> tuple[int, ...] | None:
        block = self.memory.read_virtual(address, WORD * count)
        if block is None:
            return None
        return tuple(
            int.from_bytes(block[n : n + WORD], "little") for n in range(0, len(block), WORD)
        )

    def _open(self, parameter: int) -> int:
        words = self._words(parameter, 3)
        if words is None or words[2] != len(TERMINAL) or words[1] > 11:
            return FAILED
        name = self.memory.read_virtual(words[0], len(TERMINAL))
        return (STDIN, STDOUT, STDERR)[words[1] // 4] if name == TERMINAL else FAILED

    def _close(self, parameter: int) -> int:
        words = self._words(parameter, 1)
        return 0 if words and words[0] in (STDIN, STDOUT, STDERR) else FAILED

    def _writec(self, parameter: int) -> int:
        data = self.memory.read_virtual(parameter, 1)
        if data is not None:
            self.console.write(data)
        return FAILED

    def _write0(self, parameter: int) -> int:
        for start in range(parameter, parameter + LONGEST_STRING, _PAGE):
            data = self.memory.read_virtual(start, _PAGE) or self._bytewise(start)
            self.console.write(data.partition(b"\0")[0])
            if b"\0" in data or len(data) < _PAGE:
                break
        return FAILED

    def _bytewise(self, start: int) -> bytes:
        """As much of a page's piece as is mapped."""
        data = bytearray()
        for address in range(start, start + _PAGE):
            byte = self.memory.read_virtual(address, 1)
            if byte is None:
                break
            data += byte
        return bytes(data)

    def _write(self, parameter: int) -> int:
        words = self._words(parameter, 3)
        if words is None or words[0] not in (STDOUT, STDERR):
            return FAILED
        size = words[2]
        data = self.memory.read_virtual(words[1], size) if size <= LONGEST_STRING else None
        if data is None:
            return size
        self.console.write(data)
        return 0

    def _read(self, parameter: int) -> int:
        """Returns how many bytes were not read; a terminal gives a line at most."""
        words = self._words(parameter, 3)
        if words is None or words[0] != STDIN:
            return FAILED
        line = bytearray()
        while len(line) < words[2] and (byte := self.console.wait()) is not None:
            line.append(byte)
            if byte == ord("\n"):
                break
        if line and not self.memory.write_virtual(words[1], bytes(line)):
            return FAILED
        return words[2] - len(line)

    def _readc(self, parameter: int) -> int:
        byte = self.console.wait()
        return FAILED if byte is None else byte

    def _istty(self, parameter: int) -> int:
        words = self._words(parameter, 1)
        return 1 if words and words[0] in (STDIN, STDOUT, STDERR) else FAILED

    def _clock(self, parameter: int) -> int:
        return self.clock.nanoseconds // 10_000_000

    def _errno(self, parameter: int) -> int:
        return 0

    def _exit(self, parameter: int) -> int:
        words = self._words(parameter, 2)
        normal = words is not None and words[0] == ADP_STOPPED_APPLICATION_EXIT
        self.exit_code = words[1] & 0xFF if words is not None and normal else 1
        return 0


# Of functions, not of bound methods: those would tie every machine into a reference cycle.
_OPERATIONS: dict[int, Callable[[Semihosting, int], int]] = {
    SYS_OPEN: Semihosting._open,
    SYS_CLOSE: Semihosting._close,
    SYS_WRITEC: Semihosting._writec,
    SYS_WRITE0: Semihosting._write0,
    SYS_WRITE: Semihosting._write,
    SYS_READ: Semihosting._read,
    SYS_READC: Semihosting._readc,
    SYS_ISTTY: Semihosting._istty,
    SYS_CLOCK: Semihosting._clock,
    SYS_ERRNO: Semihosting._errno,
    SYS_EXIT: Semihosting._exit,
    SYS_EXIT_EXTENDED: Semihosting._exit,
}
