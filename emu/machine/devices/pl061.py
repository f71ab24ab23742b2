"""PL061, eight general-purpose lines, one of which is the power key (Arm DDI 0190).

QEMU's virt machine asks its guest to switch off by line 3, as a key that is held for a tenth of
a second (qemu v7.2 hw/arm/virt.c:create_gpio_keys and hw/gpio/gpio_key.c); the machine asks
`next_event` when it is released and calls `advance` then. The interrupt is SPI 7 there.

Interrupts are raised as in QEMU (hw/gpio/pl061.c:pl061_update): by an edge of an input, or again
and again by a level. Identification is QEMU's. Not modelled: what output lines would drive, and
the alternate functions that AFSEL selects; nothing is connected to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from emu.base.bus import FIRST_SPI, Line, Place, ignore
from emu.base.clock import NS, Clock
from emu.images.devicetree import CLOCK_PHANDLE, Board, Node, reg, spi
from emu.machine.device import BoardDevice, Socket

PLACE, SPI = Place("PL061", 0x0903_0000, 0x1000), 7
"""Of virt: base_memmap[VIRT_GPIO] and a15irqmap (qemu v7.2 hw/arm/virt.c)."""
PHANDLE = 0x8003
"""As QEMU's dumpdtb shows it; any would do."""
KEY_POWER = 116
"""linux include/uapi/linux/input-event-codes.h."""
DATA_LAST = 0x3FC
DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = range(0x400, 0x424, 4)
ID_FIRST, ID_LAST = 0xFD0, 0xFFC
IDENTIFICATION = (0, 0, 0, 0, 0x61, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
"""qemu v7.2 hw/gpio/pl061.c:pl061_id, from PeriphID4 on."""
POWER_KEY = 3
"""Its line (qemu v7.2 hw/arm/virt.c:create_gpio_keys, the FDT's gpios = <&pl061 3 0>)."""
HELD = NS // 10
"""Nanoseconds for which the key is held (qemu v7.2 hw/gpio/gpio_key.c:GPIO_KEY_LATENCY, 100 ms)."""

U8 = Annotated[int, 8]


@dataclass(slots=True)
class State:
    """Registers of eight bits, one for each line; the reset values are 0 (DDI 0190 §3.2)."""

    data: U8 = 0
    dir: U8 = 0
    is_: U8 = 0
    ibe: U8 = 0
    iev: U8 = 0
    ie: U8 = 0
    ris: U8 = 0
    afsel: U8 = 0
    seen: U8 = 0
    """The data when an input last changed: an edge is a difference from it."""
    release: int | None = None
    """The cycle at which the power key is let go."""


_PLAIN = {DIR: "dir", IS: "is_", IBE: "ibe", IEV: "iev", IE: "ie", AFSEL: "afsel"}


class Pl061(BoardDevice):
    """The lines; `line` hears the level of their interrupt, GPIOINTR."""

    name = "pl061"
    places = (PLACE,)
    order = 3
    state: State

    @classmethod
    def plug(cls, socket: Socket) -> Pl061:
        return cls(socket.clock, socket.line(FIRST_SPI + SPI))

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]:
        """qemu v7.2 hw/arm/virt.c:create_gpio_devices: a key on one of its lines."""
        yield f"/pl061@{PLACE.base:x}", {
            "phandle": PHANDLE,
            "compatible": ["arm,pl061", "arm,primecell"],
            "reg": reg(PLACE.base, PLACE.size),
            "#gpio-cells": 2,
            "gpio-controller": None,
            "interrupts": spi(SPI),
            "clocks": CLOCK_PHANDLE,
            "clock-names": "apb_pclk",
        }
        yield "/gpio-keys", {"compatible": "gpio-keys"}
        yield "/gpio-keys/poweroff", {
            "label": "GPIO Key Poweroff",
            "linux,code": KEY_POWER,
            "gpios": [PHANDLE, POWER_KEY, 0],
        }

    def __init__(self, clock: Clock, line: Line = ignore, state: State | None = None) -> None:
        self.clock = clock
        self.state = state or State()
        self._line = line
        self._level = False
        self.advance()

    def press_power_key(self) -> None:
        """Press it; it is let go by itself."""
        self.set_input(POWER_KEY, high=True)
        self.state.release = self.clock.cycles + self.clock.cycles_in(HELD)

    def set_input(self, line: int, *, high: bool) -> None:
        """Drive one of the lines 0 to 7 from outside; an output of the guest's stays as it is."""
        bit, state = 1 << line, self.state
        if state.dir & bit:
            return
        state.data = state.data & ~bit | (bit if high else 0)
        self._update()

    def restore(self, state: State | None) -> None:
        """Become what another was, or as after reset."""
        self.state = state or State()
        self._update()

    def next_event(self) -> int | None:
        """The cycle at which something happens by itself."""
        return self.state.release

    def advance(self) -> None:
        """Let go of the key if it is time."""
        due = self.state.release
        if due is not None and self.clock.cycles >= due:
            self.state.release = None
            self.set_input(POWER_KEY, high=False)
        self._update()

    def read(self, offset: int, width: int) -> int:
        self.advance()
        state = self.state
        if offset <= DATA_LAST:
            return state.data & offset >> 2
        if offset in _PLAIN:
            return int(getattr(state, _PLAIN[offset]))
        if offset in (RIS, MIS):
            return state.ris & (state.ie if offset == MIS else 0xFF)
        if ID_FIRST <= offset <= ID_LAST:
            return IDENTIFICATION[(offset - ID_FIRST) // 4]
        return 0

    def write(self, offset: int, width: int, value: int) -> None:
        self.advance()
        state = self.state
        if offset <= DATA_LAST:
            mask = offset >> 2 & state.dir
            state.data = state.data & ~mask | value & mask
        elif offset in _PLAIN:
            setattr(state, _PLAIN[offset], value & 0xFF)
        elif offset == IC:
            state.ris &= ~value
        self._update()

    def _update(self) -> None:
        state = self.state
        changed, as_wanted = (state.seen ^ state.data) & ~state.dir, ~(state.data ^ state.iev)
        if changed:
            state.seen = state.data
        state.ris |= changed & ~state.is_ & (state.ibe | as_wanted) | state.is_ & as_wanted
        level = bool(state.ris & state.ie)
        if level != self._level:
            self._level = level
            self._line(level)
