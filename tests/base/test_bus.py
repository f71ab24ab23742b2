"""The addresses of QEMU's virt machine, and what is missing there."""

from __future__ import annotations

import itertools

import pytest

from emu.base import bus
from emu.base.bus import Place, absent_device


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
    named = (value for value in vars(bus).values() if isinstance(value, Place))
    places = sorted((*named, *bus.ABSENT), key=lambda place: place.base)
    assert len(places) >= 4
    assert all(low.base + low.size <= high.base for low, high in itertools.pairwise(places))
    assert places[-1].base + places[-1].size <= bus.RAM_BASE


def test_membership_is_by_address():
    assert 0x0900_0FFF in bus.PL011
    assert 0x0900_1000 not in bus.PL011
    assert "PL011" not in bus.PL011
