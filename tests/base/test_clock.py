"""Time is cycles: one nanosecond each unless a frequency says otherwise."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import COUNTER_HZ, DEFAULT_RATE, EPOCH_NS, MAX_HZ, MIN_HZ, Clock, rate_of
from emu.base.errors import EmuError

cycles = st.integers(0, 2**60)


def test_stands_still_alone():
    clock = Clock()
    assert (clock.cycles, clock.nanoseconds, clock.counter) == (0, 0, 0)


def test_starts_in_2026():
    start = datetime.datetime.fromtimestamp(Clock().wall_ns / 1e9, datetime.UTC)
    assert start.isoformat() == "2026-01-01T00:00:00+00:00"
    assert Clock(epoch_ns=5).wall_ns == 5


def test_a_tick_is_16_ns():
    assert (COUNTER_HZ, DEFAULT_RATE) == (62_500_000, (1, 16))


@given(cycles, st.integers(MIN_HZ, MAX_HZ))
def test_every_unit_follows_the_frequency(executed, hz):
    clock = Clock(SimpleNamespace(cycles=executed), hz=hz)
    assert clock.counter == executed * COUNTER_HZ // hz
    assert clock.nanoseconds == executed * 10**9 // hz
    # The first cycle at which that time has passed, and none before it.
    due = clock.cycles_in(clock.nanoseconds)
    assert due <= executed
    assert clock.nanoseconds_in(due) == clock.nanoseconds
    assert due == 0 or clock.nanoseconds_in(due - 1) < clock.nanoseconds


@pytest.mark.parametrize("hz", [0, 1, MIN_HZ - 1, MAX_HZ + 1])
def test_a_frequency_no_core_has(hz):
    with pytest.raises(EmuError, match="give a frequency from 1 MHz to 10 GHz"):
        rate_of(hz)


@given(cycles, cycles)
def test_units_follow_the_source(executed, skipped):
    source = SimpleNamespace(cycles=executed)
    clock = Clock(source)
    clock.jump(skipped)
    assert clock.cycles == clock.nanoseconds == executed + skipped
    assert clock.counter == (executed + skipped) // 16
    assert clock.wall_ns == EPOCH_NS + executed + skipped
    source.cycles += 16
    assert clock.counter == (executed + skipped) // 16 + 1


def test_never_backwards():
    with pytest.raises(ValueError, match="backwards"):
        Clock().jump(-1)
