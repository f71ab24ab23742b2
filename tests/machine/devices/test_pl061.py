"""The general-purpose lines: masked data, edges and levels, the power key, identification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import Clock
from emu.base.state import from_state, to_state
from emu.machine.devices.pl061 import HELD, Pl061, State

ALL = 0x3FC
DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = range(0x400, 0x424, 4)
KEY = 1 << 3


def gpio() -> tuple[Pl061, Clock, list[bool]]:
    clock, levels = Clock(), []
    return Pl061(clock, levels.append), clock, levels


def test_reset():
    device, _, levels = gpio()
    assert [device.read(offset, 4) for offset in (ALL, *range(0x400, 0x424, 4))] == [0] * 10
    found = [device.read(0xFD0 + 4 * n, 4) for n in range(12)]
    assert found == [0, 0, 0, 0, 0x61, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    assert (levels, device.next_event()) == ([], None)


@pytest.mark.parametrize("offset", [DIR, IS, IBE, IEV, IE, AFSEL])
def test_registers_of_eight_bits(offset):
    device, _, _ = gpio()
    device.write(offset, 4, 0x1FF)
    assert device.read(offset, 4) == 0xFF


def test_the_address_masks_the_data():
    device, _, _ = gpio()
    device.write(DIR, 4, 0xF0)
    device.write(ALL, 4, 0xFF)
    assert device.read(ALL, 4) == 0xF0
    device.write(0x30 << 2, 4, 0x10)
    assert device.read(ALL, 4) == 0xD0
    assert device.read(0x50 << 2, 4) == 0x50


# IBE, IEV → whether a rising and then a falling edge of an input raise the interrupt
@pytest.mark.parametrize(("both", "event", "rising", "falling"), [
    (0, 1, True, False), (0, 0, False, True), (1, 0, True, True), (1, 1, True, True),
])
def test_edges(both, event, rising, falling):
    device, _, levels = gpio()
    for offset, value in ((IEV, event), (IBE, both), (IE, 1)):
        device.write(offset, 4, value * KEY)
    for high, expected in ((True, rising), (False, falling)):
        device.set_input(3, high=high)
        assert device.read(RIS, 4) == device.read(MIS, 4) == (KEY if expected else 0)
        device.write(IC, 4, 0xFF)
        assert device.read(RIS, 4) == 0
    assert levels == [True, False] * (rising + falling)


@pytest.mark.parametrize("event", [0, 1])
def test_levels(event):
    device, _, _ = gpio()
    device.write(IEV, 4, event * KEY)
    device.write(IS, 4, KEY)
    for high in (True, False, True):
        device.set_input(3, high=high)
        device.write(IC, 4, 0xFF)
        assert device.read(RIS, 4) == (KEY if high == bool(event) else 0)


def test_an_output_is_not_driven_from_outside():
    device, _, _ = gpio()
    device.write(DIR, 4, KEY)
    device.set_input(3, high=True)
    assert device.read(ALL, 4) == 0


def test_the_power_key():
    """As Linux's gpio-keys sets it up: both edges (linux drivers/input/keyboard/gpio_keys.c)."""
    device, clock, levels = gpio()
    device.write(IBE, 4, KEY)
    device.write(IE, 4, KEY)
    device.press_power_key()
    assert (levels, device.read(ALL, 4), device.next_event()) == ([True], KEY, HELD)
    device.write(IC, 4, KEY)
    assert levels == [True, False]
    clock.jump(HELD - 1)
    device.advance()
    assert device.read(ALL, 4) == KEY
    clock.jump(1)
    device.advance()
    assert (levels, device.read(ALL, 4)) == ([True, False, True], 0)
    assert device.next_event() is None


def test_state_is_saved():
    device, clock, _ = gpio()
    device.write(IBE, 4, KEY)
    device.write(IE, 4, KEY)
    device.press_power_key()
    levels: list[bool] = []
    again = Pl061(clock, levels.append, from_state(State, to_state(device.state)))
    assert levels == [True]
    assert again.next_event() == HELD


@given(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    device, _, _ = gpio()
    device.write(offset, width, value)
    assert 0 <= device.read(offset, width) < 1 << 8
    assert from_state(State, to_state(device.state)) == device.state
