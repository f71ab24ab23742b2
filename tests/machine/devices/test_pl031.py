"""The real-time clock: the date, setting it, the alarm and its line. Values as QEMU answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import EPOCH_NS, Clock
from emu.base.state import from_state, to_state
from emu.machine.devices.pl031 import Pl031, State

DR, MR, LR, CR, IMSC, RIS, MIS, ICR = range(0, 0x20, 4)
SECOND = 1_000_000_000
NOW = EPOCH_NS // SECOND


def rtc(**options) -> tuple[Pl031, Clock, list[bool]]:
    clock, levels = Clock(**options), []
    return Pl031(clock, levels.append), clock, levels


def test_reset():
    device, _, levels = rtc()
    assert [device.read(offset, 4) for offset in range(0, 0x20, 4)] == [NOW, 0, 0, 1, 0, 0, 0, 0]
    found = [device.read(0xFE0 + 4 * n, 4) for n in range(8)]
    assert found == [0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    assert (levels, device.next_event()) == ([], None)


def test_the_date_goes_on_with_the_machine():
    device, clock, _ = rtc(epoch_ns=5 * SECOND + 1)
    assert device.read(DR, 4) == 5
    clock.jump(SECOND - 2)
    assert device.read(DR, 4) == 5
    clock.jump(1)
    assert device.read(DR, 4) == 6


def test_another_date():
    device, clock, _ = rtc()
    device.write(LR, 4, 1000)
    assert (device.read(DR, 4), device.read(LR, 4)) == (1000, 1000)
    clock.jump(7 * SECOND)
    assert (device.read(DR, 4), device.read(LR, 4)) == (1007, 1000)


def test_the_alarm():
    device, clock, levels = rtc(epoch_ns=EPOCH_NS + 1)
    device.write(IMSC, 4, 1)
    device.write(MR, 4, NOW + 3)
    assert device.next_event() == 3 * SECOND - 1
    clock.jump(3 * SECOND - 2)
    device.advance()
    assert levels == []
    clock.jump(1)
    device.advance()
    assert (levels, device.read(MIS, 4), device.next_event()) == ([True], 1, None)
    device.write(ICR, 4, 1)
    assert (levels, device.read(RIS, 4)) == ([True, False], 0)


def test_an_alarm_now_is_at_once():
    device, _, levels = rtc()
    device.write(MR, 4, NOW)
    assert (device.read(RIS, 4), device.read(MIS, 4), levels) == (1, 0, [])
    device.write(IMSC, 4, 1)
    assert levels == [True]


def test_a_masked_alarm_wakes_nobody_and_is_seen():
    device, clock, levels = rtc()
    device.write(MR, 4, NOW + 1)
    assert device.next_event() is None
    clock.jump(SECOND)
    assert (device.read(RIS, 4), levels) == (1, [])


def test_setting_the_date_moves_the_alarm():
    device, _, _ = rtc()
    device.write(IMSC, 4, 1)
    device.write(MR, 4, 1010)
    device.write(LR, 4, 1000)
    assert device.next_event() == 10 * SECOND


@pytest.mark.parametrize("offset", [DR, CR, RIS, MIS, 0x80, 0xFE0])
def test_what_cannot_be_written(offset):
    device, _, _ = rtc()
    before = device.read(offset, 4)
    device.write(offset, 4, 0)
    assert device.read(offset, 4) == before


def test_state_is_saved():
    device, clock, _ = rtc()
    for offset, value in ((LR, 1000), (MR, 1001), (IMSC, 1)):
        device.write(offset, 4, value)
    clock.jump(SECOND)
    levels: list[bool] = []
    again = Pl031(clock, levels.append, from_state(State, to_state(device.state)))
    assert levels == [True]
    assert again.read(DR, 4) == 1001


@given(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    device, _, _ = rtc()
    device.write(offset, width, value)
    assert 0 <= device.read(offset, width) < 1 << 32
    event = device.next_event()
    assert event is None or 0 <= event < 1 << 62
    assert from_state(State, to_state(device.state)) == device.state
