"""Time is cycles: one nanosecond each, 16 to a tick of the counter."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.clock import COUNTER_HZ, CYCLES_PER_TICK, EPOCH_NS, Clock

cycles = st.integers(0, 2**60)


def test_stands_still_alone():
    clock = Clock()
    assert (clock.cycles, clock.nanoseconds, clock.counter) == (0, 0, 0)


def test_starts_in_2026():
    start = datetime.datetime.fromtimestamp(Clock().wall_ns / 1e9, datetime.UTC)
    assert start.isoformat() == "2026-01-01T00:00:00+00:00"
    assert Clock(epoch_ns=5).wall_ns == 5


def test_a_tick_is_16_ns():
    assert (COUNTER_HZ, CYCLES_PER_TICK) == (62_500_000, 16)


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
