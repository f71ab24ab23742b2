"""PL011, the UART of the virt machine (Arm DDI 0183, PrimeCell UART TRM).

Transmission is instant, reception holds one byte of look-ahead, and no interrupt line is wired:
the raw interrupt status is kept for a guest that polls it. Identification is that of QEMU's
(qemu v7.2 hw/char/pl011.c:pl011_id_arm), which guests compare.
"""

from __future__ import annotations

from dataclasses import dataclass

from emu.console import Console

DR, RSR, FR, ILPR, IBRD, FBRD = 0x00, 0x04, 0x18, 0x20, 0x24, 0x28
LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR, DMACR = 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44, 0x48
ID_FIRST, ID_LAST = 0xFE0, 0xFFC
IDENTIFICATION = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)

FR_TXFE = 1 << 7
FR_RXFE = 1 << 4
INT_TX = 1 << 5
INT_RX = 1 << 4


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
    dmacr: int = 0


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


class Pl011:
    """The UART in front of a console."""

    STATUS, DATA = FR, DR

    def __init__(self, console: Console, state: State | None = None) -> None:
        self.console = console
        self.state = state or State()

    def read(self, offset: int, width: int) -> int:
        if offset == DR:
            self.state.ris &= ~INT_RX
            return self.console.read() or 0
        if offset == FR:
            return FR_TXFE | (0 if self.console.has_input() else FR_RXFE)
        if offset in _PLAIN:
            return int(getattr(self.state, _PLAIN[offset][0]))
        if offset in (RIS, MIS):
            pending = self.state.ris | (INT_RX if self.console.has_input() else 0)
            return pending if offset == RIS else pending & self.state.imsc
        if ID_FIRST <= offset <= ID_LAST:
            return IDENTIFICATION[(offset - ID_FIRST) // 4]
        return 0

    def fixed_status(self) -> int | None:
        """FR, where no input can come; None where it may change at any time."""
        return FR_TXFE | FR_RXFE if self.console.silent else None

    def write_bytes(self, data: bytes) -> None:
        """Transmit."""
        self.console.write(data)
        self.state.ris |= INT_TX

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == DR:
            self.write_bytes(bytes((value & 0xFF,)))
        elif offset == ICR:
            self.state.ris &= ~value
        elif offset in _PLAIN:
            name, mask = _PLAIN[offset]
            setattr(self.state, name, value & mask)
