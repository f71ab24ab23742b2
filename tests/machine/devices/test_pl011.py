"""The UART: reset values, data both ways, flags, interrupt status and identification."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.console import Console, Descriptor, Source, Typed
from emu.base.state import from_state, to_state
from emu.machine.devices.pl011 import Pl011, State

DR, RSR, FR, RIS, MIS, ICR, IMSC = 0x00, 0x04, 0x18, 0x3C, 0x40, 0x44, 0x38
LCR_H, IFLS, FEN = 0x2C, 0x34, 1 << 4
TXFE, RXFF, RXFE, RT, TX, RX = 1 << 7, 1 << 6, 1 << 4, 1 << 6, 1 << 5, 1 << 4


def uart(typed: bytes = b"") -> Pl011:
    return Pl011(Console(Typed(typed)))


RESET = {0x20: 0, 0x24: 0, 0x28: 0, 0x2C: 0, 0x30: 0x300, 0x34: 0x12, 0x38: 0, 0x48: 0, RSR: 0}
WIDTHS = {0x20: 8, 0x24: 16, 0x28: 6, 0x2C: 8, 0x30: 16, 0x34: 6, 0x38: 11, 0x48: 3}


@pytest.mark.parametrize(("offset", "value"), RESET.items())
def test_reset(offset, value):
    assert uart().read(offset, 4) == value


@pytest.mark.parametrize(("offset", "bits"), WIDTHS.items())
def test_registers_keep_their_width(offset, bits):
    device = uart()
    device.write(offset, 4, 0xFFFF_FFFF)
    assert device.read(offset, 4) == (1 << bits) - 1


def test_transmission_is_instant():
    device = uart()
    device.write(DR, 4, 0x141)
    assert str(device.console) == "A"
    assert device.read(FR, 4) == TXFE | RXFE
    assert device.read(RIS, 4) == TX


def flags(device: Pl011, reads: int = 8) -> int:
    """FR as it is after so many reads."""
    return [device.read(FR, 4) for _ in range(reads)][-1]


def test_reception_by_a_guest_that_reads():
    device = uart(b"ab")
    assert [device.read(DR, 4) for _ in range(3)] == [ord("a"), ord("b"), 0]
    assert device.read(FR, 4) == TXFE | RXFE
    assert device.read(RIS, 4) == 0


def test_reception_by_a_guest_that_polls():
    device = uart(b"ab")
    assert flags(device, 7) == TXFE | RXFE
    assert flags(device, 1) == TXFE | RXFF
    assert device.read(RIS, 4) == RX
    assert device.read(DR, 4) == ord("a")
    assert flags(device, 1) == TXFE | RXFF
    device.write(DR, 4, ord("a"))
    assert device.read(DR, 4) == ord("b")
    assert flags(device, 1) == TXFE | RXFE


@pytest.mark.parametrize("offset", [DR, ICR, IMSC, LCR_H])
def test_who_writes_does_not_poll(offset):
    device = uart(b"ab")
    for _ in range(3):
        assert flags(device, 7) == TXFE | RXFE
        device.write(offset, 4, 0)


def test_a_guest_that_polls_takes_one_at_a_time():
    device = uart(b"abc")
    device.write(LCR_H, 4, FEN)
    flags(device)
    assert device.state.fifo == b"a"
    assert device.console.read() == ord("b")


def test_a_driver_that_empties_the_fifo_at_its_start_loses_nothing():
    """As pl011_enable_interrupts does: ICR, at most 32 times FR and DR, IMSC."""
    device = uart(b"typed before the start")
    device.write(LCR_H, 4, FEN)
    device.write(ICR, 4, RT | RX)
    for _ in range(32):
        if device.read(FR, 4) & RXFE:
            break
        device.read(DR, 4)
    device.write(IMSC, 4, RT | RX)
    assert device.state.fifo == b"typed before the start"[:16]
    taken = b""
    while not device.read(FR, 4) & RXFE:
        taken += bytes((device.read(DR, 4),))
    assert taken == b"typed before the start"


@pytest.mark.parametrize(("fen", "held", "fr"), [
    (0, 0, TXFE | RXFE), (0, 1, TXFE | RXFF), (0, 2, TXFE | RXFF),
    (FEN, 0, TXFE | RXFE), (FEN, 1, TXFE), (FEN, 15, TXFE), (FEN, 17, TXFE | RXFF),
])
def test_the_fifo_and_its_flags(fen, held, fr):
    device = uart(b"x" * held)
    device.write(LCR_H, 4, fen)
    device.write(IMSC, 4, RX)
    assert len(device.state.fifo) == min(held, 16 if fen else 1)
    assert device.read(FR, 4) == fr


# RXIFLSEL → eighths of the FIFO (DDI 0183 §3.3.9)
@pytest.mark.parametrize(("select", "trigger"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14), (7, 14)])
def test_interrupts_follow_the_level(select, trigger):
    for held in range(17):
        device = uart(b"x" * held)
        device.write(LCR_H, 4, FEN)
        device.write(IFLS, 4, select << 3)
        device.write(IMSC, 4, RX)
        expected = (RX if held >= trigger else 0) | (RT if held else 0)
        assert device.read(RIS, 4) == expected
        assert device.read(MIS, 4) == expected & RX


def test_without_fifo_each_byte_interrupts():
    device = uart(b"xy")
    device.write(IMSC, 4, RX | RT)
    for _ in "xy":
        assert device.read(RIS, 4) == RX
        device.read(DR, 4)
    assert device.read(RIS, 4) == 0


def test_masked_status_and_clear():
    device = uart()
    device.write(DR, 4, 0)
    assert (device.read(MIS, 4), device.read(RIS, 4)) == (0, TX)
    device.write(IMSC, 4, TX)
    assert device.read(MIS, 4) == TX
    device.write(ICR, 4, RX)
    assert device.read(MIS, 4) == TX
    device.write(ICR, 4, TX)
    assert device.read(RIS, 4) == 0


def heard(typed: bytes = b"", source: Source | None = None) -> tuple[Pl011, list[bool]]:
    levels: list[bool] = []
    return Pl011(Console(source or Typed(typed)), levels.append), levels


def test_the_line_tells_changes_only():
    device, levels = heard()
    device.write(DR, 4, 0)
    device.write(IMSC, 4, TX)
    device.write(DR, 4, 0)
    assert levels == [True]
    device.write(ICR, 4, TX)
    device.write(ICR, 4, TX)
    assert levels == [True, False]


def test_the_line_falls_with_the_last_byte():
    device, levels = heard(b"ab")
    device.write(LCR_H, 4, FEN)
    device.write(IMSC, 4, RX | RT)
    device.write(ICR, 4, RX | RT)
    assert levels == [True]
    device.read(DR, 4)
    assert levels == [True]
    device.read(DR, 4)
    assert levels == [True, False]


def test_a_handler_that_clears_after_reading_sees_the_next_byte():
    device, levels = heard(b"ab")
    device.write(IMSC, 4, RX)
    device.read(DR, 4)
    device.write(ICR, 4, RX)
    assert levels == [True, False, True]
    assert device.state.fifo == b"b"


class Later(Typed):
    """Typed by a script, but not yet."""

    ready = False

    def poll(self) -> int | None:
        return super().poll() if self.ready else None


def test_scripted_input_waits_for_the_guest_or_for_idleness():
    source = Later(b"x")
    device, levels = heard(source=source)
    device.write(IMSC, 4, RX)
    source.ready = True
    device.poll()
    assert levels == []
    device.poll(idle=True)
    assert levels == [True]


def test_live_input_comes_between_stretches():
    reader, writer = os.pipe()
    device, levels = heard(source=Descriptor(reader))
    device.poll()
    os.write(writer, b"abc")
    device.poll()
    assert (levels, device.state.fifo) == ([], b"")
    device.write(IMSC, 4, RX)
    device.read(DR, 4)
    assert levels == [True, False]
    device.poll()
    assert levels == [True, False, True]
    os.close(reader)
    os.close(writer)


def test_when_the_status_is_fixed():
    assert uart().fixed_status() == TXFE | RXFE
    device = uart(b"x")
    assert device.fixed_status() is None
    flags(device)
    assert device.console.silent
    assert device.fixed_status() is None
    device.read(DR, 4)
    assert device.fixed_status() == TXFE | RXFE


def test_identification_is_qemus():
    device = uart()
    found = [device.read(0xFE0 + 4 * n, 4) for n in range(8)]
    assert found == [0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_state_is_taken_over():
    assert Pl011(Console(), state=State(cr=0x301)).read(0x30, 4) == 0x301


def test_state_is_saved_with_its_fifo():
    device, _ = heard(b"abc")
    device.write(LCR_H, 4, FEN)
    device.write(IMSC, 4, RX | RT)
    state = from_state(State, to_state(device.state))
    assert state == device.state
    levels: list[bool] = []
    again = Pl011(Console(), levels.append, state)
    assert levels == [True]
    assert bytes(again.read(DR, 4) for _ in range(3)) == b"abc"


def test_a_replaced_state_moves_the_line_with_the_next_poll():
    device, levels = heard()
    device.state = State(ris=TX, imsc=TX)
    device.poll()
    assert levels == [True]


@given(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    device = uart(b"typed")
    assert 0 <= device.read(offset, width) < 1 << 32
    device.write(offset, width, value)
    assert 0 <= device.read(offset, width) < 1 << 32
