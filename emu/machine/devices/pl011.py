"""PL011, the UART of the virt machine (Arm DDI 0183, PrimeCell UART TRM).

Transmission is instant. Received bytes stay with the console until the guest listens: while it
has unmasked the receive or the receive timeout interrupt (then as many as the FIFO holds), when
it reads DR, or when it has read FR `PATIENCE` times running and written nothing, as a guest does
that polls (then one at a time). So nothing typed beforehand is lost where a driver empties the
FIFO at its start (linux v6.1 drivers/tty/serial/amba-pl011.c:pl011_enable_interrupts), and a
boot loader takes no more than it reads.

The receive interrupts follow the FIFO's level, so ICR has no effect on them while their reason
lasts; the timeout's 32 bit periods (§2.8) pass at once. The transmit interrupt is raised by
each byte written, and stays until ICR clears it (§2.8: it comes from a transition). Interrupts
are told to `line`, on each change. When bytes arrive is a function of what the guest does: with
its next access that is no write to DR, or when it idles; only a live source is also asked between
stretches (`poll`).

Identification is that of QEMU's (qemu v7.2 hw/char/pl011.c:pl011_id_arm), which guests compare.
Not modelled: baud rates, DMA, loopback, modem lines, SIR, and errors of the line; the FIFO takes
only what it has room for, so it never overruns. Changing FEN keeps what was received.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from emu.base.bus import FIRST_SPI, Line, Place, ignore
from emu.base.console import Console
from emu.images.devicetree import CLOCK_PHANDLE, Board, Node, reg, spi
from emu.machine.device import BoardDevice, Socket

PLACE, SPI = Place("PL011", 0x0900_0000, 0x1000), 1
"""Of virt: base_memmap[VIRT_UART] and a15irqmap (qemu v7.2 hw/arm/virt.c)."""
DR, RSR, FR, ILPR, IBRD, FBRD = 0x00, 0x04, 0x18, 0x20, 0x24, 0x28
LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR, DMACR = 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44, 0x48
ID_FIRST, ID_LAST = 0xFE0, 0xFFC
IDENTIFICATION = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)

FR_TXFE = 1 << 7
FR_RXFF = 1 << 6
FR_RXFE = 1 << 4
LCR_H_FEN = 1 << 4
INT_RT = 1 << 6
INT_TX = 1 << 5
INT_RX = 1 << 4

DEPTH = 16
"""Of the FIFOs, at the revision in the identification (linux amba-pl011.c:get_fifosize_arm)."""
TRIGGERS = (2, 4, 8, 12, 14)
"""RXIFLSEL: 1/8, 1/4, 1/2, 3/4 and 7/8 full (§3.3.9); the reserved values count as the last."""
PATIENCE = 8
"""How often FR is read before that is polling; a driver that prints reads it once or twice."""


@dataclass(slots=True)
class State:
    """The registers a guest can change; the defaults are the reset values (DDI 0183 §3.2)."""

    ilpr: int = 0
    ibrd: int = 0
    fbrd: int = 0
    lcr_h: int = 0
    cr: int = 0x300
    ifls: int = 0x12
    imsc: int = 0
    ris: int = 0
    """What was raised and lasts until ICR; the receive interrupts come from the FIFO."""
    dmacr: int = 0
    fifo: bytes = b""
    """Received and not yet read."""
    polls: Annotated[int, 8] = 0
    """How often FR was read since the last write, up to PATIENCE."""


# Offset → field of State and its width as a mask (DDI 0183 §3.2, register summary).
_PLAIN = {
    ILPR: ("ilpr", 0xFF),
    IBRD: ("ibrd", 0xFFFF),
    FBRD: ("fbrd", 0x3F),
    LCR_H: ("lcr_h", 0xFF),
    CR: ("cr", 0xFFFF),
    IFLS: ("ifls", 0x3F),
    IMSC: ("imsc", 0x7FF),
    DMACR: ("dmacr", 0x7),
}


class Pl011(BoardDevice):
    """The UART in front of a console; `line` hears the level of its interrupt, UARTINTR."""

    STATUS, DATA = FR, DR
    name = "pl011"
    places = (PLACE,)
    order = 1
    console_path = f"/pl011@{PLACE.base:x}"
    state: State

    @classmethod
    def plug(cls, socket: Socket) -> Pl011:
        return cls(socket.console, socket.line(FIRST_SPI + SPI))

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]:
        yield cls.console_path, {
            "compatible": ["arm,pl011", "arm,primecell"],
            "reg": reg(PLACE.base, PLACE.size),
            "interrupts": spi(SPI),
            "clocks": [CLOCK_PHANDLE, CLOCK_PHANDLE],
            "clock-names": ["uartclk", "apb_pclk"],
        }

    def __init__(
        self, console: Console, line: Line = ignore, state: State | None = None
    ) -> None:
        self.console = console
        self.state = state or State()
        self._line = line
        self._level = False
        self._update()

    def restore(self, state: State | None) -> None:
        """Become what another was, or as after reset."""
        self.state = state or State()
        self._update()

    def poll(self, *, idle: bool = False) -> None:
        """Look whether input has come; the machine calls it between stretches and when idle.

        Input known beforehand comes when idle only: where a stretch ends is the host's affair.
        """
        if idle or self.console.live:
            self._fill()
        self._update()

    def read(self, offset: int, width: int) -> int:
        if offset == DR:
            return self._receive()
        if offset == FR and self.fixed_status() is None:
            self.state.polls = min(self.state.polls + 1, PATIENCE)
        self._fill()
        value = self._register(offset)
        self._update()
        return value

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == DR:
            self.write_bytes(bytes((value & 0xFF,)))
            return
        self.state.polls = 0
        if offset == ICR:
            self.state.ris &= ~value
        elif offset in _PLAIN:
            name, mask = _PLAIN[offset]
            setattr(self.state, name, value & mask)
        self._fill()
        self._update()

    def fixed_status(self) -> int | None:
        """FR, where no input can come; None where it may change at any time."""
        silent = self.console.silent and not self.state.fifo
        return FR_TXFE | FR_RXFE if silent else None

    def hears_each_byte(self) -> bool:
        """Whether the transmit interrupt is unmasked."""
        return bool(self.state.imsc & INT_TX)

    def write_bytes(self, data: bytes) -> None:
        """Transmit."""
        self.console.write(data)
        self.state.ris |= INT_TX
        self.state.polls = 0
        self._update()

    def _register(self, offset: int) -> int:
        if offset in _PLAIN:
            return int(getattr(self.state, _PLAIN[offset][0]))
        if offset == FR:
            return self._flags()
        if offset in (RIS, MIS):
            return self._pending() & (self.state.imsc if offset == MIS else ~0)
        if ID_FIRST <= offset <= ID_LAST:
            return IDENTIFICATION[(offset - ID_FIRST) // 4]
        return 0

    # -- reception ------------------------------------------------------------------------------

    def _depth(self) -> int:
        return DEPTH if self.state.lcr_h & LCR_H_FEN else 1

    def _flags(self) -> int:
        held = len(self.state.fifo)
        return FR_TXFE | (0 if held else FR_RXFE) | (FR_RXFF if held >= self._depth() else 0)

    def _wanted(self) -> int:
        """How many bytes the guest is ready to find in the FIFO."""
        if self.state.imsc & (INT_RX | INT_RT):
            return self._depth()
        return int(self.state.polls >= PATIENCE)

    def _fill(self, least: int = 0) -> None:
        wanted = max(self._wanted(), least)
        while len(self.state.fifo) < wanted and (byte := self.console.read()) is not None:
            self.state.fifo += bytes((byte,))

    def _receive(self) -> int:
        """DR. The next byte comes with a later access, as it does on a line."""
        self._fill(least=1)
        head, self.state.fifo = self.state.fifo[:1], self.state.fifo[1:]
        self._update()
        return head[0] if head else 0

    # -- interrupts -----------------------------------------------------------------------------

    def _trigger(self) -> int:
        select = min(self.state.ifls >> 3 & 7, len(TRIGGERS) - 1)
        return TRIGGERS[select] if self._depth() > 1 else 1

    def _pending(self) -> int:
        """RIS."""
        held = len(self.state.fifo)
        full_enough = INT_RX if held >= self._trigger() else 0
        timeout = INT_RT if held and self._depth() > 1 else 0
        return self.state.ris | full_enough | timeout

    def _update(self) -> None:
        level = bool(self._pending() & self.state.imsc)
        if level != self._level:
            self._level = level
            self._line(level)
