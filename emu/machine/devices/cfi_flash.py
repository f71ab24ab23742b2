"""Parallel NOR flash with the Intel command set, as the virt machine has it for its firmware.

A bank is four bytes wide and made of two 16-bit chips side by side; a command is written to both
at once, and each answers in its half of the word. After reset a bank reads as memory; a command
puts it into a mode in which it answers something else until READ ARRAY (JEDEC JESD68.01 for the
query, Intel's extended command set, primary vendor 0001). What is told about itself, which
commands there are, and that they act on the bank as one, is QEMU's (qemu v9.0
hw/block/pflash_cfi01.c: pflash_cfi01_fill_cfi_table, pflash_read, pflash_write; hw/arm/virt.c:
virt_flash_create1): enough for EDK2's VirtNorFlashDxe, U-Boot's cfi_flash and Linux's
cfi_cmdset_0001.

Other than QEMU, and as a chip does: programming only clears bits; an erase happens with its
confirmation; a sequence broken off sets both error bits of the status; and the query mode is left
by any command. Everything is done at once, so the status always says ready. Not modelled: locks
(0x60 is taken and does nothing), suspension, protection registers, times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated

from emu.base.bus import FLASH
from emu.base.errors import StateError
from emu.images.devicetree import Board, Node, reg
from emu.machine.device import BoardDevice

BANK = 64 << 20
"""Bytes of each of virt's two banks, at 0 and behind (qemu v9.0 hw/arm/virt.c: base_memmap)."""
SECTOR = 256 << 10
"""What is erased at once (hw/arm/virt.c:VIRT_FLASH_SECTOR_SIZE)."""
WIDTH, CHIP_WIDTH = 4, 2
CHIPS = WIDTH // CHIP_WIDTH
BUFFER = 2048 * CHIPS
"""Bytes that a buffered program may touch, on a boundary of as many (2 KiB in each chip)."""
MANUFACTURER, DEVICE = 0x89, 0x18
"""Intel, 28F128J3 (hw/arm/virt.c:virt_flash_create1)."""

READ_ARRAY, READ_STATUS, READ_ID, QUERY, CLEAR_STATUS = 0xFF, 0x70, 0x90, 0x98, 0x50
PROGRAM, PROGRAM_ALTERNATE, BUFFERED, ERASE, LOCK, CONFIRM = 0x40, 0x10, 0xE8, 0x20, 0x60, 0xD0
SET_LOCK = 0x01
"""Behind LOCK; CONFIRM there unlocks."""

READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10
SEQUENCE_ERROR = ERASE_ERROR | PROGRAM_ERROR


@dataclass(slots=True)
class State:
    """Where in a command a bank is."""

    command: Annotated[int, 8] = READ_ARRAY
    step: Annotated[int, 8] = 0
    """How many writes of the command have been taken and want more."""
    status: Annotated[int, 8] = READY
    left: Annotated[int, 32] = 0
    """Words still to come of a buffered program."""
    start: Annotated[int, 32] = 0
    buffer: bytes = b""
    """What it makes of the bytes from `start` on, once confirmed."""
    sectors: dict[int, bytes] = field(default_factory=dict)
    """Number → content of those that are not erased; only in what `saved` gives."""


def query_table(size: int) -> dict[int, int]:
    """Index → byte of what each chip of a bank of `size` bytes answers to QUERY."""
    sectors, sector = size // SECTOR, SECTOR // CHIPS
    table = {
        0x13: 0x01,  # primary command set: Intel/Sharp extended
        0x15: 0x31,  # where its table is
        0x1B: 0x45, 0x1C: 0x55,  # Vcc from 4.5 V to 5.5 V
        0x1F: 0x07, 0x20: 0x07, 0x21: 0x0A,  # 2^n µs a word, µs a buffer, ms an erase
        0x23: 0x04, 0x24: 0x04, 0x25: 0x04,  # 2^n times as long at most
        0x27: (size // CHIPS).bit_length() - 1,
        0x28: 0x02,  # 8 and 16 bits wide
        0x2A: (BUFFER // CHIPS).bit_length() - 1,
        0x2C: 1,  # one region of equal sectors
        0x2D: (sectors - 1) & 0xFF, 0x2E: (sectors - 1) >> 8,
        0x2F: sector >> 8 & 0xFF, 0x30: sector >> 16,
        0x3F: 1,  # protection fields
    }  # fmt: skip
    for start, text in ((0x10, b"QRY"), (0x31, b"PRI10")):
        table.update(enumerate(text, start))
    return table


def both(value: int) -> int:
    """The same from each chip."""
    return value | value << 8 * CHIP_WIDTH


class CfiFlash(BoardDevice):
    """A bank of `size` bytes, a multiple of SECTOR.

    A writable buffer of that size is used as it is; else `content` is what an erased bank holds
    at its beginning. `changed` hears each change of `array_mode`.
    """

    name = "flash"
    places = (FLASH[1],)
    order = 4
    state: State

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]:
        """The second bank, for the firmware's variables; the first is plain memory (vm.py)."""
        if tree.flash:
            place = FLASH[1]
            yield f"/flash@{place.base:x}", {
                "compatible": "cfi-flash", "reg": reg(place.base, place.size), "bank-width": 4,
            }  # fmt: skip

    def __init__(
        self,
        content: bytes | bytearray | memoryview = b"",
        size: int = BANK,
        *,
        writable: bool = True,
        changed: Callable[[bool], None] = lambda _: None,
        state: State | None = None,
    ) -> None:
        view = memoryview(content).cast("B")
        if size % SECTOR or size <= 0 or len(view) > size:
            raise ValueError(f"{len(view)} bytes in a bank of {size}: give whole sectors")
        if view.readonly or len(view) < size:
            fresh = bytearray(b"\xff") * size
            fresh[: len(view)] = view
            view = memoryview(fresh)
        self.content = view
        self.writable = writable
        self.state = state or State()
        self._table = query_table(size)
        self._changed = changed

    @property
    def array_mode(self) -> bool:
        """Whether the bank reads as the memory that it holds."""
        return self.state.command == READ_ARRAY

    def saved(self) -> State:
        """State and content, for a file."""
        erased = b"\xff" * SECTOR
        content = {n: bytes(self.content[n * SECTOR : (n + 1) * SECTOR])
                   for n in range(len(self.content) // SECTOR)}  # fmt: skip
        return replace(
            self.state, sectors={n: held for n, held in content.items() if held != erased}
        )

    def restore(self, state: State | None) -> None:
        """Become what another was; after reset it holds what it held."""
        if state is None:
            self.state = State()
            return
        self.content[:] = b"\xff" * len(self.content)
        for number, held in state.sectors.items():
            if number >= len(self.content) // SECTOR or len(held) != SECTOR:
                raise StateError("the flash has another number of sectors")
            self.content[number * SECTOR : (number + 1) * SECTOR] = held
        self.state = replace(state, sectors={})

    def read(self, offset: int, width: int) -> int:
        if self.array_mode:
            return int.from_bytes(self.content[offset : offset + width], "little")
        words = (width + WIDTH - 1) // WIDTH
        value = sum(self._answer(offset // WIDTH + n) << 8 * WIDTH * n for n in range(words))
        return value & (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        before = self.array_mode
        if self.state.step:
            self._go_on(offset, width, value)
        else:
            self._begin(value & 0xFF)
        if self.array_mode != before:
            self._changed(self.array_mode)

    def _answer(self, index: int) -> int:
        """What a word reads as in the other modes."""
        if self.state.command == READ_ID:
            # Any sector has its own lock status at index 2; none is locked.
            return both({0: MANUFACTURER, 1: DEVICE}.get(index & 0xFF, 0))
        if self.state.command == QUERY:
            return both(self._table.get(index, 0))
        return both(self.state.status)

    def _begin(self, command: int) -> None:
        state = self.state
        if command in (PROGRAM, PROGRAM_ALTERNATE, BUFFERED, ERASE, LOCK):
            state.command, state.step = command, 1
        elif command in (READ_STATUS, READ_ID, QUERY):
            state.command = command
        else:  # READ ARRAY, and whatever it does not know, such as AMD's reset
            state.command = READ_ARRAY
            if command == CLEAR_STATUS:
                state.status = READY

    def _go_on(self, offset: int, width: int, value: int) -> None:
        state = self.state
        if state.command == BUFFERED:
            self._buffered(offset, width, value)
            return
        state.step = 0
        if state.command in (PROGRAM, PROGRAM_ALTERNATE):
            self._program(offset, value.to_bytes(8, "little")[:width])
        elif value & 0xFF == READ_ARRAY:
            state.command = READ_ARRAY
        elif state.command == ERASE and value & 0xFF == CONFIRM:
            self._erase(offset - offset % SECTOR)
        elif state.command == ERASE or value & 0xFF not in (CONFIRM, SET_LOCK):
            state.status |= SEQUENCE_ERROR

    def _program(self, offset: int, data: bytes) -> None:
        if not self.writable:
            self.state.status |= PROGRAM_ERROR
            return
        held = self.content[offset : offset + len(data)]
        held[:] = cleared(held, data)

    def _erase(self, start: int) -> None:
        if not self.writable:
            self.state.status |= ERASE_ERROR
            return
        self.content[start : start + SECTOR] = b"\xff" * SECTOR

    # -- buffered programs: how many words less one, the words, CONFIRM --------------------------

    def _buffered(self, offset: int, width: int, value: int) -> None:
        state = self.state
        if state.step == 1:
            state.left, state.step, state.buffer = (value & 0xFFFF) + 1, 2, b""
        elif state.step == 2:
            self._gather(offset, value.to_bytes(8, "little")[:width])
            state.left -= 1
            state.step = 2 if state.left else 3
        else:
            state.step = 0
            if value & 0xFF != CONFIRM:
                state.status |= SEQUENCE_ERROR
            elif not state.status & PROGRAM_ERROR:
                self._program(state.start, state.buffer)
            state.buffer = b""

    def _gather(self, offset: int, data: bytes) -> None:
        state = self.state
        if not state.buffer:
            state.start, state.buffer = offset - offset % BUFFER, b"\xff" * BUFFER
        at = offset - state.start
        if not 0 <= at <= BUFFER - len(data):
            state.status |= PROGRAM_ERROR
            return
        state.buffer = state.buffer[:at] + data + state.buffer[at + len(data) :]


def cleared(held: bytes | memoryview, data: bytes) -> bytes:
    """What programming makes of bytes: it clears bits and sets none."""
    size = min(len(held), len(data))
    bits = int.from_bytes(held[:size], "little") & int.from_bytes(data[:size], "little")
    return bits.to_bytes(size, "little")
