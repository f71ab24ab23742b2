"""The virtio-mmio slots of QEMU's virt machine, with no device in any of them.

A guest that knows the machine reaches for them without asking the device tree: they answer that
they are what they are and hold device 0, which is "no device" (virtio 1.1 §4.2.2.1: MagicValue,
Version and DeviceID are read first, and 0 has the driver leave the rest alone). All else reads
as zero and ignores writes, and the version is the legacy one (qemu v7.2
hw/virtio/virtio-mmio.c:virtio_mmio_read and virtio_mmio_properties, force-legacy).

Not modelled: a device. The device tree names no slot, so that no guest spends time on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from emu.base.bus import Place
from emu.machine.device import BoardDevice

PLACE = Place("virtio-mmio slots", 0x0A00_0000, 32 * 0x200)
"""qemu v7.2 hw/arm/virt.c: base_memmap[VIRT_MMIO], NUM_VIRTIO_TRANSPORTS."""
SLOT = 0x200
"""Bytes of a slot (qemu v7.2 hw/arm/virt.c: base_memmap[VIRT_MMIO])."""
MAGIC_VALUE, VERSION, DEVICE_ID, VENDOR_ID = range(0, 0x10, 4)
MAGIC = 0x7472_6976
""""virt" (virtio 1.1 §4.2.2)."""
LEGACY = 1
VENDOR = 0x554D_4551
""""QEMU" (qemu v7.2 hw/virtio/virtio-mmio.c:VIRT_VENDOR)."""
_ANSWERS = {MAGIC_VALUE: MAGIC, VERSION: LEGACY, VENDOR_ID: VENDOR}


@dataclass(slots=True)
class State:
    """There is none."""


class VirtioSlots(BoardDevice):
    """All slots, side by side."""

    name = "virtio"
    places = (PLACE,)
    State = State

    def read(self, offset: int, width: int) -> int:
        return _ANSWERS.get(offset % SLOT, 0)

    def write(self, offset: int, width: int, value: int) -> None:
        """Ignored."""
