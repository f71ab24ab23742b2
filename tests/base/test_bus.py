"""Places in the map of QEMU's virt machine, and what is missing there."""

from __future__ import annotations

import itertools

import pytest

from emu.base import bus
from emu.base.bus import Place, absent_device

UART = Place("UART", 0x0900_0000, 0x1000)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x0800_0000, None),
        (0x0802_0000, "GICv2m frame"),
        (0x0902_0017, "fw_cfg"),
        (0x0902_0018, None),
        (0x0900_0000, None),
        (0x4000_0000, None),
    ],
)
def test_absent_device(address, name):
    assert absent_device(address) == name


def test_places_do_not_overlap_and_lie_below_ram():
    places = sorted((*bus.FLASH, *bus.ABSENT), key=lambda place: place.base)
    assert all(low.base + low.size <= high.base for low, high in itertools.pairwise(places))
    assert places[-1].base + places[-1].size <= bus.RAM_BASE


def test_membership_is_by_address():
    assert 0x0900_0FFF in UART
    assert 0x0900_1000 not in UART
    assert "UART" not in UART


@pytest.mark.parametrize(
    ("base", "size", "overlaps"),
    [(0x0900_0000, 1, True), (0x0900_0FFF, 9, True), (0x0900_1000, 9, False),
     (0x08FF_FFFF, 1, False), (0x08FF_FFFF, 2, True), (0, 1 << 32, True)],
)  # fmt: skip
def test_places_that_share_an_address(base, size, overlaps):
    other = Place("other", base, size)
    assert UART.overlaps(other) is other.overlaps(UART) is overlaps
