"""Where an image may lie, and what is said when it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import BootError
from emu.images.image import MIB, Ram, Segment, Wish, align_up, check_entry, check_layout

RAM = Ram()
BASE = RAM.base
WISH = Wish("image", RAM, None, None)


def test_ram_of_the_virt_machine():
    assert (RAM.base, RAM.size, RAM.end) == (0x4000_0000, 64 * MIB, 0x4400_0000)


@given(st.integers(0, 2**64), st.sampled_from([1, 8, 4096, 2 * MIB]))
def test_align_up(address, step):
    up = align_up(address, step)
    assert up % step == 0
    assert 0 <= up - address < step


def test_layout_is_sorted():
    low, high = Segment(BASE, b"", 8), Segment(BASE + 8, b"x", 8)
    assert check_layout([high, low], WISH) == (low, high)
    assert high.end == BASE + 16


@pytest.mark.parametrize(
    ("start", "size", "load", "says"),
    [
        (BASE - 16, 8, None, "0x10 bytes below RAM .*relink it into RAM"),
        (BASE - 16, 8, 1, "0x10 bytes below RAM .*choose another --load"),
        (BASE, 64 * MIB + 1, None, "0x1 bytes beyond RAM .*use --mem 65M"),
        (BASE, 1 << 40, None, "beyond RAM .*relink"),
        (BASE, 1 << 40, 1, "beyond RAM .*choose another --load"),
    ],
)
def test_outside_ram(start, size, load, says):
    with pytest.raises(BootError, match=f"^image: segment .*{says}"):
        check_layout([Segment(start, b"", size)], WISH._replace(load=load))


def test_overlap():
    with pytest.raises(BootError, match="0x40000000 and 0x40000004 overlap"):
        check_layout([Segment(BASE + 4, b"", 8), Segment(BASE, b"", 8)], WISH)


SEGMENTS = (Segment(BASE, b"", 8), Segment(BASE + 0x1000, b"", 8))


@pytest.mark.parametrize("entry", [BASE, BASE + 4, BASE + 0x1000])
def test_entry(entry):
    assert check_entry(entry, SEGMENTS, WISH) == entry


@pytest.mark.parametrize(
    ("entry", "says"), [(BASE + 8, "outside the image"), (0, "outside"), (BASE + 2, "of 4")]
)
def test_entry_refused(entry, says):
    with pytest.raises(BootError, match=says):
        check_entry(entry, SEGMENTS, WISH)


def test_entry_option_may_be_anywhere_in_ram():
    assert check_entry(0, SEGMENTS, WISH._replace(entry=BASE + 0x2000)) == BASE + 0x2000
    with pytest.raises(BootError, match=r"--entry .* beyond RAM"):
        check_entry(BASE, SEGMENTS, WISH._replace(entry=RAM.end))
