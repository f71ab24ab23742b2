"""PL031, the real-time clock of the virt machine (Arm DDI 0224, PrimeCell RTC TRM).

It counts the seconds of the emulated machine's wall clock (clock.py), so that a date a guest
reads is a function of what it has executed. LR sets another date and changes nothing but the
distance between the two. MR sets the alarm; the machine asks `next_event` when it is due and
calls `advance` then. As in QEMU (qemu v7.2 hw/rtc/pl031.c) the clock cannot be stopped, and the
alarm raises its interrupt once: at once, where MR is the present second. The interrupt is SPI 2
of virt (qemu v7.2 hw/arm/virt.c: a15irqmap). Not modelled: the test registers of §4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emu.base.bus import FIRST_SPI, Line, Place, ignore
from emu.base.clock import NS, Clock
from emu.base.smccc import MASK32
from emu.images.devicetree import CLOCK_PHANDLE, Board, Node, reg, spi
from emu.machine.device import BoardDevice, Socket

PLACE, SPI = Place("PL031", 0x0901_0000, 0x1000), 2
"""Of virt: base_memmap[VIRT_RTC] and a15irqmap (qemu v7.2 hw/arm/virt.c)."""
DR, MR, LR, CR, IMSC, RIS, MIS, ICR = range(0x00, 0x20, 4)
ID_FIRST, ID_LAST = 0xFE0, 0xFFC
IDENTIFICATION = (0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
"""qemu v7.2 hw/rtc/pl031.c:pl031_id."""
ENABLED = 1
"""CR, which a guest cannot change."""


@dataclass(slots=True)
class State:
    """What a guest can change; the defaults are the reset values (DDI 0224 §3.2)."""

    mr: int = 0
    lr: int = 0
    imsc: int = 0
    ris: int = 0
    offset: int = 0
    """Seconds the guest's date is ahead of the machine's, modulo 2³²."""
    alarm: int | None = None
    """The second of the machine's wall clock at which MR is reached."""


class Pl031(BoardDevice):
    """The clock; `line` hears the level of its interrupt, RTCINTR."""

    name = "pl031"
    places = (PLACE,)
    order = 2
    state: State

    @classmethod
    def plug(cls, socket: Socket) -> Pl031:
        return cls(socket.clock, socket.line(FIRST_SPI + SPI))

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]:
        yield f"/pl031@{PLACE.base:x}", {
            "compatible": ["arm,pl031", "arm,primecell"],
            "reg": reg(PLACE.base, PLACE.size),
            "interrupts": spi(SPI),
            "clocks": CLOCK_PHANDLE,
            "clock-names": "apb_pclk",
        }

    def __init__(self, clock: Clock, line: Line = ignore, state: State | None = None) -> None:
        self.clock = clock
        self.state = state or State()
        self._line = line
        self._level = False
        self.advance()

    def restore(self, state: State | None) -> None:
        """Become what another was, or as after reset."""
        self.state = state or State()
        self._update()

    def next_event(self) -> int | None:
        """The cycle at which the interrupt is due; None while it is masked or there is none."""
        if self.state.alarm is None or not self.state.imsc:
            return None
        nanoseconds = max(self.state.alarm * NS - self.clock.epoch_ns, 0)
        return self.clock.cycles_in(nanoseconds)

    def advance(self) -> None:
        """Raise the alarm if it is due."""
        state = self.state
        if state.alarm is not None and self._second() >= state.alarm:
            state.ris, state.alarm = 1, None
        self._update()

    def read(self, offset: int, width: int) -> int:
        self.advance()
        state = self.state
        if ID_FIRST <= offset <= ID_LAST:
            return IDENTIFICATION[(offset - ID_FIRST) // 4]
        values = {DR: self._count(), MR: state.mr, LR: state.lr, CR: ENABLED, IMSC: state.imsc,
                  RIS: state.ris, MIS: state.ris & state.imsc}  # fmt: skip
        return values.get(offset, 0)

    def write(self, offset: int, width: int, value: int) -> None:
        self.advance()
        state, value = self.state, value & MASK32
        if offset == LR:
            state.lr = value
            state.offset = (value - self._second()) & MASK32
            self._set_alarm()
        elif offset == MR:
            state.mr = value
            self._set_alarm()
        elif offset == IMSC:
            state.imsc = value & 1
        elif offset == ICR:
            state.ris &= ~value
        self.advance()

    def _second(self) -> int:
        return self.clock.wall_ns // NS

    def _count(self) -> int:
        return (self._second() + self.state.offset) & MASK32

    def _set_alarm(self) -> None:
        """The count is of 32 bits and goes round, so the alarm is always ahead."""
        self.state.alarm = self._second() + ((self.state.mr - self._count()) & MASK32)

    def _update(self) -> None:
        level = bool(self.state.ris & self.state.imsc)
        if level != self._level:
            self._level = level
            self._line(level)
