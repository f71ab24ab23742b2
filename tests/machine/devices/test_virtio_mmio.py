"""The empty virtio-mmio slots: what a driver reads first, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.state import from_state, to_state
from emu.machine.devices.virtio_mmio import PLACE as VIRTIO_MMIO
from emu.machine.devices.virtio_mmio import SLOT, State, VirtioSlots

SLOTS = 32  # qemu v7.2 include/hw/arm/virt.h: NUM_VIRTIO_TRANSPORTS


@pytest.mark.parametrize("slot", [0, 1, SLOTS - 1])
def test_what_a_driver_asks_first(slot):
    """In the order of virtio 1.1 §4.2.3.1.1."""
    device = VirtioSlots()
    magic, version, device_id, vendor = (device.read(slot * SLOT + n, 4) for n in (0, 4, 8, 12))
    assert magic.to_bytes(4, "little") == b"virt"
    assert (version, device_id) == (1, 0)
    assert vendor.to_bytes(4, "little") == b"QEMU"


def test_the_place_holds_them_all():
    assert (VIRTIO_MMIO.base, VIRTIO_MMIO.size) == (0x0A00_0000, SLOTS * SLOT)


@given(st.integers(0, SLOTS * SLOT - 1), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1))
def test_nothing_else_answers_and_nothing_changes(offset, width, value):
    device = VirtioSlots()
    before = device.read(offset, width)
    device.write(offset, width, value)
    assert device.read(offset, width) == before
    assert before == 0 or offset % SLOT in (0, 4, 12)
    device.restore(from_state(State, to_state(device.state)))
    device.restore(None)
