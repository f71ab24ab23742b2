"""The UART: reset values, data both ways, flags, interrupt status and identification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.console import Console, Typed
from emu.devices.pl011 import Pl011, State

DR, RSR, FR, RIS, MIS, ICR, IMSC = 0x00, 0x04, 0x18, 0x3C, 0x40, 0x44, 0x38
TXFE, RXFE, TX, RX = 1 << 7, 1 << 4, 1 << 5, 1 << 4


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


def test_reception():
    device = uart(b"ab")
    assert device.read(FR, 4) == TXFE
    assert device.read(RIS, 4) == RX
    assert [device.read(DR, 4) for _ in range(3)] == [ord("a"), ord("b"), 0]
    assert device.read(FR, 4) == TXFE | RXFE
    assert device.read(RIS, 4) == 0


def test_masked_status_and_clear():
    device = uart(b"x")
    device.write(DR, 4, 0)
    assert device.read(MIS, 4) == 0
    device.write(IMSC, 4, TX)
    assert device.read(MIS, 4) == TX
    device.write(ICR, 4, TX)
    assert device.read(RIS, 4) == RX


def test_identification_is_qemus():
    device = uart()
    found = [device.read(0xFE0 + 4 * n, 4) for n in range(8)]
    assert found == [0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_state_is_taken_over():
    assert Pl011(Console(), State(cr=0x301)).read(0x30, 4) == 0x301


@given(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    device = uart(b"typed")
    assert 0 <= device.read(offset, width) < 1 << 32
    device.write(offset, width, value)
    assert 0 <= device.read(offset, width) < 1 << 32
