"""Memory that is all of a thing's state."""

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from emu.base.shared import Shared


class Thing(Shared):
    COUNTED = ("times",)
    _fields_ = (("times", ctypes.c_uint64), ("cells", ctypes.c_uint8 * 8))


def thing(times: int = 0, cells: bytes = bytes(8)) -> Thing:
    made = Thing()
    made.times, made.cells[:] = times, cells
    return made


@given(st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8))
def test_its_bytes_are_its_state(times, cells):
    first, second = thing(times, cells), thing()
    assert len(first.state) == ctypes.sizeof(Thing)
    second.state = first.state
    assert (second.times, bytes(second.cells)) == (times, cells)


@given(st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8))
def test_a_reset_keeps_what_was_counted(times, cells):
    made = thing(times, cells)
    made.clear()
    assert made.state == thing(times).state
