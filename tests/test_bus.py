"""The addresses of QEMU's virt machine, and what is missing there."""

from __future__ import annotations

import itertools

import pytest

from emu import bus
from emu.bus import Place, absent_device


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x0800_0000, "GICv3 distributor"),
        (0x0800_FFFF, "GICv3 distributor"),
        (0x0801_0000, None),
        (0x080A_0000, "GICv3 redistributor"),
        (0x0900_0000, None),
        (0x4000_0000, None),
    ],
)
def test_absent_device(address, name):
    assert absent_device(address) == name


def test_places_do_not_overlap_and_lie_below_ram():
    places = sorted((v for v in vars(bus).values() if isinstance(v, Place)), key=lambda p: p.base)
    assert len(places) >= 4
    assert all(low.base + low.size <= high.base for low, high in itertools.pairwise(places))
    assert places[-1].base + places[-1].size <= bus.RAM_BASE


def test_membership_is_by_address():
    assert 0x0900_0FFF in bus.PL011
    assert 0x0900_1000 not in bus.PL011
    assert "PL011" not in bus.PL011
